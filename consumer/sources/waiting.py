"""Objects that cannot be read yet, and when each is tried again. Pure: the clock and the journal are the caller's."""

import heapq
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingObject:
    """An entry of the compacted topic ``raw-waiting``, whose key is the object's address."""

    uri: str
    tag: str
    """Of the content that was notified; see `ObjectNotice.tag`."""
    command: str
    attempts: int
    """How often it was tried."""
    since_ms: int
    """When it was tried first, UTC milliseconds since the Unix epoch."""
    next_try_ms: int
    reason: str
    detail: str
    notification: str | None
    """What named it, for the rejection that it may become."""

    def encode(self) -> bytes:
        """Return the message's value."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, value: bytes) -> Self:
        """Return the entry of a message's value.

        Raises
        ------
        ValueError
            If it is no entry, of another release perhaps.
        """
        try:
            return cls(**json.loads(value))
        except TypeError as error:
            raise ValueError(f"no entry of waiting objects: {error}") from error


class WaitingObjects:
    """All that wait, by when they are due."""

    def __init__(self) -> None:
        self._entries: dict[str, WaitingObject] = {}
        self._order: list[tuple[int, str]] = []
        """A heap; what does not agree with the entries any more is skipped."""

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: WaitingObject) -> None:
        """Add an entry, or replace that of the same object."""
        self._entries[entry.uri] = entry
        heapq.heappush(self._order, (entry.next_try_ms, entry.uri))

    def get(self, uri: str) -> WaitingObject | None:
        """Return the entry of an object; None when it does not wait."""
        return self._entries.get(uri)

    def remove(self, uri: str) -> None:
        """Forget an object, whether it waits or not."""
        self._entries.pop(uri, None)

    def due(self, now_ms: int) -> Iterator[WaitingObject]:
        """Return the entries that are due, each once, the earliest first; they wait until they are removed."""
        while self._order and self._order[0][0] <= now_ms:
            when_ms, uri = heapq.heappop(self._order)
            entry = self._entries.get(uri)
            if entry is not None and entry.next_try_ms == when_ms:
                yield entry

    def next_due_ms(self) -> int | None:
        """Return when the next one may be due; None when nothing waits."""
        return self._order[0][0] if self._order else None

    def oldest_since_ms(self) -> int | None:
        """Return when the one that waits longest was tried first; None when nothing waits."""
        return min((each.since_ms for each in self._entries.values()), default=None)
