"""``dead-letters``: chosen, shown, produced again byte for byte, discarded."""

import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from confluent_kafka import Consumer, TopicPartition

from consumer.kafka.dead_letter_replay import ORIGIN_HEADER
from tests.support.brokers import MockBroker
from tests.support.commands import invoke, invoke_json
from tests.support.exposures import exposure
from tests.support.feeding import Feeder, raws_of
from tests.support.service import Replica, produce, settings_for
from tests.support.service import raws_of as raws_to_produce

NOON_MS = 1_793_600_000_000
INSTRUMENTS: dict[str, Any] = {"LSSTComCam": {}}
JUNK = b"junk \x00\xff"


@pytest.fixture
def dsn_with_letters(dsn: str) -> str:
    """Give a database with four dead letters: 1 junk, 2 empty, 3 a contradiction, 4 an unknown instrument."""
    with closing(Feeder(dsn, INSTRUMENTS)) as feeder:
        strange = raws_of([exposure(3, instrument="Nobodys")])
        feeder.feed([JUNK, b""], at_ms=NOON_MS, key=b"LSSTComCam/g")
        feeder.feed(raws_of([exposure(1)]), at_ms=NOON_MS)
        feeder.feed(raws_of([exposure(1, day_obs=20261102)]) + strange, at_ms=NOON_MS)
    return dsn


@pytest.fixture
def config(dsn_with_letters: str, mock_broker: MockBroker, tmp_path: Path) -> Path:
    """Write settings that name the broker and that database."""
    file = tmp_path / "settings.yaml"
    kafka = {"bootstrap_servers": mock_broker.bootstrap}
    database = {"conninfo": dsn_with_letters}
    file.write_text(yaml.safe_dump({"kafka": kafka, "database": database, "instruments": INSTRUMENTS}))
    return file


@pytest.fixture
def topic(dsn_with_letters: str, mock_broker: MockBroker) -> str:
    """Let the dead letters be of this broker's log, of a topic of the test's own."""
    name = f"raws-{time.monotonic_ns()}"
    mock_broker.create_topic(name)
    with closing(Consumer({"bootstrap.servers": mock_broker.bootstrap, "group.id": "asks"})) as asks:
        cluster = asks.list_topics(timeout=10).cluster_id
    with psycopg.connect(dsn_with_letters) as connection:
        connection.execute("UPDATE visits.dead_letter SET topic = %s, partition = 2, cluster_id = %s", (name, cluster))
    return name


def read(bootstrap: str, topic: str, count: int) -> list[tuple[int, bytes | None, bytes | None, Any]]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "reads", "enable.auto.commit": False})
    with closing(consumer):
        consumer.assign([TopicPartition(topic, partition, 0) for partition in range(4)])
        messages = consumer.consume(count or 1, 10.0 if count else 1.0)
        assert all(m.error() is None for m in messages)
        return [(m.partition() or 0, m.key(), m.value(), m.headers()) for m in messages]


def ids(config: Path, *options: object) -> list[int]:
    return [row["id"] for row in invoke_json("dead-letters", "list", "--config", config, *options)]


def test_choosing(config: Path) -> None:
    assert ids(config) == [1, 2, 3, 4]
    assert ids(config, "--reason", "empty", "--reason", "contradiction") == [2, 3]
    assert ids(config, "--offsets", "1-3") == [2, 3]
    assert ids(config, "--offsets", "3-") == [3, 4]
    assert ids(config, "--offsets", "-1") == [1, 2]
    assert ids(config, "--offsets", 4, "--topic", "raw-ingested") == [4]
    assert ids(config, "--topic", "another") == []
    assert ids(config, "--partition", 0, "--limit", 2) == [1, 2]
    assert ids(config, "--exposure", exposure(1).id) == [3]
    assert ids(config, "--instrument", "LSSTComCam") == [3]
    assert ids(config, "--since", "2100-01-01") == []
    assert ids(config, "--until", "2100-01-01T00:00:00", "--id", 2, "--id", 3) == [2, 3]
    assert ids(config, "--status", "discarded") == []
    assert "17-20" in invoke("dead-letters", "list", "--config", config, "--offsets", "x", exit_code=2).stderr
    table = invoke("dead-letters", "list", "--config", config)
    assert "unknown_framing" in table.stdout
    assert "1 contradiction" in table.stderr


def test_showing_everything(config: Path) -> None:
    junk = invoke("dead-letters", "show", 1, "--config", config).stdout
    assert "6a 75 6e 6b 20 00 ff" in junk
    assert "junk .." in junk
    assert "reason: unknown_framing" in junk
    assert "LSSTComCam/g" in junk
    contradiction = invoke("dead-letters", "show", 3, "--config", config).stdout
    assert "day_obs: stored 20261101, announced 20261102" in contradiction
    assert "  day_obs: 20261102" in contradiction
    as_json = invoke_json("dead-letters", "show", 4, "--config", config)
    assert as_json["fields"]["instrument"] == "Nobodys"
    assert bytes.fromhex(as_json["value"]).startswith(b"\xc3\x01")
    assert "no dead letter 9" in invoke("dead-letters", "show", 9, "--config", config, exit_code=1).stderr


