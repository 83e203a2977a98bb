"""Reads topics from their first message to their last, and makes those that are missing. No group, no position."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from time import monotonic
from typing import NamedTuple, cast

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # exported, but not in __all__

from consumer.errors import ConfigurationError, TransientError
from consumer.kafka.clients import new_client
from consumer.kafka.properties import Properties

_TIMEOUT_S = 10.0
_AT_ONCE = 1000


class StoredMessage(NamedTuple):
    """One message of a log."""

    key: bytes | None
    value: bytes | None
    timestamp_ms: int


def read_topic(connection: Properties, topic: str) -> Iterator[StoredMessage]:
    """Read the messages that a topic holds now; those of one key in the order in which they were written.

    Raises
    ------
    TransientError
        When the brokers do not answer for 10 s.
    """
    properties: Properties = {
        **connection,
        "group.id": "visit-consumer-reads-whole-topic",  # librdkafka wants one; it is never joined
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
    }
    with closing(new_client(Consumer, properties)) as consumer:
        try:
            partitions = consumer.list_topics(topic, timeout=_TIMEOUT_S).topics[topic].partitions
        except KafkaException as error:
            raise TransientError(f"topic {topic} cannot be read: {error.args[0].str()}") from error
        unread = set(partitions)
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in unread])
        heard_at_s = monotonic()
        while unread:
            for each in consumer.consume(_AT_ONCE, 0.1):
                heard_at_s = monotonic()
                fault = each.error()
                if fault is None:
                    yield StoredMessage(each.key(), each.value(), each.timestamp()[1])
                elif fault.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 -- the library's own name
                    unread.discard(cast("int", each.partition()))
                else:
                    raise TransientError(f"topic {topic} cannot be read: {fault.str()}")
            if monotonic() - heard_at_s > _TIMEOUT_S:
                raise TransientError(f"topic {topic} cannot be read: the brokers do not answer")


def create_missing(connection: Properties, topics: Mapping[str, Mapping[str, str]]) -> None:
    """Create topics that are missing, with the brokers' own numbers of partitions and replicas.

    Parameters
    ----------
    connection
        Properties of librdkafka.
    topics
        The settings of each, such as ``{"raw-waiting": {"cleanup.policy": "compact"}}``.

    Raises
    ------
    ConfigurationError
        When one is missing, and the brokers do not let it be created.
    TransientError
        When the brokers cannot be asked.
    """
    admin = new_client(AdminClient, connection)
    try:
        there = admin.list_topics(timeout=_TIMEOUT_S).topics
    except KafkaException as error:
        raise TransientError(f"the brokers cannot be asked for topics: {error.args[0].str()}") from error
    wanted = [NewTopic(name, config=dict(config)) for name, config in topics.items() if name not in there]
    for name, created in (admin.create_topics(wanted, request_timeout=_TIMEOUT_S) if wanted else {}).items():
        try:
            created.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                settings = ", ".join(f"{key}={value}" for key, value in topics[name].items())
                raise ConfigurationError(
                    f"topic {name} is missing, and the brokers refuse to create it ({error.args[0].str()}): "
                    f"create it, with {settings or 'no settings of its own'}"
                ) from error
