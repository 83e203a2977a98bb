"""The source adapter: messages with the offsets that they commit, from partitions that were claimed.

A partition is assigned by the group at one moment and read from a later one: only once its position was claimed in
PostgreSQL is it handed to librdkafka, with the offset to start from. Until then librdkafka fetches nothing of it.
Kafka's own committed offsets are a mirror for lag tools and are never read.

Delivery: each message of a started partition at least once, in order, from the given offset, until it is stopped.
"""

from collections.abc import Collection, Mapping
from typing import cast

from confluent_kafka import (
    OFFSET_INVALID,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
    libversion,
)
from confluent_kafka import Message as KafkaMessage

from consumer.errors import FatalError
from consumer.kafka.clients import new_client
from consumer.kafka.log_inspector import LogInspector
from consumer.kafka.properties import Properties
from consumer.model import PartitionId, Polled, RebalanceListener, new_message


class KafkaSource:
    """A member of the consumer group.

    Parameters
    ----------
    properties, connection
        Of librdkafka, for the member and for any other client, as `consumer.kafka.properties` makes them.
    topics
        To subscribe to.
    listener
        Hears of assignments.
    """

    def __init__(
        self, properties: Properties, connection: Properties, topics: Collection[str], listener: RebalanceListener
    ) -> None:
        self._listener = listener
        self._started: set[PartitionId] = set()
        self._ids: dict[tuple[str, int], PartitionId] = {}
        self._fatal: KafkaError | None = None
        # Questions about logs go through clients of their own: asked through the member, from the writer's thread, they
        # wait behind what the member waits for.
        self._inspector = LogInspector(connection, group=str(properties["group.id"]))
        self._joined = False
        self._paused = False
        self.last_error: str | None = None
        """What librdkafka complained of last; None when nothing since the last message."""
        self._consumer = new_client(Consumer, {**properties, "error_cb": self._on_error})
        self._consumer.subscribe(
            list(topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    @property
    def joined(self) -> bool:
        """Whether the group gave this member an assignment, even an empty one."""
        return self._joined

    def poll(self, max_messages: int, timeout_s: float) -> Polled:
        """Wait for messages, and serve the group.

        Parameters
        ----------
        max_messages
            At most so many are returned.
        timeout_s
            At most so long is waited, seconds.

        Raises
        ------
        FatalError
            When librdkafka cannot go on: the process must end.
        """
        polled = Polled()
        try:
            batch = self._consumer.consume(max_messages, timeout_s)
        except KafkaException as error:
            raise FatalError(f"Kafka client: {error.args[0].str()}") from error
        ids, messages = self._ids, polled.messages
        for each in batch:
            # A message without error is the common case; the tuple is built inline because this runs for every event.
            fault = each.error()
            if fault is None:
                where = cast("tuple[str, int]", (each.topic(), each.partition()))
                partition = ids.get(where) or self._partition(*where)
                offset = cast("int", each.offset())
                messages.append(
                    new_message((partition, offset, each.timestamp()[1], each.key(), each.value(), each.leader_epoch()))
                )
            else:
                self._take_error(polled, each, fault)
        if self._fatal is not None:
            raise FatalError(f"Kafka client: {self._fatal.str()}")
        if messages:
            self.last_error = None
        return polled

    def start(self, partition: PartitionId, offset: int) -> None:
        """Read a partition that the group assigned, from this offset; a started one starts again."""
        if partition in self._started:
            self.stop([partition])
        self._consumer.incremental_assign([TopicPartition(partition.topic, partition.partition, offset)])
        self._started.add(partition)
        # librdkafka remembers a pause beyond the assignment: a partition that was lost while it was paused, and comes
        # back, would stay silent.
        state = [TopicPartition(partition.topic, partition.partition)]
        self._consumer.pause(state) if self._paused else self._consumer.resume(state)

    def stop(self, partitions: Collection[PartitionId]) -> None:
        """Read no more of these partitions; the group still counts them as ours."""
        ours = [p for p in partitions if p in self._started]
        if ours:
            self._started.difference_update(ours)
            self._consumer.incremental_unassign(_topic_partitions(ours))

    def pause(self, partitions: Collection[PartitionId] | None = None) -> None:
        """Deliver no messages of these partitions, or of any, until `resume`, but go on serving the group."""
        self._paused = partitions is None
        self._consumer.pause(_topic_partitions(self._started if partitions is None else self._started & {*partitions}))

    def resume(self) -> None:
        """Deliver messages again."""
        self._paused = False
        self._consumer.resume(_topic_partitions(self._started))

    def high_watermark(self, partition: PartitionId) -> int | None:
        """Return the offset after the last of the log, as the last fetch reported it; None before that."""
        if partition not in self._started:
            return None
        asked = TopicPartition(partition.topic, partition.partition)
        _, high = self._consumer.get_watermark_offsets(asked, cached=True)
        return high if high >= 0 else None

    def watermarks(self, partition: PartitionId) -> tuple[int, int]:
        """Ask for the first offset of the log and the one after its last; see `LogInspector`."""
        return self._inspector.watermarks(partition)

    def ends(self, topic: str) -> dict[int, int]:
        """Ask for the offset after the last of each partition; see `LogInspector`."""
        return self._inspector.ends(topic)

    def divergence(self, partition: PartitionId, leader_epoch: int, offset: int) -> int | None:
        """Ask where the log differs from what was read of it below an offset; see `LogInspector`."""
        return self._inspector.divergence(partition, leader_epoch, offset)

    def identify(self, topic: str) -> tuple[str, str]:
        """Return the ids of the cluster and of the topic, which together name a log for good; see `LogInspector`."""
        return self._inspector.identify(topic)

    def mirror(self, positions: Mapping[PartitionId, int]) -> None:
        """Store the positions in Kafka too, without waiting, for lag tools; nothing depends on it."""
        offsets = [
            TopicPartition(p.topic, p.partition, offset) for p, offset in positions.items() if p in self._started
        ]
        if offsets:
            self._consumer.commit(offsets=offsets, asynchronous=True)

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()
        self._inspector.close()

    def _release(self, partitions: Collection[PartitionId]) -> None:
        """Stop reading partitions that go away.

        librdkafka hears of it even when that is nothing: otherwise confluent-kafka takes all of them from an assignment
        in which those that were never started do not stand, and the member fails.
        """
        ours = [p for p in partitions if p in self._started]
        self._started.difference_update(ours)
        self._consumer.incremental_unassign(_topic_partitions(ours))

    def _partition(self, topic: str, number: int) -> PartitionId:
        return self._ids.setdefault((topic, number), PartitionId(topic, number))

    def _take_error(self, polled: Polled, message: KafkaMessage, error: KafkaError) -> None:
        code = error.code()
        topic, number, offset = message.topic(), message.partition(), message.offset()
        if topic is not None and number is not None and number >= 0:
            partition = self._partition(topic, number)
            if code == KafkaError._PARTITION_EOF:  # noqa: SLF001 -- the library's own name
                if offset is not None and offset != OFFSET_INVALID:
                    polled.ends[partition] = offset
                return
            if code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):  # noqa: SLF001 -- as above
                polled.out_of_range.add(partition)
                return
        if error.fatal():
            raise FatalError(f"Kafka client: {error.str()}")
        self.last_error = error.str()

    def _on_error(self, error: KafkaError) -> None:
        self.last_error = error.str()
        if error.fatal() or error.code() == KafkaError._FATAL:  # noqa: SLF001 -- the library's own name
            self._fatal = error

    def _on_assign(self, consumer: Consumer, assigned: list[TopicPartition]) -> None:
        # Acknowledges the assignment without fetching: each partition is added once it is claimed.
        consumer.incremental_assign([])
        self._joined = True
        self._listener.assigned([self._partition(p.topic, p.partition) for p in assigned])

    def _on_revoke(self, _: Consumer, revoked: list[TopicPartition]) -> None:
        partitions = [self._partition(p.topic, p.partition) for p in revoked]
        self._listener.revoked(partitions)
        self._release(partitions)

    def _on_lost(self, _: Consumer, lost: list[TopicPartition]) -> None:
        partitions = [self._partition(p.topic, p.partition) for p in lost]
        self._joined = False
        self._listener.lost(partitions)
        self._release(partitions)


def librdkafka_version() -> str:
    """Return the version of the client library."""
    return libversion()[0]


def _topic_partitions(partitions: Collection[PartitionId]) -> list[TopicPartition]:
    return [TopicPartition(p.topic, p.partition) for p in partitions]
