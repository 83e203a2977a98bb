"""The outbox relay: every revision is announced, in order, none before its rows can be read."""

import contextlib
import json
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from threading import Event, Thread
from typing import Any, NamedTuple, Self

import fastavro
import psycopg
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from consumer.config import Settings
from consumer.events import VISIT_DEFINED, schema_text
from consumer.kafka.mock_cluster import PARTITIONS_PER_TOPIC, EmbeddedBroker
from consumer.postgres.connection import Database
from consumer.postgres.outbox import Outbox
from tests.support.exposures import exposure
from tests.support.kafka_broker import KafkaCluster
from tests.support.postgres import PostgresServer, wheel_binaries
from tests.support.service import Replica, prepare_database, produce, raws_of, settings_for
from tests.support.waiting import give_up_at

ANNOUNCED = "visit-defined"
N_VISITS = 30
N_REVISIONS = 8
N_KILLS = 6


class Seen(NamedTuple):
    """One announcement, and the visit's revision that could be read when it came."""

    key: bytes
    record: dict[str, Any]
    readable: int


class Downstream:
    """Reads announcements as they come, and looks up the row of each at once."""

    def __init__(self, bootstrap: str, topic: str, partitions: int, dsn: str) -> None:
        self.seen: list[Seen] = []
        self._stopping = Event()
        self._schema = fastavro.parse_schema(json.loads(schema_text("visit_defined")))
        self._thread = Thread(target=self._read, args=(bootstrap, topic, partitions, dsn))

    def _read(self, bootstrap: str, topic: str, partitions: int, dsn: str) -> None:
        consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "downstream", "enable.auto.commit": False})
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(partitions)])
        try:
            with psycopg.connect(dsn, autocommit=True) as connection:
                while not self._stopping.is_set():
                    for message in consumer.consume(100, 0.1):
                        value = message.value()
                        if message.error() is None and value is not None:
                            self._take(connection, message.key() or b"", value)
        finally:
            consumer.close()

    def _take(self, connection: psycopg.Connection[Any], key: bytes, value: bytes) -> None:
        assert value[:10] == VISIT_DEFINED.single_object_header
        record: Any = fastavro.schemaless_reader(BytesIO(value[10:]), self._schema, None)
        row = connection.execute(
            "SELECT revision FROM visits.visit WHERE instrument = %s AND id = %s",
            (record["instrument"], record["visit"]),
        ).fetchone()
        self.seen.append(Seen(key, record, 0 if row is None else row[0]))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()


def settings_of(bootstrap: str, dsn: str, topic: str, **more: Any) -> dict[str, Any]:
    sections: dict[str, Any] = {
        "kafka": {"topics": [topic], "group": topic, "session_timeout_s": 10},
        "announce": {"topic": ANNOUNCED, "interval_s": 0.02},
    }
    return settings_for(bootstrap, dsn, **(sections | more))


def stored(dsn: str) -> dict[tuple[str, int], int]:
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT instrument, id, revision FROM visits.visit").fetchall()
    return {(instrument, visit): revision for instrument, visit, revision in rows}


