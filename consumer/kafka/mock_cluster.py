"""A broker inside the process, for the demo and for tests: librdkafka's own mock cluster, all in memory.

It speaks enough of the protocol for producers, consumers and consumer groups. What it does not do:

* No topic administration: creating, deleting, extending or describing topics by an admin client times out. Topics come
  into being by producing to them or by asking for their metadata (`EmbeddedBroker.create_topic`), always with
  `PARTITIONS_PER_TOPIC` partitions; librdkafka has no setting for their number. `EmbeddedBroker.partitions` tells it.
* The first member of a consumer group waits 3 s for others before the group is formed.
* No hiding of aborted transactions, no retention, no authentication.

Nothing is durable, so no promise of delivery outlives the process.
"""

from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import ClusterMetadata  # type: ignore[attr-defined]  # exported, but not in __all__

from consumer.errors import TransientError

PARTITIONS_PER_TOPIC = 4
"""Partitions that librdkafka's mock cluster gives every topic."""
_TIMEOUT_S = 10.0


class EmbeddedBroker:
    """A mock cluster of one broker on a free port of 127.0.0.1, alive between ``with`` and its end.

    Raises
    ------
    TransientError
        By every method, when the mock cluster does not answer within 10 s.
    """

    def __init__(self) -> None:
        self._host: Producer | None = None

    def __enter__(self) -> Self:
        """Start the broker: it lives as long as the producer that hosts it."""
        self._host = Producer({"test.mock.num.brokers": 1, "log_level": 0})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the broker, and lose all messages."""
        self._host = None

    @property
    def bootstrap(self) -> str:
        """The address for ``bootstrap.servers``."""
        return ",".join(f"{node.host}:{node.port}" for node in self._metadata().brokers.values())

    @property
    def cluster_id(self) -> str:
        """The id of the cluster: another one at each start, so that each start is another log."""
        return str(self._metadata().cluster_id)

    def create_topic(self, name: str) -> None:
        """Make an empty topic of `PARTITIONS_PER_TOPIC` partitions; nothing happens when it exists."""
        self._metadata(name)

    def partitions(self, name: str) -> int:
        """Return the number of partitions of a topic, which is made by asking."""
        return len(self._metadata(name).topics[name].partitions)

    def _metadata(self, topic: str | None = None) -> ClusterMetadata:
        if self._host is None:
            raise RuntimeError("the embedded broker is used outside of its with block")
        try:
            found: ClusterMetadata = (
                self._host.list_topics(topic, timeout=_TIMEOUT_S)
                if topic
                else self._host.list_topics(timeout=_TIMEOUT_S)
            )
        except KafkaException as error:
            raise TransientError(f"the embedded broker does not answer: {error}") from error
        return found
