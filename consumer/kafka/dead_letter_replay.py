"""Produces messages again, byte for byte, to the topics that they came from.

Delivery: a message that `ReplayProducer.send` does not name as failed was acknowledged by every in-sync replica.
"""

from collections.abc import Sequence
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from consumer.errors import TransientError
from consumer.kafka.clients import new_client
from consumer.kafka.properties import Properties

ORIGIN_HEADER = "visit-consumer-replay-of"
"""Header of a message that was produced again; its value is ``topic/partition/offset`` of the first one."""

_TIMEOUT_S = 30.0
_LARGEST_BYTES = 1_000_000_000
"""What librdkafka may send at most. Whether a message is too large is for the broker to say, which had it once."""


class Replay(NamedTuple):
    """One message to be produced again."""

    topic: str
    partition: int
    offset: int
    """Of the original."""
    key: bytes | None
    value: bytes | None


class ReplayProducer:
    """A producer for replays.

    Parameters
    ----------
    connection
        Properties of librdkafka; see `consumer.kafka.properties.connection_properties`.
    """

    def __init__(self, connection: Properties) -> None:
        properties: Properties = {
            **connection,
            "enable.idempotence": True,
            "message.timeout.ms": round(_TIMEOUT_S * 1000),
            "message.max.bytes": _LARGEST_BYTES,
        }
        self._producer = new_client(Producer, {**properties, "error_cb": self._on_error})
        self._complaint = "no answer"
        self._partitions: dict[str, int] = {}
        self._cluster_id: str | None = None

    def cluster_id(self) -> str:
        """Ask for the cluster's id, and for its topics.

        Raises
        ------
        TransientError
            When the brokers cannot be asked now.
        """
        if self._cluster_id is None:
            try:
                # Of all topics: asking for one by its name would create it on brokers that do so.
                cluster = self._producer.list_topics(timeout=_TIMEOUT_S / 3)
            except KafkaException as error:
                raise TransientError(f"the brokers cannot be asked: {self._complaint}") from error
            self._cluster_id = str(cluster.cluster_id or "")
            self._partitions = {name: len(topic.partitions) for name, topic in cluster.topics.items()}
        return self._cluster_id

    def send(self, messages: Sequence[Replay]) -> dict[Replay, str]:
        """Produce messages and wait until the brokers have them, or have refused them.

        Parameters
        ----------
        messages
            Each goes to its own partition, so that the raws of a group stay together; where the topic
            has no such partition any more, the key decides.

        Returns
        -------
        failed
            The messages that were not accepted, and why.

        Raises
        ------
        TransientError
            When the brokers cannot be asked at all.
        """
        self.cluster_id()
        failed: dict[Replay, str] = {}
        for each in messages:
            if each.topic not in self._partitions:
                failed[each] = f"there is no topic {each.topic}"
                continue
            self._produce(each, failed)
        left = self._producer.flush(_TIMEOUT_S)
        if left:
            raise TransientError(f"{left} messages were not acknowledged: {self._complaint}")
        return failed

    def _produce(self, each: Replay, failed: dict[Replay, str]) -> None:
        def delivered(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                failed[each] = error.str()

        partition = each.partition if each.partition < self._partitions[each.topic] else -1
        origin = f"{each.topic}/{each.partition}/{each.offset}".encode()
        try:
            self._producer.produce(
                each.topic,
                value=each.value,
                key=each.key,
                partition=partition,
                headers=[(ORIGIN_HEADER, origin)],
                on_delivery=delivered,
            )
        except KafkaException as error:
            failed[each] = error.args[0].str()
        except BufferError as error:
            raise TransientError(f"the producer's queue is full: {self._complaint}") from error

    def _on_error(self, error: KafkaError) -> None:
        self._complaint = error.str()
