"""``status`` tells the truth about a service in each kind of trouble."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from click.testing import CliRunner

from consumer.cli import main
from consumer.kafka.mock_cluster import EmbeddedBroker
from tests.support.brokers import MockBroker
from tests.support.commands import invoke
from tests.support.exposures import exposure, run_of
from tests.support.service import Replica, Wire, produce, raws_of, settings_for
from tests.support.waiting import give_up_at

INSTRUMENTS = {"LSSTComCam": {"group_exposures": "one-to-one-and-by-counter"}}


def look(dsn: str) -> dict[str, Any]:
    result = CliRunner().invoke(main, ["status", "--dsn", dsn, "--output", "json"])
    found: dict[str, Any] = json.loads(result.stdout)
    assert result.exit_code == (1 if found["problems"] else 0)
    return found


def until(dsn: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Look until it holds; two seconds are meant, and a loaded machine may take longer."""
    end_s = give_up_at(30)
    while not holds(found := look(dsn)):
        assert time.monotonic() < end_s, found
        time.sleep(0.1)
    return found


def lives(found: dict[str, Any]) -> list[str]:
    return [each["life"] for each in found["replicas"]]


class Stage(NamedTuple):
    """A service that has read one exposure and waits for a second."""

    replica: Replica
    dsn: str
    bootstrap: str
    topic: str


@pytest.fixture
def stage(mock_broker: MockBroker, dsn: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Give a running service."""
    topic = request.node.name
    mock_broker.create_topic(topic)
    settings = settings_for(
        mock_broker.bootstrap, dsn, kafka={"topics": [topic], "group": topic}, instruments=INSTRUMENTS
    )
    first, second = run_of(1, 2)
    with Replica(tmp_path, settings) as replica:
        replica.wait_ready()
        raws = raws_of([exposure(7), first], range(9))
        produce(mock_broker.bootstrap, [each._replace(partition=0) for each in raws], topic)
        until(dsn, lambda found: bool(found["open_groups"]) and not found["problems"])
        assert second.seq_num is not None
        yield Stage(replica, dsn, mock_broker.bootstrap, topic)


def test_all_is_well(stage: Stage) -> None:
    found = until(stage.dsn, lambda one: one["partitions"][0]["lag"] == 0)
    assert found["problems"] == []
    (replica,) = found["replicas"]
    assert replica["owner"].endswith(f":{stage.replica.pid}")
    assert (replica["life"], replica["state"], replica["consumer_group"]) == ("alive", "running", stage.topic)
    where = found["partitions"][0]
    assert (where["topic"], where["partition"], where["next_offset"], where["state"]) == (stage.topic, 0, 18, "reading")
    assert where["reader"] == replica["owner"]
    (group,) = found["open_groups"]
    assert (group[0], group[2], group[3]) == ("LSSTComCam", 1, "seq_num 2")
    assert [each[1:] for each in found["tonight"]] == [["LSSTComCam", exposure(1).physical_filter, 2, 2]]
    assert len(found["last_visits"]) == 2
    text = invoke("status", "--dsn", stage.dsn).stdout
    assert "all is well" in text
    assert "seq_num 2" in text
    # What ended orderly is no replica any more.
    code, _ = stage.replica.terminate()
    assert code == 0
    assert look(stage.dsn)["replicas"] == []
    assert "no replica is alive" in look(stage.dsn)["problems"]


def test_a_frozen_and_a_killed_replica(stage: Stage) -> None:
    stage.replica.signal(signal.SIGSTOP)
    found = until(stage.dsn, lambda one: lives(one) == ["frozen"])
    assert any("frozen" in each for each in found["problems"])
    assert "no replica is alive" in found["problems"]
    assert found["partitions"][0]["state"] == "unread"
    stage.replica.signal(signal.SIGCONT)
    until(stage.dsn, lambda one: lives(one) == ["alive"] and not one["problems"])
    stage.replica.kill()
    found = until(stage.dsn, lambda one: lives(one) == ["dead"])
    assert any("died" in each for each in found["problems"])


def test_a_partition_that_is_refused(mock_broker: MockBroker, dsn: str, tmp_path: Path) -> None:
    topic = "refused-status"
    mock_broker.create_topic(topic)
    settings = settings_for(mock_broker.bootstrap, dsn, kafka={"topics": [topic], "group": topic})
    with Replica(tmp_path, settings) as replica:
        replica.wait_ready()
        until(dsn, lambda one: len(one["partitions"]) > 0)
        replica.kill()
        # The log ends before the stored position: it is another one than was read.
        with psycopg.connect(dsn) as connection:
            connection.execute("UPDATE visits.consumer_offset SET next_offset = 100 WHERE partition = 0")
        replica.start()

        def refused(one: dict[str, Any]) -> bool:
            return any(each.startswith("replica") and f"{topic}[0]" in each for each in one["problems"])

        found = until(dsn, refused)
        assert found["partitions"][0]["state"] == "stalled"
        assert found["partitions"][0]["detail"]


def test_brokers_that_are_away(dsn: str, tmp_path: Path) -> None:
    topic = "brokers-away"
    with ExitStack() as ends:
        with EmbeddedBroker() as host:
            host.create_topic(topic)
            settings = settings_for(host.bootstrap, dsn, kafka={"topics": [topic], "group": topic})
            replica = ends.enter_context(Replica(tmp_path, settings))
            replica.wait_ready()
            until(dsn, lambda one: lives(one) == ["alive"] and not one["problems"])
        found = until(dsn, lambda one: any("Kafka: " in each for each in one["problems"]))
        assert lives(found) == ["alive"]


def test_the_circuit_breaker(stage: Stage) -> None:
    bad = [Wire(b"no event %d" % number, partition=0) for number in range(300)]
    produce(stage.bootstrap, bad, stage.topic)
    found = until(stage.dsn, lambda one: any("circuit breaker" in each for each in one["problems"]))
    assert found["partitions"][0]["state"] == "stopped"


def test_a_database_that_is_read_only_and_one_that_is_away(stage: Stage) -> None:
    name = psycopg.conninfo.conninfo_to_dict(stage.dsn)["dbname"]
    with psycopg.connect(stage.dsn, autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on".encode())
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        found = until(stage.dsn, lambda one: lives(one) == ["unknown"])
        assert found["read_only"]
        assert found["problems"][0] == "the database is read only: nothing is stored"
        admin.execute("SET default_transaction_read_only = off")
        admin.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only".encode())
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    until(stage.dsn, lambda one: lives(one) == ["alive"] and not one["problems"])
    away = invoke("status", "--dsn", "host=127.0.0.1 port=1 dbname=visits", exit_code=2)
    assert "no connection" in away.stderr


def test_an_empty_database_and_a_schema_without_heartbeats(dsn: str) -> None:
    assert look(dsn)["problems"] == ["no replica is alive"]
    with psycopg.connect(dsn) as connection:
        connection.execute("DROP TABLE visits.replica")
    assert any("has no heartbeats" in each for each in look(dsn)["problems"])
