"""A member of the group that reads notifications; it commits an offset once all before it are acknowledged.

Delivery: at least once. What was read and not acknowledged when the process ends is read again.
"""

from collections import deque
from collections.abc import Collection
from threading import Lock
from typing import NamedTuple, cast

from confluent_kafka import Consumer, KafkaException, TopicPartition

from consumer.errors import FatalError
from consumer.kafka.clients import new_client
from consumer.kafka.properties import Properties
from consumer.model import PartitionId


class ReceivedNotification(NamedTuple):
    """One message, and the offset that its acknowledgement commits."""

    partition: PartitionId
    offset: int
    value: bytes


class OffsetTracker:
    """Which offsets of one partition are acknowledged, in any order; thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._pending: deque[int] = deque()
        self._done: set[int] = set()
        self._committable: int | None = None

    def begin(self, offset: int) -> None:
        """Note that a message was read; offsets ascend."""
        with self._lock:
            self._pending.append(offset)

    def finish(self, offset: int) -> None:
        """Note that a message was acknowledged."""
        with self._lock:
            self._done.add(offset)
            while self._pending and self._pending[0] in self._done:
                self._committable = self._pending.popleft() + 1
                self._done.discard(self._committable - 1)

    def take(self) -> int | None:
        """Return the offset to commit, or None when it is the one that was taken last."""
        with self._lock:
            offset, self._committable = self._committable, None
            return offset


class NotificationConsumer:
    """A member of the group. `acknowledge` may be called by any thread, everything else by one.

    Parameters
    ----------
    connection
        Properties of librdkafka; see `consumer.kafka.properties.connection_properties`.
    topic, group
        What to read, and under which name.
    session_timeout_s
        After so long without a sign of a member, its partitions are another's: also those of a process that was killed.
    """

    def __init__(self, connection: Properties, topic: str, group: str, *, session_timeout_s: float) -> None:
        self._trackers: dict[PartitionId, OffsetTracker] = {}
        self._paused = False
        self.joined = False
        """Whether the group gave this member an assignment, even an empty one."""
        self._consumer = new_client(
            Consumer,
            {
                **connection,
                "group.id": group,
                "session.timeout.ms": round(session_timeout_s * 1000),
                "heartbeat.interval.ms": max(round(session_timeout_s * 1000 / 5), 100),
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",  # a notification too much is harmless
                "isolation.level": "read_committed",
                "partition.assignment.strategy": "cooperative-sticky",
            },
        )
        self._consumer.subscribe([topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)

    def poll(self, max_messages: int, timeout_s: float) -> list[ReceivedNotification]:
        """Wait for messages, serve the group, and commit what was acknowledged.

        Raises
        ------
        FatalError
            When librdkafka cannot go on.
        """
        received = []
        for each in self._consumer.consume(max_messages, timeout_s):
            error = each.error()
            if error is not None:
                if error.fatal():
                    raise FatalError(f"Kafka client: {error.str()}")
                continue
            partition = PartitionId(cast("str", each.topic()), cast("int", each.partition()))
            offset = cast("int", each.offset())
            self._trackers.setdefault(partition, OffsetTracker()).begin(offset)
            received.append(ReceivedNotification(partition, offset, each.value() or b""))
        self._commit(asynchronous=True)
        return received

    def acknowledge(self, received: ReceivedNotification) -> None:
        """Note that a message needs not be read again."""
        tracker = self._trackers.get(received.partition)
        if tracker is not None:  # else another member has the partition, and reads it again
            tracker.finish(received.offset)

    def pause(self, *, paused: bool) -> None:
        """Deliver no messages, or deliver them again, and go on serving the group."""
        if paused != self._paused:
            self._paused = paused
            assigned = self._consumer.assignment()
            self._consumer.pause(assigned) if paused else self._consumer.resume(assigned)

    def close(self) -> None:
        """Commit what was acknowledged, and leave the group."""
        self._commit(asynchronous=False)
        self._consumer.close()

    def _commit(self, *, asynchronous: bool) -> None:
        offsets = [
            TopicPartition(partition.topic, partition.partition, offset)
            for partition, tracker in self._trackers.items()
            if (offset := tracker.take()) is not None
        ]
        if not offsets:
            return
        try:
            if asynchronous:
                self._consumer.commit(offsets=offsets, asynchronous=True)
            else:
                self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            # Not committed is read again; a coordinator that is away must not end the process.
            if error.args[0].fatal():
                raise FatalError(f"Kafka client: {error.args[0].str()}") from error

    def _on_assign(self, consumer: Consumer, assigned: list[TopicPartition]) -> None:
        self.joined = True
        consumer.incremental_assign(assigned)
        if self._paused:
            consumer.pause(assigned)

    def _on_revoke(self, _: Consumer, revoked: list[TopicPartition]) -> None:
        self._commit(asynchronous=False)
        self._drop(revoked)

    def _on_lost(self, _: Consumer, lost: list[TopicPartition]) -> None:
        self._drop(lost)

    def _drop(self, partitions: Collection[TopicPartition]) -> None:
        for each in partitions:
            self._trackers.pop(PartitionId(each.topic, each.partition), None)
