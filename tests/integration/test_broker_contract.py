"""What the product relies on in a broker, on Apache Kafka and on the mock cluster alike.

The suite speaks to confluent_kafka itself: it is about the brokers, so that a test of the product that passes on one of
them means something for the other.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from tests.support.brokers import Broker
from tests.support.waiting import give_up_at

PARTITIONS = 4
_TIMEOUT_S = 30.0


@pytest.fixture
def topic(broker: Broker) -> str:
    """Make an empty topic of four partitions."""
    name = f"contract-{uuid.uuid4().hex[:12]}"
    broker.create_topic(name, PARTITIONS)
    return name


@contextmanager
def consuming(broker: Broker, group: str = "unused", **settings: object) -> Iterator[Consumer]:
    """Give a consumer with the product's settings: it commits nothing by itself and never resets a position."""
    consumer = Consumer(
        {
            "bootstrap.servers": broker.bootstrap,
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 500,
            "log_level": 0,
            **settings,
        }
    )
    try:
        yield consumer
    finally:
        consumer.close()


def produce(broker: Broker, topic: str, count: int, *, partition: int = 0, first_ms: int = 1_700_000_000_000) -> None:
    """Send ``count`` messages to one partition; message i has the key ``k<i>`` and the time ``first_ms + i``."""
    producer = Producer({"bootstrap.servers": broker.bootstrap, "enable.idempotence": True, "log_level": 0})
    for number in range(count):
        value, key = f"v{number}".encode(), f"k{number}".encode()
        producer.produce(topic, value, key, partition=partition, timestamp=first_ms + number)
    assert producer.flush(_TIMEOUT_S) == 0


def read(consumer: Consumer, count: int) -> tuple[list[Message], list[Message]]:
    """Poll until ``count`` messages came; return them, and the ends of partitions met on the way."""
    messages: list[Message] = []
    ends: list[Message] = []
    deadline = give_up_at(_TIMEOUT_S)
    while len(messages) < count:
        assert time.monotonic() < deadline, f"{len(messages)} of {count} messages in {_TIMEOUT_S} s"
        message = consumer.poll(0.1)
        if message is None:
            continue
        error = message.error()
        if error is None:
            messages.append(message)
        elif error.code() == KafkaError._PARTITION_EOF:
            ends.append(message)
        else:
            raise KafkaException(error)
    return messages, ends


def poll_until(consumers: list[Consumer], condition: Callable[[], bool]) -> None:
    """Serve all consumers until the condition holds."""
    deadline = give_up_at(_TIMEOUT_S)
    while not condition():
        assert time.monotonic() < deadline, f"not within {_TIMEOUT_S} s"
        for consumer in consumers:
            consumer.poll(0.05)


class Member:
    """One member of a group that assigns by hand, as the product does: what it was given, what was taken."""

    def __init__(self, consumer: Consumer, topic: str, start: int = OFFSET_BEGINNING) -> None:
        self.consumer = consumer
        self.owned: set[int] = set()
        self.revoked: set[int] = set()
        self._start = start
        consumer.subscribe([topic], on_assign=self._on_assign, on_revoke=self._on_revoke)

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        at = [TopicPartition(partition.topic, partition.partition, self._start) for partition in partitions]
        consumer.incremental_assign(at)
        self.owned |= {partition.partition for partition in partitions}

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.incremental_unassign(partitions)
        gone = {partition.partition for partition in partitions}
        self.owned -= gone
        self.revoked |= gone


def test_a_partition_keeps_order_keys_values_and_times(broker: Broker, topic: str) -> None:
    produce(broker, topic, 100)
    with consuming(broker) as consumer:
        consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        messages, _ = read(consumer, 100)
    assert [message.value() for message in messages] == [f"v{number}".encode() for number in range(100)]
    assert [message.key() for message in messages] == [f"k{number}".encode() for number in range(100)]
    assert [message.timestamp()[1] for message in messages] == [1_700_000_000_000 + number for number in range(100)]


def test_offsets_have_no_gaps(broker: Broker, topic: str) -> None:
    for _ in range(3):  # several producers and batches
        produce(broker, topic, 20)
    with consuming(broker) as consumer:
        consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        messages, _ = read(consumer, 60)
    assert [message.offset() for message in messages] == list(range(60))


def test_an_absent_value_is_told_from_an_empty_one(broker: Broker, topic: str) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    producer.produce(topic, None, b"absent", partition=0)
    producer.produce(topic, b"", b"empty", partition=0)
    assert producer.flush(_TIMEOUT_S) == 0
    with consuming(broker) as consumer:
        consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        messages, _ = read(consumer, 2)
    assert [message.value() for message in messages] == [None, b""]