def unsent(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT count(*) FROM visits.outbox WHERE sent_at IS NULL").fetchone()
    assert row is not None
    return int(row[0])


def revisions_of(seen: list[Seen]) -> set[tuple[str, int, int]]:
    records = [each.record for each in seen]
    return {(record["instrument"], record["visit"], record["revision"]) for record in records}


def assert_announced(seen: list[Seen], visits: dict[tuple[str, int], int]) -> None:
    """Hold what was read to the promise: every revision, in order, when its rows could be read."""
    by_visit: dict[tuple[str, int], list[int]] = defaultdict(list)
    for each in seen:
        record = each.record
        assert each.key == f"{record['instrument']}/{record['visit']}".encode()
        assert record["revision"] <= each.readable, "announced before its rows could be read"
        assert (record["change"] == "new") == (record["revision"] == 1)
        by_visit[record["instrument"], record["visit"]].append(record["revision"])
    assert by_visit.keys() == visits.keys()
    for visit, revisions in by_visit.items():
        assert sorted(set(revisions)) == list(range(1, visits[visit] + 1)), visit
        firsts = list(dict.fromkeys(revisions))
        assert firsts == sorted(firsts), f"{visit}: {revisions}"


def corrections(first: int, last: int) -> Iterator[Any]:
    """Yield the visits' exposures again and again, each time corrected."""
    for version in range(first, last):
        for number in range(1, N_VISITS + 1):
            yield exposure(number, target_name=f"field {version}", record_version=version)


def test_each_revision_is_announced_once_in_quiet_times(postgres18: PostgresServer, tmp_path: Path) -> None:
    with EmbeddedBroker() as broker, postgres18.database(prepare_database) as dsn:
        broker.create_topic(ANNOUNCED)
        settings = settings_of(broker.bootstrap, dsn, "raws")
        with (
            Downstream(broker.bootstrap, ANNOUNCED, PARTITIONS_PER_TOPIC, dsn) as downstream,
            Replica(tmp_path, settings) as replica,
        ):
            for version in range(3):
                produce(broker.bootstrap, raws_of(corrections(version, version + 1), range(2)), "raws")
                wanted = N_VISITS * (version + 1)
                replica.wait_until(lambda wanted=wanted: len(downstream.seen) >= wanted, what=f"{wanted} announced")  # type: ignore[misc] # mypy cannot infer a lambda with a default
            replica.wait_until(
                lambda: replica.metric("visit_consumer_announcements_sent_total") == 3 * N_VISITS, what="the metric"
            )
            replica.wait_until(lambda: replica.metric("visit_consumer_outbox_backlog") == 0, what="no backlog")
            assert replica.metric("visit_consumer_oldest_outbox_timestamp_seconds") == 0
            code, took_s = replica.terminate()
            assert (code, took_s < 10) == (0, True), replica.log_tail()
        assert len(downstream.seen) == 3 * N_VISITS
        assert set(stored(dsn).values()) == {3}
        assert_announced(downstream.seen, stored(dsn))
        assert unsent(dsn) == 0


@pytest.mark.slow
@pytest.mark.kafka
def test_under_kills_every_revision_is_announced_in_order_and_none_too_early(
    kafka: KafkaCluster, postgres18: PostgresServer, tmp_path: Path
) -> None:
    topic = "announced-under-kills"
    kafka.create_topic(topic)
    with contextlib.suppress(Exception):
        kafka.delete_topic(ANNOUNCED)
    kafka.create_topic(ANNOUNCED)
    seeded = random.Random(20_261_102)  # noqa: S311 - moments of kills, no secrets
    with postgres18.database(prepare_database) as dsn:
        # Small batches: a visit has many revisions only when its corrections come in different ones.
        settings = settings_of(
            kafka.bootstrap,
            dsn,
            topic,
            # Most of the relay's time is between sending and the acknowledgement: most kills fall there. And each round
            # takes so long in all that something is left when the kill comes late.
            kafka={"topics": [topic], "group": topic, "session_timeout_s": 1, "client": {"linger.ms": 100}},
            batch={"max_messages": N_VISITS // 4},
            announce={"topic": ANNOUNCED, "interval_s": 0.01, "max_messages": 2},
        )
        replica = Replica(tmp_path, settings)
        total = N_VISITS * N_REVISIONS
        with Downstream(kafka.bootstrap, ANNOUNCED, 4, dsn) as downstream:
            for number in range(N_KILLS):
                first, last = number * N_REVISIONS // N_KILLS, (number + 1) * N_REVISIONS // N_KILLS
                produce(kafka.bootstrap, raws_of(corrections(first, last), range(1)), topic)
                before = len(downstream.seen)
                replica.start()
                replica.wait_until(lambda before=before: len(downstream.seen) > before, what="announcements")  # type: ignore[misc] # mypy cannot infer a lambda with a default
                time.sleep(seeded.uniform(0, 0.2))
                replica.kill()
                assert unsent(dsn) > 0, "there was nothing left to announce"
            with replica:
                last_offset = "SELECT coalesce(sum(next_offset), 0) FROM visits.consumer_offset"
                with psycopg.connect(dsn, autocommit=True) as connection:
                    replica.wait_until(
                        lambda: connection.execute(last_offset).fetchone() == (total,) and unsent(dsn) == 0,
                        what="the end of the log and of the outbox",
                        timeout_s=60,
                    )
            visits = stored(dsn)
            wanted = {(*visit, number) for visit, revision in visits.items() for number in range(1, revision + 1)}
            # What was acknowledged last is still on its way to the reader.
            deadline = give_up_at(30)
            while not wanted <= revisions_of(downstream.seen):
                assert time.monotonic() < deadline, wanted - revisions_of(downstream.seen)
                time.sleep(0.05)
        assert len(visits) == N_VISITS
        assert sum(visits.values()) > N_VISITS * N_REVISIONS / 2, "hardly any visit was redefined"
        assert_announced(downstream.seen, visits)


def test_one_process_sends_and_another_takes_over(postgres18: PostgresServer, tmp_path: Path) -> None:
    with EmbeddedBroker() as broker, postgres18.database(prepare_database) as dsn:
        settings = settings_of(broker.bootstrap, dsn, "raws")
        broker.create_topic("raws")
        one, other = Replica(tmp_path, settings, name="one"), Replica(tmp_path, settings, name="other")
        with one:
            one.wait_for_line("announces")
            with other:
                other.wait_for_line("another process announces")
                one.wait_ready()
                produce(broker.bootstrap, raws_of(corrections(0, 1), range(1)), "raws")
                one.wait_until(lambda: len(stored(dsn)) == N_VISITS and unsent(dsn) == 0, what="announcements")
                assert not other.lines("announces")
                one.kill()
                other.wait_for_line("announces", timeout_s=10)
                with psycopg.connect(dsn) as connection:
                    connection.execute("UPDATE visits.outbox SET sent_at = NULL")
                other.wait_until(lambda: unsent(dsn) == 0, what="announcements")


def test_a_database_and_brokers_that_are_unwell_are_waited_for(tmp_path: Path) -> None:
    with (
        EmbeddedBroker() as broker,
        PostgresServer(wheel_binaries(), fast=True) as server,
        server.database(prepare_database) as dsn,
    ):
        settings = settings_of(broker.bootstrap, dsn, "raws")
        with Replica(tmp_path, settings) as replica:
            produce(broker.bootstrap, raws_of(corrections(0, 1), range(1)), "raws")
            replica.wait_until(lambda: len(stored(dsn)) == N_VISITS and unsent(dsn) == 0, what="announcements")
        visits = stored(dsn)
        with psycopg.connect(dsn) as connection:
            connection.execute("UPDATE visits.outbox SET sent_at = NULL")
        nobody = settings_of("127.0.0.1:9", dsn, "raws", announce={"topic": ANNOUNCED})
        with Replica(tmp_path, nobody, name="nobody") as replica:
            replica.wait_until(
                lambda: replica.metric("visit_consumer_outbox_backlog") == N_VISITS, what="the backlog to show"
            )
            assert replica.metric("visit_consumer_oldest_outbox_timestamp_seconds") > time.time() - 3600
            code, took_s = replica.terminate()
            assert (code, took_s < 10) == (0, True), replica.log_tail()
        assert unsent(dsn) == N_VISITS
        with Replica(tmp_path, settings, name="again") as replica:
            replica.wait_until(lambda: unsent(dsn) == 0, what="the outbox to be empty")
            server.restart()
            produce(broker.bootstrap, raws_of(corrections(1, 2), range(1)), "raws")
            replica.wait_until(lambda: stored(dsn) == dict.fromkeys(visits, 2), what="second revisions")
            replica.wait_until(lambda: unsent(dsn) == 0, what="the outbox to be empty")
            assert replica.lines("announcements wait, trying again")
            assert replica.lines("announcements go on")


def test_a_relay_that_hangs_in_a_frozen_database_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with (
        EmbeddedBroker() as broker,
        PostgresServer(wheel_binaries(), fast=True) as server,
        server.database(prepare_database) as dsn,
    ):
        broker.create_topic("raws")
        with Replica(tmp_path, settings_of(broker.bootstrap, dsn, "raws")) as replica:
            replica.wait_for_line("announces")
            replica.wait_ready()
            server.pause()
            time.sleep(0.5)
            code, took_s = replica.terminate()
            assert (code, took_s < 10) == (0, True), replica.log_tail()
            assert replica.lines("the relay hangs and is left behind")
        server.resume()


def test_what_is_done_and_old_is_removed(postgres18: PostgresServer, tmp_path: Path) -> None:
    letters = """
        INSERT INTO visits.dead_letter (reason, detail, instrument, exposure, status, settled_at)
        SELECT 'not_on_sky', 'test', 'LATISS', n, CASE WHEN n % 2 = 0 THEN 'open' ELSE 'resolved' END,
            CASE WHEN n % 2 = 0 THEN NULL ELSE now() - make_interval(days => n) END
        FROM generate_series(1, 100) AS n;
        INSERT INTO visits.outbox (instrument, visit, revision, payload, created_at, sent_at)
        SELECT 'LATISS', n, 1, '', now() - make_interval(days => n),
            CASE WHEN n % 2 = 0 THEN NULL ELSE now() - make_interval(days => n) END
        FROM generate_series(1, 100) AS n
        """
    left = """
        SELECT
            (SELECT array_agg(exposure ORDER BY exposure) FROM visits.dead_letter),
            (SELECT array_agg(visit ORDER BY visit) FROM visits.outbox)
        """
    evens = range(2, 101, 2)
    with EmbeddedBroker() as broker, postgres18.database(prepare_database) as dsn:
        settings = settings_for(
            broker.bootstrap, dsn, retention={"dead_letters_days": 50, "outbox_days": 10, "interval_s": 1}
        )
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(letters)
            with Replica(tmp_path, settings) as replica:
                for _ in range(2):
                    kept = (sorted([*evens, *range(1, 50, 2)]), sorted([*evens, *range(1, 10, 2)]))
                    replica.wait_until(
                        lambda kept=kept: connection.execute(left).fetchone() == kept,  # type: ignore[misc] # mypy cannot infer a lambda with a default
                        what="old rows gone",
                    )
                    # Again, an interval later.
                    connection.execute("DELETE FROM visits.dead_letter")
                    connection.execute("DELETE FROM visits.outbox")
                    connection.execute(letters)
                assert replica.lines("old rows removed")


def test_the_lock_is_one_for_each_schema_and_goes_with_the_session(postgres18: PostgresServer) -> None:
    with postgres18.database(prepare_database) as dsn:
        settings = Settings.model_validate(settings_for("nowhere:1", dsn)).database
        elsewhere = settings.model_copy(update={"schema_name": "another"})
        first, second, third = (Outbox(Database(each), lease_s=5.0) for each in (settings, settings, elsewhere))
        assert [first.lead(), first.lead(), second.lead(), third.lead()] == [True, True, False, True]
        with psycopg.connect(dsn) as connection:
            held = connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone()
            assert held == (2,)
        first.close()
        deadline = give_up_at(10)
        while not second.lead():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert not first.lead()
        for each in (first, second, third):
            each.close()
