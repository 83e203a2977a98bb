"""Several replicas: takeover after a death, rebalances in mid stream, zombies, and two that claim one partition."""

import signal
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.exposures import exposure
from tests.support.kafka_broker import KafkaCluster
from tests.support.postgres import PostgresServer
from tests.support.service import Replica, Wire, prepare_database, produce, raws_of, settings_for
from tests.support.tables import (
    assert_every_offset_is_explained,
    assert_no_way_back,
    difference,
    moves,
    names_of_logs,
    replay,
    snapshot,
    total_read,
    watch_positions,
)

TAKEOVER_S = 15


@pytest.fixture
def dsn(postgres18: PostgresServer) -> Iterator[str]:
    with postgres18.database(prepare_database) as found:
        watch_positions(found)
        yield found


def night(first: int, last: int, detectors: int = 50) -> list[Wire]:
    """Make raws of LSSTCam, so that a batch is real work."""
    return raws_of([exposure(n, instrument="LSSTCam") for n in range(first, last + 1)], range(detectors))


def hold_to_a_replay(
    server: PostgresServer, kafka: KafkaCluster, dsn: str, settings: Mapping[str, Any], topic: str
) -> None:
    """Compare the tables with a replay of the log, and every move of a position with the rules."""
    with server.database(prepare_database) as calm:
        replay(kafka.bootstrap, calm, settings, names_of_logs(dsn), topic)
        found, expected = snapshot(dsn), snapshot(calm)
        assert not difference(found, expected).example
        assert found == expected
    assert_no_way_back(dsn)
    assert_every_offset_is_explained(dsn, kafka.bootstrap, topic)


def until_read(replica: Replica, dsn: str, number: int, timeout_s: float = 60) -> float:
    return replica.wait_until(lambda: total_read(dsn) >= number, what=f"{number} messages", timeout_s=timeout_s)


def claimed(replica: Replica) -> int:
    return len(replica.lines("partition claimed"))


def test_takeover_after_a_kill_with_default_settings(
    kafka: KafkaCluster, postgres18: PostgresServer, dsn: str, tmp_path: Path
) -> None:
    topic = "takeover"
    kafka.create_topic(topic)
    settings = settings_for(kafka.bootstrap, dsn, kafka={"topics": [topic], "group": topic})
    # Timings are the defaults: those that the tests shorten are taken out again.
    settings["kafka"] = {key: settings["kafka"][key] for key in ("bootstrap_servers", "topics", "group")}
    settings["database"] = {"conninfo": dsn}
    settings["batch"] = {}
    with Replica(tmp_path, settings, name="first") as first:
        until_read(first, dsn, 0)
        first.wait_ready()
        first.wait_until(lambda: claimed(first) == 4, what="all partitions")
        produce(kafka.bootstrap, night(1, 4), topic)
        until_read(first, dsn, 200)
        with Replica(tmp_path, settings, name="second") as second:
            second.wait_until(lambda: claimed(second) == 2, what="a share of the partitions")
            produce(kafka.bootstrap, night(5, 8), topic)
            first.kill()
            begin = time.monotonic()
            until_read(second, dsn, 400)
            took_s = time.monotonic() - begin
            assert took_s < TAKEOVER_S, second.log_tail()
    hold_to_a_replay(postgres18, kafka, dsn, settings, topic)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_replicas_come_and_go_in_mid_stream(
    kafka: KafkaCluster, postgres18: PostgresServer, dsn: str, tmp_path: Path, protocol: str
) -> None:
    topic = f"coming-and-going-{protocol}"
    kafka.create_topic(topic)
    settings = settings_for(
        kafka.bootstrap,
        dsn,
        kafka={"topics": [topic], "group": topic, "group_protocol": protocol},
        batch={"max_messages": 50},
    )
    written: list[int] = []
    stop = threading.Event()

    def stream() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            written.append(len(night(number, number)))
            produce(kafka.bootstrap, night(number, number), topic)
            time.sleep(0.1)

    producing = threading.Thread(target=stream)
    with Replica(tmp_path, settings, name="first") as first, Replica(tmp_path, settings, name="second") as second:
        second.signal(signal.SIGSTOP)  # until the first has all partitions
        producing.start()
        try:
            until_read(first, dsn, 100)
            first.wait_until(lambda: claimed(first) == 4, what="all partitions")
            second.signal(signal.SIGCONT)
            second.wait_until(lambda: claimed(second) >= 2, what="a share of the partitions", timeout_s=60)
            assert first.terminate()[0] == 0
            second.wait_until(lambda: claimed(second) >= 4, what="all partitions", timeout_s=60)
            with Replica(tmp_path, settings, name="third") as third:
                third.wait_until(lambda: claimed(third) >= 2, what="a share of the partitions", timeout_s=60)
                stop.set()
                producing.join()
                until_read(third, dsn, sum(written))
                assert not second.lines("partitions lost")
        finally:
            stop.set()
            producing.join()
    hold_to_a_replay(postgres18, kafka, dsn, settings, topic)
    assert len({epoch for _, epoch, _, _ in moves(dsn)}) > 1