def test_a_message_of_900_kb_passes(broker: Broker, topic: str) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    producer.produce(topic, b"x" * 900_000, partition=0)
    assert producer.flush(_TIMEOUT_S) == 0
    with consuming(broker) as consumer:
        consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        messages, _ = read(consumer, 1)
    assert len(messages[0].value() or b"") == 900_000


def test_watermarks_count_what_was_produced(broker: Broker, topic: str) -> None:
    produce(broker, topic, 7, partition=2)
    with consuming(broker) as consumer:
        assert consumer.get_watermark_offsets(TopicPartition(topic, 2), timeout=_TIMEOUT_S) == (0, 7)
        assert consumer.get_watermark_offsets(TopicPartition(topic, 3), timeout=_TIMEOUT_S) == (0, 0)


def test_equal_keys_share_a_partition(broker: Broker, topic: str) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap, "partitioner": "murmur2_random", "log_level": 0})
    for number in range(40):
        producer.produce(topic, b"v", f"LSSTCam/{number % 10}".encode())
    assert producer.flush(_TIMEOUT_S) == 0
    with consuming(broker) as consumer:
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(PARTITIONS)])
        messages, _ = read(consumer, 40)
    assert len({(message.key(), message.partition()) for message in messages}) == 10
    assert len({message.partition() for message in messages}) > 1


def test_the_end_of_a_partition_is_told_with_its_offset(broker: Broker, topic: str) -> None:
    produce(broker, topic, 5)
    with consuming(broker) as consumer:
        consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        ends: list[Message] = []
        deadline = give_up_at(_TIMEOUT_S)
        while not ends:
            assert time.monotonic() < deadline
            message = consumer.poll(0.1)
            error = None if message is None else message.error()
            if message is not None and error is not None and error.code() == KafkaError._PARTITION_EOF:
                ends.append(message)
    assert (ends[0].topic(), ends[0].partition(), ends[0].offset()) == (topic, 0, 5)


def test_a_position_outside_the_log_is_an_error_and_never_a_reset(broker: Broker, topic: str) -> None:
    produce(broker, topic, 3)
    with consuming(broker) as consumer:
        consumer.assign([TopicPartition(topic, 0, 1000)])
        with pytest.raises(KafkaException) as caught:
            read(consumer, 1)
    assert caught.value.args[0].code() == KafkaError._AUTO_OFFSET_RESET


def test_a_group_gives_out_all_partitions_and_reads_from_the_given_offset(broker: Broker, topic: str) -> None:
    for partition in range(PARTITIONS):
        produce(broker, topic, 10, partition=partition)
    with consuming(broker, group=topic) as consumer:
        member = Member(consumer, topic, start=6)
        messages, _ = read(consumer, 4 * PARTITIONS)
        assert member.owned == set(range(PARTITIONS))
    assert {message.offset() for message in messages} == {6, 7, 8, 9}


def test_a_second_member_takes_half_and_gives_it_back(broker: Broker, topic: str) -> None:
    with consuming(broker, group=topic) as one:
        first = Member(one, topic)
        poll_until([one], lambda: first.owned == set(range(PARTITIONS)))
        with consuming(broker, group=topic) as two:
            second = Member(two, topic)
            poll_until([one, two], lambda: len(first.owned) == len(second.owned) == PARTITIONS // 2)
            assert first.owned | second.owned == set(range(PARTITIONS))
            # Cooperative: what the first member keeps was never taken from it
            assert not first.revoked & first.owned
        poll_until([one], lambda: first.owned == set(range(PARTITIONS)))


def test_a_committed_position_is_read_by_another_client(broker: Broker, topic: str) -> None:
    produce(broker, topic, 10)
    with consuming(broker, group=topic) as consumer:
        member = Member(consumer, topic)
        poll_until([consumer], lambda: 0 in member.owned)
        consumer.commit(offsets=[TopicPartition(topic, 0, 4)], asynchronous=False)
    with consuming(broker, group=topic) as tool:
        committed = tool.committed([TopicPartition(topic, 0), TopicPartition(topic, 1)], timeout=_TIMEOUT_S)
    assert committed[0].offset == 4
    assert committed[1].offset < 0


def test_a_paused_partition_delivers_nothing_and_goes_on_where_it_was(broker: Broker, topic: str) -> None:
    produce(broker, topic, 10)
    with consuming(broker) as consumer:
        consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        before, _ = read(consumer, 4)
        consumer.pause([TopicPartition(topic, 0)])
        held = [consumer.poll(0.1) for _ in range(5)]
        consumer.resume([TopicPartition(topic, 0)])
        after, _ = read(consumer, 6)
    assert all(message is None or message.error() for message in held)
    assert [message.offset() for message in before + after] == list(range(10))
