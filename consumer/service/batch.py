"""What is written in one transaction, what became of it, and how it is cut in two; pure."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from consumer.domain import Event, VisitDiff
from consumer.domain.closing import Waiting
from consumer.model import CloseReason, DeadLetter, OffsetUpdate, PartitionId, SkipReason, VisitRecords
from consumer.service.region_prefetch import Prefetched

MOST_GROUPS_OF_A_TICK = 1_000
"""So many groups one tick closes at most, those that were due first; the others stay due, for the next tick. After an
outage all open groups may be due at once, which would be more than a transaction has time for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What was read since the last batch, and how far it moves the positions.

    A batch without events, and with `clocks` alone, is a tick: it closes what fell due at the end of the log.
    """

    advances: tuple[OffsetUpdate, ...]
    events: tuple[Event, ...] = ()
    """In the order in which they were read."""
    dead_letters: tuple[DeadLetter, ...] = ()
    """Messages that are no events."""
    clocks: Mapping[int, int] = field(default_factory=dict)
    """Stream time of each partition at the end of the batch, UTC milliseconds; at the end of a log, the wall clock."""
    prefetched: Prefetched = field(default_factory=dict)
    """Regions that were computed already; any of them may be missing."""

    def of(self, clocks: Collection[int]) -> "Batch | None":
        """Give the part of a tick that concerns these clocks; None where none does."""
        advances = tuple(a for a in self.advances if a.clock in clocks)
        if not advances:
            return None
        return Batch(advances=advances, clocks={a.clock: self.clocks[a.clock] for a in advances})


@dataclass(slots=True)
class BatchResult:
    """What a committed batch did, for counting and telling."""

    new: Counter[str] = field(default_factory=Counter)
    """Raws that were not known, by instrument; so are the next two."""
    repeated: Counter[str] = field(default_factory=Counter)
    contradicting: Counter[str] = field(default_factory=Counter)
    off_sky: list[tuple[str, SkipReason]] = field(default_factory=list)
    closed: list[tuple[str, CloseReason]] = field(default_factory=list)
    diff: VisitDiff = field(default_factory=VisitDiff)
    written: list[VisitRecords] = field(default_factory=list)
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
    for advance in batch.advances:
        offset = border.get(advance.partition)
        clock_ms = max((e.clock_ms for e in first if e.clock == advance.clock), default=None)
        halfway[advance.partition] = (
            advance if offset is None else advance._replace(next_offset=offset, stream_time_ms=clock_ms or 0)
        )

    def before(letter: DeadLetter) -> bool:
        message = letter.message
        return message is None or message.offset < border.get(message.partition, message.offset + 1)

    return (
        replace(
            batch,
            advances=tuple(halfway.values()),
            events=first,
            dead_letters=tuple(x for x in batch.dead_letters if before(x)),
            clocks={a.clock: a.stream_time_ms for a in halfway.values()},
        ),
        replace(
            batch,
            advances=tuple(a._replace(expected=halfway[a.partition].next_offset) for a in batch.advances),
            events=second,
            dead_letters=tuple(x for x in batch.dead_letters if not before(x)),
        ),
    )
