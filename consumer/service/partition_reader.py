"""What is read of one partition: where the next batch starts, and how far the one that is gathered goes."""

from collections.abc import Sequence
from dataclasses import dataclass

from consumer.model import OffsetUpdate
from consumer.service.leases import PartitionLease


@dataclass(slots=True)
class PartitionReader:
    """One partition that is ours, as the batch builder knows it."""

    lease: PartitionLease
    expected: int | None
    """Where the next batch starts: the stored ``next_offset`` once the batch before is committed."""
    next_offset: int | None
    stream_time_ms: int
    leader_epoch: int | None = None
    """Of the last message that was read."""
    at_end: bool = False
    tried_until: int = 0
    """Messages below this offset were tried, and are read here."""

    @property
    def trial(self) -> PartitionLease:
        """The lease of a child process that goes on from here."""
        return self.lease._replace(
            next_offset=self.expected,
            stream_time_ms=self.stream_time_ms,
            leader_epoch=self.leader_epoch,
            trial_until=0,
        )

    def is_untried(self, offset: int) -> bool:
        """Whether a message is to be tried before it is read here."""
        return self.tried_until <= offset < self.lease.trial_until

    @property
    def rereads(self) -> bool:
        """Whether the next batch starts at or before a message that has an open dead letter."""
        return self.lease.dead_letters_until is not None and (self.expected or 0) <= self.lease.dead_letters_until

    def advance_clock(self, timestamp_ms: int, latest_ms: int) -> bool:
        """Take in a message's time up to the latest that is believed, both UTC ms; return whether it was later."""
        self.stream_time_ms = max(self.stream_time_ms, min(timestamp_ms, latest_ms))
        return timestamp_ms > latest_ms

    @property
    def offset_update(self) -> OffsetUpdate:
        """The partition's part of the fence, as far as was gathered."""
        return OffsetUpdate(
            self.lease.partition,
            self.lease.offset_id,
            self.lease.epoch,
            self.expected,
            self.next_offset,
            self.stream_time_ms,
            self.leader_epoch,
        )


def offset_updates(readers: Sequence[PartitionReader]) -> tuple[OffsetUpdate, ...]:
    """Return the fence of partitions, in the order of their rows."""
    return tuple(each.offset_update for each in sorted(readers, key=lambda each: each.lease.offset_id))
