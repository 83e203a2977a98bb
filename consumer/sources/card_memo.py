"""Remembers what was computed of a header, by the cards that were read for it.

A computation that reads only cards takes the same way, and so gives the same result, for every header that has the same
values in the cards that it read: that is how the 205 raws of an exposure share one translation, whatever a translator
reads. A card that was asked for and was absent counts as read; a walk through all keywords reads them all.
"""

from collections.abc import Callable, Iterator, MutableMapping
from typing import Final, Generic, TypeVar

from consumer.sources.model import Header, HeaderValue

Result = TypeVar("Result", bound=object)

_Way = tuple[tuple[str, ...], bool]
"""Cards that a computation reads, and whether it walks through all keywords."""
_ABSENT: Final = object()
_MAX_WAYS: Final = 64
"""Different sets of cards that computations read: a few for each translator."""


class RecordingHeader(MutableMapping[str, HeaderValue]):
    """A header that can be changed, and knows which cards were read and which were changed.

    Parameters
    ----------
    cards
        Not changed.
    """

    def __init__(self, cards: Header) -> None:
        self._cards = cards
        self.changed: dict[str, HeaderValue] = {}
        self.read: dict[str, None] = {}
        """Keywords in the order in which they were read first."""
        self.walked = False
        """Whether the keywords themselves were read."""

    def __getitem__(self, keyword: str) -> HeaderValue:
        if keyword in self.changed:
            return self.changed[keyword]
        self.read[keyword] = None
        return self._cards[keyword]

    def __contains__(self, keyword: object) -> bool:
        if keyword in self.changed:
            return True
        if isinstance(keyword, str):
            self.read[keyword] = None
        return keyword in self._cards

    def __setitem__(self, keyword: str, value: HeaderValue) -> None:
        self.changed[keyword] = value

    def __delitem__(self, keyword: str) -> None:
        self.changed[keyword] = None  # to translators, a card without a value is none

    def __iter__(self) -> Iterator[str]:
        self.walked = True
        return iter(dict.fromkeys([*self._cards, *self.changed]))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class CardMemo(Generic[Result]):
    """Computes results of headers, once for equal cards.

    Parameters
    ----------
    compute
        Depends on the header alone.
    size
        Results that are remembered for each set of cards; the oldest is forgotten first.
    """

    def __init__(self, compute: Callable[[RecordingHeader], Result], *, size: int) -> None:
        self._compute = compute
        self._size = size
        self._ways: list[tuple[_Way, dict[tuple[object, ...], Result]]] = []
        """Cards that computations read, and the results by their values; the last one used stands first."""

    def get(self, header: Header) -> Result:
        """Return the result for a header; what the computation raises is not remembered."""
        for place, (way, results) in enumerate(self._ways):
            result = results.get(_values(header, *way))
            if result is not None:
                if place:
                    self._ways.insert(0, self._ways.pop(place))
                return result
        recording = RecordingHeader(header)
        result = self._compute(recording)
        self._remember((tuple(recording.read), recording.walked), header, result)
        return result

    def _remember(self, way: _Way, header: Header, result: Result) -> None:
        results = next((results for known, results in self._ways if known == way), None)
        if results is None:
            results = {}
            self._ways.insert(0, (way, results))
            del self._ways[_MAX_WAYS:]
        if len(results) >= self._size:
            del results[next(iter(results))]
        results[_values(header, *way)] = result


def _values(header: Header, read: tuple[str, ...], walked: bool) -> tuple[object, ...]:  # our own
    values = [header.get(keyword, _ABSENT) for keyword in read]
    # 1, 1.0 and True are equal to Python, and different in a header.
    return (*values, *map(type, values), tuple(header) if walked else None)