def test_a_zombie_writes_nothing(kafka: KafkaCluster, postgres18: PostgresServer, dsn: str, tmp_path: Path) -> None:
    topic = "zombie"
    kafka.create_topic(topic)
    settings = settings_for(
        kafka.bootstrap,
        dsn,
        kafka={"topics": [topic], "group": topic, "session_timeout_s": 1.5},
        batch={"max_messages": 50},
        database={"idle_in_transaction_timeout_s": 1},
    )
    with Replica(tmp_path, settings, name="zombie") as zombie:
        zombie.wait_until(lambda: claimed(zombie) == 4, what="all partitions")
        produce(kafka.bootstrap, night(1, 40), topic)
        until_read(zombie, dsn, 200)
        zombie.signal(signal.SIGSTOP)
        at_stop = total_read(dsn)
        assert at_stop < 2000, "stopped too late to be in the middle of anything"
        with Replica(tmp_path, settings, name="heir") as heir:
            heir.wait_until(lambda: claimed(heir) == 4, what="all partitions")
            until_read(heir, dsn, 2000)
            zombie.signal(signal.SIGCONT)
            zombie.wait_until(
                lambda: bool(zombie.lines("partitions lost") or zombie.lines("partitions revoked")), what="the news"
            )
            zombie.wait_until(lambda: claimed(zombie) > 4, what="a new share", timeout_s=60)
            produce(kafka.bootstrap, night(41, 44), topic)
            until_read(heir, dsn, 2200)
    hold_to_a_replay(postgres18, kafka, dsn, settings, topic)


def test_two_processes_that_claim_one_partition_take_turns_at_most(
    kafka: KafkaCluster, postgres18: PostgresServer, dsn: str, tmp_path: Path
) -> None:
    topic = "forced"
    kafka.create_topic(topic, 1)
    settings = settings_for(
        kafka.bootstrap,
        dsn,
        kafka={"topics": [topic], "group": topic, "session_timeout_s": 1.5},
        batch={"max_messages": 50},
    )
    produce(kafka.bootstrap, night(1, 60), topic)
    with Replica(tmp_path, settings, name="first") as first:
        until_read(first, dsn, 100)
        # Another reader of the same position that the group knows nothing of: it claims, again and again.
        with psycopg.connect(dsn, autocommit=True) as rival:
            for _ in range(4):
                rival.execute("UPDATE visits.consumer_offset SET epoch = epoch + 1, owner = 'rival'")
                fenced = len(first.lines("batch fenced, nothing of it was written"))
                first.wait_until(
                    lambda fenced=fenced: (
                        len(first.lines("batch fenced, nothing of it was written")) > fenced  # type: ignore[misc] # mypy cannot infer a lambda with a default
                        or total_read(dsn) == 3000
                    ),
                    what="the fence",
                )
                before = total_read(dsn)
                if before == 3000:
                    break
                claims = claimed(first)
                assert first.get("/readyz").status in {200, 503}
                first.wait_until(lambda claims=claims: claimed(first) > claims, what="a new claim")  # type: ignore[misc] # as above
            assert len(first.lines("batch fenced, nothing of it was written")) >= 2
        until_read(first, dsn, 3000)
    hold_to_a_replay(postgres18, kafka, dsn, settings, topic)


def test_two_groups_of_processes_on_one_row_double_nothing(
    kafka: KafkaCluster, postgres18: PostgresServer, dsn: str, tmp_path: Path
) -> None:
    topic = "split-brain"
    kafka.create_topic(topic, 1)
    settings = settings_for(
        kafka.bootstrap,
        dsn,
        kafka={"topics": [topic], "group": topic, "session_timeout_s": 1.5},
        batch={"max_messages": 50},
    )
    produce(kafka.bootstrap, night(1, 40), topic)
    other = {**settings, "kafka": {**settings["kafka"], "group": "split-brain-other"}}
    # Two Kafka groups give the one partition to both processes. The row of the fence is made the same for both.
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            """
            CREATE FUNCTION watch.one_group() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN new.consumer_group := 'split-brain'; RETURN new; END $$;
            CREATE TRIGGER one_group BEFORE INSERT ON visits.consumer_offset
                FOR EACH ROW EXECUTE FUNCTION watch.one_group();
            """
        )
    with Replica(tmp_path, settings, name="left") as left, Replica(tmp_path, other, name="right") as right:
        until_read(left, dsn, 2000, 90)
        fenced = "batch fenced, nothing of it was written"
        produce(kafka.bootstrap, night(41, 60), topic)
        until_read(right, dsn, 3000, 90)
        assert left.lines(fenced) or right.lines(fenced), "the two never met"
        assert left.running
        assert right.running
    hold_to_a_replay(postgres18, kafka, dsn, settings, topic)
