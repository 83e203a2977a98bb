"""Who waits is woken by what a replica commits: on a direct session, and after a second where it cannot listen."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from time import monotonic

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from consumer.config import DatabaseSettings
from consumer.postgres.connection import Database
from consumer.postgres.replicas import Heartbeats
from consumer.postgres.wake import Wake
from tests.support.nights import prepare
from tests.support.pgbouncer import PgBouncer
from tests.support.postgres import PostgresServer

NOW = datetime(2026, 11, 1, tzinfo=UTC)
LONG_S = 20.0
_timers: list[threading.Timer] = []


def settings_of(dsn: str, schema: str = "visits") -> DatabaseSettings:
    return DatabaseSettings.model_validate({"conninfo": dsn, "schema": schema})


@pytest.fixture
def dsn(postgres18: PostgresServer) -> Iterator[str]:
    with postgres18.database(prepare) as made:
        yield made


@pytest.fixture
def beat(dsn: str) -> Iterator[Callable[[bool], None]]:
    """Write a heartbeat of a replica that has committed something, or nothing."""
    with Database(settings_of(dsn)) as database:
        table = Heartbeats(database, owner="one", consumer_group="g", version="1")
        yield lambda wakes: table.beat("running", [], [], started_at=NOW, wakes=wakes)
        while _timers:  # whatever woke the test first
            _timers.pop().join()


def later(call: Callable[[], None], after_s: float = 0.3) -> None:
    _timers.append(threading.Timer(after_s, call))
    _timers[-1].start()


def waited_s(wake: Wake, timeout_s: float, stopped: Callable[[], bool] = lambda: False) -> tuple[bool, float]:
    started_s = monotonic()
    return wake.wait(timeout_s, stopped), monotonic() - started_s


def test_what_a_replica_commits_wakes_and_its_mere_heartbeats_do_not(dsn: str, beat: Callable[[bool], None]) -> None:
    with Wake(settings_of(dsn), application_name="test") as wake:
        assert wake.wait(LONG_S), "what was committed before it listened may be new to it"
        beat(False)
        assert wake.wait(0.5) is False
        later(lambda: beat(True))
        changed, seconds = waited_s(wake, LONG_S)
        assert changed
        assert seconds < LONG_S / 2
        beat(True)
        assert waited_s(wake, LONG_S)[0], "one that came between two waits"


def test_a_commit_in_another_schema_does_not_wake(dsn: str, beat: Callable[[bool], None]) -> None:
    with Wake(settings_of(dsn, "elsewhere"), application_name="test") as wake:
        wake.wait(LONG_S)
        beat(True)
        assert wake.wait(0.5) is False


def test_a_session_that_is_lost_is_opened_again(dsn: str, beat: Callable[[bool], None]) -> None:
    with (
        Wake(settings_of(dsn), application_name="wake-of-a-test") as wake,
        psycopg.connect(dsn, autocommit=True) as own,
    ):
        wake.wait(LONG_S)
        own.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'wake-of-a-test'"
        )
        wake.wait(0.5)
        assert wake.wait(LONG_S), "the first wait of the new session"
        later(lambda: beat(True))
        assert wake.wait(LONG_S)


def test_a_server_that_is_away_is_waited_for_a_second_at_a_time() -> None:
    with Wake(settings_of("host=127.0.0.1 port=1 dbname=none"), application_name="test") as wake:
        for _ in range(2):
            changed, seconds = waited_s(wake, LONG_S)
            assert changed
            assert 0.9 < seconds < LONG_S / 2


def test_a_stop_ends_the_wait(dsn: str) -> None:
    stopping = threading.Event()
    with Wake(settings_of(dsn), application_name="test") as wake:
        wake.wait(LONG_S)
        later(stopping.set)
        changed, seconds = waited_s(wake, LONG_S, stopping.is_set)
    assert not changed
    assert seconds < LONG_S / 2


def test_behind_a_pooler_it_looks_each_second(dsn: str) -> None:
    server = conninfo_to_dict(dsn)
    with PgBouncer(int(str(server["port"])), mode="transaction", size=1) as pooler:
        with Wake(settings_of(pooler.dsn(str(server["dbname"]))), application_name="test") as wake:
            changed, seconds = waited_s(wake, LONG_S)
            assert changed
            assert 0.9 < seconds < LONG_S / 2
        with psycopg.connect(pooler.dsn(str(server["dbname"])), prepare_threshold=None) as connection:
            assert connection.execute("SELECT pg_listening_channels()").fetchall() == []
