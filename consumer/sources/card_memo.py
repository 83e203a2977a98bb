"""Remembers what was computed of a header, by the cards that were read for it.

A computation that reads only cards takes the same way, and so gives the same result, for every header that has the same
values in the cards that it read: that is how the 205 raws of an exposure share one translation, whatever a translator
reads. A card that was asked for and was absent counts as read; a walk through all keywords reads them all.
"""

from collections.abc import Callable, Iterator, MutableMapping
from itertools import repeat
from typing import Final, Generic, TypeVar

from consumer.sources.model import Header, HeaderValue

Result = TypeVar("Result", bound=object)
_Values = tuple[tuple[object, ...], tuple[type, ...], tuple[str, ...] | None]

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


class _Way(Generic[Result]):
    """A way through the computation: the cards that it reads, and the results by their values.

    Parameters
    ----------
    read
        Keywords.
    walked
        Whether all keywords are read.
    """

    def __init__(self, read: tuple[str, ...], *, walked: bool) -> None:
        self.cards = read, walked
        self.results: dict[_Values, Result] = {}
        self.last: tuple[_Values, Result] | None = None
        """What was found last: to compare is far cheaper than to hash texts that are new."""

    def find(self, header: Header) -> Result | None:
        values = _values(header, *self.cards)
        if self.last is not None and self.last[0] == values:
            return self.last[1]
        result = self.results.get(values)
        if result is not None:
            self.last = values, result
        return result


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
        self._ways: list[_Way[Result]] = []
        """The last one used stands first."""

    def get(self, header: Header) -> Result:
        """Return the result for a header; what the computation raises is not remembered."""
        for place, way in enumerate(self._ways):
            result = way.find(header)
            if result is not None:
                if place:
                    self._ways.insert(0, self._ways.pop(place))
                return result
        recording = RecordingHeader(header)
        result = self._compute(recording)
        self._remember(tuple(recording.read), recording.walked, header, result)
        return result

    def _remember(self, read: tuple[str, ...], walked: bool, header: Header, result: Result) -> None:
        way = next((known for known in self._ways if known.cards == (read, walked)), None)
        if way is None:
            way = _Way(read, walked=walked)
            self._ways.insert(0, way)
            del self._ways[_MAX_WAYS:]
        if len(way.results) >= self._size:
            del way.results[next(iter(way.results))]
        way.results[_values(header, read, walked)] = result


def _values(header: Header, read: tuple[str, ...], walked: bool) -> _Values:
    values = tuple(map(header.get, read, repeat(_ABSENT)))
    # 1, 1.0 and True are equal to Python, and different in a header.
    return values, tuple(map(type, values)), tuple(header) if walked else None