def test_a_replay_produces_the_same_bytes_with_their_origin(config: Path, topic: str, mock_broker: MockBroker) -> None:
    planned = invoke_json("dead-letters", "replay", "--config", config, "--offsets", "0-1", "--dry-run")
    assert [row["outcome"] for row in planned] == ["would be replayed"] * 2
    assert ids(config) == [1, 2, 3, 4]
    assert read(mock_broker.bootstrap, topic, 0) == []
    done = invoke_json("dead-letters", "replay", "--config", config, "--offsets", "0-1")
    assert [row["outcome"] for row in done] == ["replayed"] * 2
    assert read(mock_broker.bootstrap, topic, 2) == [
        (2, b"LSSTComCam/g", JUNK, [(ORIGIN_HEADER, f"{topic}/2/0".encode())]),
        (2, b"LSSTComCam/g", b"", [(ORIGIN_HEADER, f"{topic}/2/1".encode())]),
    ]
    assert ids(config) == [3, 4]
    assert ids(config, "--status", "replayed") == [1, 2]


def test_what_cannot_be_replayed_stays_open(config: Path, topic: str, dsn_with_letters: str) -> None:
    with psycopg.connect(dsn_with_letters) as connection:
        connection.execute("UPDATE visits.dead_letter SET cluster_id = 'another' WHERE id = 1")
        connection.execute("UPDATE visits.dead_letter SET topic = 'nowhere' WHERE id = 2")
        connection.execute(
            "INSERT INTO visits.dead_letter (reason, detail, instrument, group_key)"
            " VALUES ('region_failed', '', 'I', 'g')"
        )
    rows = invoke_json("dead-letters", "replay", "--config", config, "--all", exit_code=1)
    outcomes = {row["id"]: row["outcome"] for row in rows}
    assert "another cluster" in outcomes[1]
    assert "no topic nowhere" in outcomes[2]
    assert "of a group" in outcomes[5]
    assert outcomes[3] == outcomes[4] == "replayed"
    assert ids(config) == [1, 2, 5]
    assert topic


def test_discarding(config: Path) -> None:
    assert "--all" in invoke("dead-letters", "discard", "--config", config, exit_code=2).stderr
    assert "--all" in invoke("dead-letters", "replay", "--config", config, exit_code=2).stderr
    invoke("dead-letters", "discard", "--config", config, "--reason", "empty", "--dry-run")
    assert ids(config) == [1, 2, 3, 4]
    invoke("dead-letters", "discard", "--config", config, "--reason", "empty")
    assert ids(config) == [1, 3, 4]
    invoke("dead-letters", "discard", "--config", config, "--all")
    assert ids(config) == []
    assert ids(config, "--status", "any") == [1, 2, 3, 4]


def test_a_replay_needs_to_know_the_brokers(config: Path, tmp_path: Path) -> None:
    without = tmp_path / "without.yaml"
    without.write_text(yaml.safe_dump({k: v for k, v in yaml.safe_load(config.read_text()).items() if k != "kafka"}))
    assert "bootstrap_servers" in invoke("dead-letters", "replay", "--config", without, "--all", exit_code=78).stderr
    assert ids(without) == [1, 2, 3, 4]


def test_a_replayed_message_becomes_a_visit_once_its_cause_is_gone(
    dsn: str, mock_broker: MockBroker, tmp_path: Path
) -> None:
    name = f"replayed-{time.monotonic_ns()}"
    mock_broker.create_topic(name)
    kafka = {"topics": [name], "group": name, "session_timeout_s": 4}
    produce(mock_broker.bootstrap, raws_to_produce([exposure(1, instrument="LATISS")], [0]), name)

    def letters(*options: object) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = invoke_json("dead-letters", "list", "--dsn", dsn, *options)
        return found

    lacking = settings_for(mock_broker.bootstrap, dsn, kafka=kafka, instruments={"LSSTComCam": {}})
    with Replica(tmp_path, lacking) as replica:
        replica.wait_until(lambda: bool(letters()), what="a dead letter")
        assert letters()[0]["reason"] == "unknown_instrument"
        replica.terminate()
    complete = settings_for(mock_broker.bootstrap, dsn, kafka=kafka, instruments={"LSSTComCam": {}, "LATISS": {}})
    config = tmp_path / "operator.yaml"
    config.write_text(yaml.safe_dump(complete))
    invoke("dead-letters", "replay", "--config", config, "--reason", "unknown_instrument")
    with Replica(tmp_path, complete, name="again") as replica:
        explained = ("explain", exposure(1).id, "--config", config)
        replica.wait_until(lambda: invoke_json(*explained)[0]["ending"] == "visit", what="the visit")
    assert letters() == []
    assert [each["status"] for each in letters("--status", "any")] == ["replayed"]
