"""What is written in one transaction, what became of it, and how it is cut in two; pure."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from consumer.domain import Event, VisitDiff
from consumer.domain.closing import Waiting
from consumer.events.visit_defined import RemovedVisit
from consumer.model import CloseReason, DeadLetter, Message, OffsetUpdate, PartitionId, SkipReason, VisitRecords
from consumer.service.region_prefetch import Prefetched

MOST_GROUPS_OF_A_TICK = 1_000
"""So many groups one tick closes at most, those that were due first; the others stay due, for the next tick. After an
outage all open groups may be due at once, which would be more than a transaction has time for. A batch of events that
concerns more of them is applied in parts, after ticks that close what was due before its first event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What was read since the last batch, and how far it moves the positions.

    A batch without events, and with `stream_times_ms` alone, is a tick: it closes what fell due at the end of the log.
    """

    offset_updates: tuple[OffsetUpdate, ...]
    events: tuple[Event, ...] = ()
    """In the order in which they were read."""
    dead_letters: tuple[DeadLetter, ...] = ()
    """Messages that are no events."""
    stream_times_ms: Mapping[int, int] = field(default_factory=dict)
    """By id of the position, at the end of the batch, UTC milliseconds; at the end of a log, the wall clock."""
    rereads: bool = False
    """Whether messages are read again of which some were dead letters."""
    prefetched: Prefetched = field(default_factory=dict)
    """Regions that were computed already; any of them may be missing."""

    @property
    def oldest(self) -> Message | None:
        """The first message of the batch; None where it has none."""
        if self.events:
            return self.events[0].message
        return self.dead_letters[0].message if self.dead_letters else None

    def restricted_to(self, offset_ids: Collection[int]) -> "Batch | None":
        """Return the part of a tick that concerns these positions; None where none does."""
        updates = tuple(each for each in self.offset_updates if each.offset_id in offset_ids)
        if not updates:
            return None
        times_ms = {each.offset_id: self.stream_times_ms[each.offset_id] for each in updates}
        return Batch(offset_updates=updates, stream_times_ms=times_ms)


@dataclass(slots=True)
class BatchResult:
    """What a committed batch did, for counting and telling."""

    new: Counter[str] = field(default_factory=Counter)
    """Events that say something new, by instrument; so are the next two."""
    repeated: Counter[str] = field(default_factory=Counter)
    contradicting: Counter[str] = field(default_factory=Counter)
    off_sky: list[tuple[str, SkipReason]] = field(default_factory=list)
    closed: list[tuple[str, CloseReason]] = field(default_factory=list)
    diff: VisitDiff = field(default_factory=VisitDiff)
    written: list[VisitRecords] = field(default_factory=list)
    removed: list[RemovedVisit] = field(default_factory=list)
    bad: tuple[DeadLetter, ...] = ()
    """Dead letters of messages that are no events."""
    dead_letters: list[DeadLetter] = field(default_factory=list)
    """All of them."""
    warnings: list[str] = field(default_factory=list)
    late: Counter[str] = field(default_factory=Counter)
    """Exposures of groups that had closed before, by instrument."""
    detectors_without_region: dict[str, int] = field(default_factory=dict)
    """Detectors that were announced but have no region in the visits that were written, by instrument."""
    waiting: dict[int, Waiting] = field(default_factory=dict)
    contested: bool = False
    """Whether groups contend for a visit id or a name in a way that only smaller batches decide in the log's order."""
    group_s: float = 0.0
    """Seconds spent on merging, grouping and closing."""
    region_s: float = 0.0
    write_s: float = 0.0
    commit_s: float = 0.0
    round_trips: int = 0
    """How often an answer of the server was waited for."""


def bytes_of(messages: Iterable[Message | None]) -> int:
    """Add up the bytes of keys and values."""
    return sum(len(m.key or b"") + len(m.value or b"") for m in messages if m is not None)


def closing_before(batch: Batch) -> Batch:
    """Make the tick that closes what is due before the first event of a batch: the first step of applying it."""
    first = batch.events[0]
    (update,) = (each for each in batch.offset_updates if each.offset_id == first.offset_id)
    moved = update._replace(next_offset=update.expected, stream_time_ms=first.stream_time_ms)
    return Batch(offset_updates=(moved,), stream_times_ms={first.offset_id: first.stream_time_ms})


def bisect(batch: Batch) -> tuple[Batch, Batch]:
    """Split a batch of at least two events into two that follow each other.

    Each half moves the positions as far as its own messages go, so that the first can be committed without the second.
    """
    middle = len(batch.events) // 2
    first, second = batch.events[:middle], batch.events[middle:]
    border: dict[PartitionId, int] = {}
    for event in second:
        border.setdefault(event.message.partition, event.message.offset)
    halfway: dict[PartitionId, OffsetUpdate] = {}
    for advance in batch.offset_updates:
        offset = border.get(advance.partition)
        stream_time_ms = max((e.stream_time_ms for e in first if e.offset_id == advance.offset_id), default=None)
        halfway[advance.partition] = (
            advance if offset is None else advance._replace(next_offset=offset, stream_time_ms=stream_time_ms or 0)
        )

    def before(letter: DeadLetter) -> bool:
        message = letter.message
        return message is None or message.offset < border.get(message.partition, message.offset + 1)

    return (
        replace(
            batch,
            offset_updates=tuple(halfway.values()),
            events=first,
            dead_letters=tuple(x for x in batch.dead_letters if before(x)),
            stream_times_ms={a.offset_id: a.stream_time_ms for a in halfway.values()},
        ),
        replace(
            batch,
            offset_updates=tuple(a._replace(expected=halfway[a.partition].next_offset) for a in batch.offset_updates),
            events=second,
            dead_letters=tuple(x for x in batch.dead_letters if not before(x)),
        ),
    )
