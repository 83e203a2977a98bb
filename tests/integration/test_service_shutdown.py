"""SIGTERM: the process ends in order within 10 s, whatever it is doing and whoever is unwell."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.exposures import exposure
from tests.support.kafka_broker import KafkaCluster
from tests.support.postgres import PostgresServer, wheel_binaries
from tests.support.service import Replica, prepare_database, produce, raws_of, settings_for
from tests.support.tables import assert_no_way_back, names_of_logs, replay, snapshot, total_read, watch_positions

LIMIT_S = 10


@contextlib.contextmanager
def serving(kafka: KafkaCluster, dsn: str, folder: Path, topic: str) -> Iterator[Replica]:
    """Run a replica with default timings on a topic with some exposures, read to its end."""
    kafka.create_topic(topic)
    produce(kafka.bootstrap, raws_of([exposure(n) for n in range(1, 11)], range(9)), topic)
    settings = settings_for(
        kafka.bootstrap,
        dsn,
        kafka={"topics": [topic], "group": topic, "session_timeout_s": 10},
        database={"retry_max_s": 5.0, "connect_timeout_s": 5},
    )
    with Replica(folder, settings) as replica:
        replica.wait_until(lambda: total_read(dsn) == 90, what="the end of the log")
        replica.wait_ready()
        yield replica


def assert_ends_in_order(replica: Replica) -> None:
    code, took_s = replica.terminate()
    assert code == 0, replica.log_tail()
    assert took_s < LIMIT_S
    assert replica.lines("stopped"), replica.log_tail()


def test_idle(kafka: KafkaCluster, postgres18: PostgresServer, tmp_path: Path) -> None:
    with postgres18.database(prepare_database) as dsn, serving(kafka, dsn, tmp_path, "term-idle") as replica:
        assert replica.get("/healthz").status == 200
        assert_ends_in_order(replica)


def test_in_a_batch_that_can_be_finished_it_is(kafka: KafkaCluster, postgres18: PostgresServer, tmp_path: Path) -> None:
    topic = "term-batch"
    with postgres18.database(prepare_database) as dsn, serving(kafka, dsn, tmp_path, topic) as replica:
        with psycopg.connect(dsn) as holder:
            holder.execute("LOCK TABLE visits.visit_detector_region IN SHARE MODE")
            produce(kafka.bootstrap, raws_of([exposure(99)], range(9)), topic)
            _wait_for_waiter(replica, dsn)
            replica.signal_end()
            replica.wait_for_line("asked to stop")
        code, took_s = replica.terminate()
        assert (code, took_s < LIMIT_S) == (0, True), replica.log_tail()
        assert total_read(dsn) == 99


def test_in_a_batch_that_cannot_be_finished_it_is_rolled_back(
    kafka: KafkaCluster, postgres18: PostgresServer, tmp_path: Path
) -> None:
    topic = "term-rolled-back"
    with (
        postgres18.database(prepare_database) as dsn,
        postgres18.database(prepare_database) as calm,
        serving(kafka, dsn, tmp_path, topic) as replica,
    ):
        watch_positions(dsn)
        with psycopg.connect(dsn) as holder:
            holder.execute("LOCK TABLE visits.visit_detector_region IN SHARE MODE")
            produce(kafka.bootstrap, raws_of([exposure(99)], range(9)), topic)
            _wait_for_waiter(replica, dsn)
            assert_ends_in_order(replica)
            assert total_read(dsn) == 90
        replica.start()
        replica.wait_until(lambda: total_read(dsn) == 99, what="the end of the log")
        settings = settings_for(kafka.bootstrap, calm)
        replay(kafka.bootstrap, calm, settings, names_of_logs(dsn), topic)
        assert snapshot(dsn) == snapshot(calm)
        assert_no_way_back(dsn)


@pytest.mark.parametrize("how", ["down", "frozen"])
def test_with_the_database_gone(kafka: KafkaCluster, tmp_path: Path, how: str) -> None:
    topic = f"term-database-{how}"
    with PostgresServer(wheel_binaries(), fast=True) as server, server.database(prepare_database) as dsn:
        with serving(kafka, dsn, tmp_path, topic) as replica:
            server.stop() if how == "down" else server.pause()
            produce(kafka.bootstrap, raws_of([exposure(99)], range(9)), topic)
            if how == "down":
                replica.wait_until(lambda: replica.get("/readyz").status == 503, what="unready")
                assert replica.get("/healthz").status == 200
            assert_ends_in_order(replica)
        if how == "frozen":
            server.resume()


@pytest.mark.parametrize("how", ["down", "frozen"])
def test_with_the_brokers_gone(postgres18: PostgresServer, tmp_path: Path, how: str) -> None:
    with (
        KafkaCluster() as own,
        postgres18.database(prepare_database) as dsn,
        serving(own, dsn, tmp_path, "term-brokers") as replica,
    ):
        own.kill() if how == "down" else own.pause()
        replica.wait_until(
            lambda: how == "frozen" or bool(replica.lines("the Kafka client complains")), what="a complaint"
        )
        assert replica.get("/healthz").status == 200
        assert_ends_in_order(replica)


def test_before_the_database_was_ever_there(kafka: KafkaCluster, tmp_path: Path) -> None:
    kafka.create_topic("term-early")
    settings = settings_for(
        kafka.bootstrap, "postgresql://postgres@127.0.0.1:9/none", kafka={"topics": ["term-early"], "group": "early"}
    )
    with Replica(tmp_path, settings) as replica:
        replica.wait_for_line("the database is unwell, retrying")
        replica.wait_until(lambda: replica.get("/healthz").status == 200, what="/healthz")
        answer = replica.get("/readyz")
        assert answer.status == 503
        assert "database" in answer.body
        assert_ends_in_order(replica)


def _wait_for_waiter(replica: Replica, dsn: str) -> None:
    """Wait until the service's session waits for a lock."""

    def waits() -> bool:
        with psycopg.connect(dsn) as connection:
            row = connection.execute(
                """
                SELECT count(*) FROM pg_stat_activity
                WHERE application_name LIKE 'visit-consumer%' AND wait_event_type = 'Lock'
                """
            ).fetchone()
        return row == (1,)

    replica.wait_until(waits, what="a session that waits for the lock")
