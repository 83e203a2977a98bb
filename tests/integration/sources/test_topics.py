"""The topics of emitters on real brokers: delivery, whole topics, and a group that reads notifications."""

import time
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]  # not in its __all__

from consumer.errors import ConfigurationError, TransientError
from consumer.kafka.delivery import DeliveringProducer
from consumer.kafka.notification_consumer import NotificationConsumer, ReceivedNotification
from consumer.kafka.properties import Properties
from consumer.kafka.whole_topic import create_missing, read_topic
from tests.support.brokers import Broker
from tests.support.kafka_broker import KafkaCluster
from tests.support.service import Wire, produce
from tests.support.waiting import give_up_at


@pytest.fixture
def topic(broker: Broker) -> str:
    name = f"objects-{uuid4()}"
    broker.create_topic(name)
    return name


def properties(broker: Broker) -> Properties:
    return {"bootstrap.servers": broker.bootstrap, "topic.metadata.refresh.interval.ms": 500}


def poll_until(producer: DeliveringProducer, condition: Callable[[], bool], timeout_s: float = 20) -> None:
    end_s = give_up_at(timeout_s)
    while not condition():
        assert time.monotonic() < end_s
        producer.poll(0.05)


def test_what_is_reported_is_in_the_topic_in_the_order_of_its_key(broker: Broker, topic: str) -> None:
    producer = DeliveringProducer(properties(broker))
    delivered: list[int] = []
    for number in range(200):
        value = None if number == 150 else b"%d" % number
        producer.send(topic, b"k%d" % (number % 5), value, lambda number=number: delivered.append(number))  # type: ignore[misc]
    assert producer.undelivered == 200
    poll_until(producer, lambda: producer.undelivered == 0)
    assert sorted(delivered) == list(range(200))
    stored = list(read_topic(properties(broker), topic))
    for key in range(5):
        values = [each.value for each in stored if each.key == b"k%d" % key]
        assert values == [None if n == 150 else b"%d" % n for n in range(key, 200, 5)]


def test_an_empty_topic_holds_nothing(broker: Broker, topic: str) -> None:
    assert list(read_topic(properties(broker), topic)) == []


def test_brokers_that_do_not_answer_are_away_and_nothing_is_reported() -> None:
    producer = DeliveringProducer({"bootstrap.servers": "127.0.0.1:1", "log_level": 0})
    delivered: list[bool] = []
    producer.send("raw-ingested", b"k", b"v", lambda: delivered.append(True))
    assert not producer.away
    poll_until(producer, lambda: producer.away)
    assert "127.0.0.1:1" in (producer.last_error or "")
    assert not delivered


def test_a_message_that_the_brokers_refuse_is_sent_again(broker: Broker, topic: str) -> None:
    producer = DeliveringProducer(properties(broker) | {"message.max.bytes": 1000})
    delivered: list[str] = []
    producer.send(topic, b"k", b"x" * 2000, lambda: delivered.append("too large"))
    producer.send(topic, b"k", b"v", lambda: delivered.append("good"))
    poll_until(producer, lambda: producer.errors > 1 and len(delivered) > 0)
    assert delivered == ["good"]
    assert producer.undelivered == 1


def test_a_topic_that_cannot_be_read_is_named() -> None:
    with pytest.raises(TransientError, match="raw-waiting"):
        list(read_topic({"bootstrap.servers": "127.0.0.1:1", "log_level": 0, "socket.timeout.ms": 1000}, "raw-waiting"))


@pytest.mark.kafka
def test_a_missing_topic_is_created_compacted_and_one_that_exists_stays(kafka: KafkaCluster) -> None:
    name = f"waiting-{uuid4()}"
    connection: Properties = {"bootstrap.servers": kafka.bootstrap}
    for _ in range(2):
        create_missing(connection, {name: {"cleanup.policy": "compact"}})
    resource = ConfigResource(ConfigResource.Type.TOPIC, name)
    admin = AdminClient(connection)
    ((_, config),) = admin.describe_configs([resource]).items()
    assert config.result()["cleanup.policy"].value == "compact"
    with pytest.raises(ConfigurationError, match="nonsense"):
        create_missing(connection, {f"other-{uuid4()}": {"cleanup.policy": "nonsense"}})


class Group:
    """One member, and what it has read."""

    def __init__(self, broker: Broker, topic: str, group: str) -> None:
        self.consumer = NotificationConsumer(properties(broker), topic, group, session_timeout_s=6)
        self.received: list[ReceivedNotification] = []

    def read(self, number: int, timeout_s: float = 30) -> None:
        end_s = give_up_at(timeout_s)
        while len(self.received) < number and time.monotonic() < end_s:
            self.received += self.consumer.poll(100, 0.1)
        assert len(self.received) == number


@pytest.fixture
def group(broker: Broker, topic: str) -> Iterator[Group]:
    member = Group(broker, topic, f"group-{uuid4()}")
    yield member
    member.consumer.close()


def test_what_is_not_acknowledged_is_read_again_by_the_next_process(broker: Broker, topic: str) -> None:
    produce(broker.bootstrap, [Wire(b"%d" % n, partition=n % 2) for n in range(10)], topic)
    name = f"group-{uuid4()}"
    first = Group(broker, topic, name)
    first.read(10)
    held = next(each for each in first.received if each.value == b"4")
    for each in first.received:
        if each is not held:
            first.consumer.acknowledge(each)
    first.consumer.close()
    second = Group(broker, topic, name)
    second.read(3)  # of its partition, what came after it too
    second.consumer.close()
    assert [each.value for each in second.received] == [b"4", b"6", b"8"]


def test_a_member_that_is_paused_reads_nothing_and_goes_on_later(broker: Broker, topic: str, group: Group) -> None:
    produce(broker.bootstrap, [Wire(b"first", partition=0)], topic)
    group.read(1)
    group.consumer.pause(paused=True)
    produce(broker.bootstrap, [Wire(b"second", partition=0)], topic)
    for _ in range(10):
        assert group.consumer.poll(100, 0.1) == []
    group.consumer.pause(paused=False)
    group.read(2)
