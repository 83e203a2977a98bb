"""Fixtures: Apache Kafka, librdkafka's mock cluster, and both in turn under one contract."""

import contextlib
import os
from collections.abc import Iterator
from typing import Protocol

import confluent_kafka
import pytest

from consumer.kafka.mock_cluster import PARTITIONS_PER_TOPIC, EmbeddedBroker
from tests.support.jars import JarsUnavailableError
from tests.support.kafka_broker import KafkaCluster
from tests.support.summary import note, note_missing_kafka


class Broker(Protocol):
    """What a test of the common contract may ask of a broker."""

    name: str
    """``apache`` or ``mock``."""
    version: str

    @property
    def bootstrap(self) -> str:
        """Its address, for ``bootstrap.servers``."""

    def create_topic(self, name: str, partitions: int = PARTITIONS_PER_TOPIC) -> None:
        """Make an empty topic. The mock cluster has topics of `PARTITIONS_PER_TOPIC` partitions only."""


class MockBroker:
    """The mock cluster of librdkafka under the contract of `Broker`."""

    name = "mock"

    def __init__(self, host: EmbeddedBroker) -> None:
        self.version = confluent_kafka.libversion()[0]
        self._host = host

    @property
    def bootstrap(self) -> str:
        """Its address, for ``bootstrap.servers``."""
        return self._host.bootstrap

    def create_topic(self, name: str, partitions: int = PARTITIONS_PER_TOPIC) -> None:
        """Make an empty topic; any other number of partitions than the one there is raises ValueError."""
        if partitions != PARTITIONS_PER_TOPIC:
            raise ValueError(f"the mock cluster has topics of {PARTITIONS_PER_TOPIC} partitions only, not {partitions}")
        self._host.create_topic(name)


@contextlib.contextmanager
def skips_without_kafka(config: pytest.Config) -> Iterator[None]:
    """Skip what needs Kafka's jars where these cannot be had; with ``REQUIRE_APACHE_KAFKA=1`` that is a failure."""
    try:
        yield
    except JarsUnavailableError as error:
        note_missing_kafka(config, str(error))
        if os.environ.get("REQUIRE_APACHE_KAFKA") == "1":
            pytest.fail(f"REQUIRE_APACHE_KAFKA=1, but: {error}")
        pytest.skip(f"no Apache Kafka: {error}")


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> Iterator[KafkaCluster]:
    """Apache Kafka with one broker, for the whole run. Tests that harm a broker make a `KafkaCluster` of their own."""
    with skips_without_kafka(request.config):
        cluster = KafkaCluster()
    with cluster:
        note(request.config, "brokers", f"Apache Kafka {cluster.version}")
        yield cluster


@pytest.fixture(scope="session")
def mock_broker(request: pytest.FixtureRequest) -> Iterator[MockBroker]:
    """Start the mock cluster of librdkafka, for the whole run."""
    with EmbeddedBroker() as host:
        broker = MockBroker(host)
        note(request.config, "brokers", f"librdkafka's mock cluster {broker.version}")
        yield broker


@pytest.fixture(scope="session", params=[pytest.param("apache", marks=pytest.mark.kafka), "mock"])
def broker(request: pytest.FixtureRequest) -> Broker:
    """Each broker in turn; what differs between them is no part of the contract."""
    found: Broker = request.getfixturevalue("kafka" if request.param == "apache" else "mock_broker")
    return found
