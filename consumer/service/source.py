"""What the loop asks of Kafka."""

from collections.abc import Collection
from typing import Protocol

from consumer.model import PartitionId, Polled
from consumer.service.leases import Log


class Source(Log, Protocol):
    """A member of the consumer group; see `consumer.kafka.source.KafkaSource`."""

    @property
    def joined(self) -> bool:
        """Whether the group gave this member an assignment."""

    @property
    def last_error(self) -> str | None:
        """What the client reported last."""

    def poll(self, max_messages: int, timeout_s: float) -> Polled:
        """Wait for messages, and serve the group."""

    def start(self, partition: PartitionId, offset: int) -> None:
        """Read a partition from an offset."""

    def stop(self, partitions: Collection[PartitionId]) -> None:
        """Read no more of these partitions."""

    def pause(self, partitions: Collection[PartitionId] | None = None) -> None:
        """Deliver nothing of these partitions, or of any, until `resume`."""

    def resume(self) -> None:
        """Deliver again."""

    def mirror(self, positions: dict[PartitionId, int]) -> None:
        """Store the positions in Kafka too, for lag tools."""

    def high_watermark(self, partition: PartitionId) -> int | None:
        """Return the offset after the last of the log as far as it is known here, without asking a broker."""

    def close(self) -> None:
        """Leave the group."""
