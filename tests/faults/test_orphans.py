"""A process that is frozen, and not dead, keeps its sessions: none may hold its locks for longer than stated.

Its machine still acknowledges what PostgreSQL sends, so that no keepalive tells. Where in a request or an answer it was
frozen must not matter.
"""

import contextlib
import signal
import threading
import time

import psycopg
import pytest

from consumer.config import Settings
from consumer.errors import TransientError
from consumer.postgres.connection import Database
from tests.faults.conftest import Scene, night, wait_until_it_lets_go
from tests.support.postgres import PostgresServer
from tests.support.proxy import Proxy
from tests.support.service import settings_for
from tests.support.waiting import give_up_at


def _is_held(dsn: str) -> bool:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711"
        ).fetchone()
    return row == (1,)


def _waits_for_its_client(dsn: str) -> bool:
    """Tell whether the lock's session can do no more: it has all that it was sent, or cannot send more."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            """
            SELECT count(*) FROM pg_stat_activity JOIN pg_locks USING (pid)
            WHERE locktype = 'advisory' AND objid = 4711 AND wait_event_type = 'Client'
            """
        ).fetchone()
    return row == (1,)


def _freeze(database: Database, proxy: Proxy, where: str) -> None:
    """Take the lock in a transaction, and hear nothing, and be heard no more, in the middle of a long statement."""
    with contextlib.suppress(TransientError), database.transaction() as session:
        session.script("SELECT pg_advisory_xact_lock(4711)")
        if where == "in a request":
            proxy.hold_after(20_000)
            session._connection.execute("SELECT length(%s)", ["long" * 100_000])
        else:
            threading.Timer(0.2, proxy.hold).start()
            session._connection.execute("SELECT repeat('long', 50000000)")


@pytest.mark.parametrize("where", ["in a request", "in an answer"])
def test_locks_of_a_frozen_client_are_released(postgres_server: PostgresServer, where: str) -> None:
    with postgres_server.database() as dsn, Proxy(postgres_server.port) as proxy:
        name = dsn.rpartition("/")[2]
        bounds = {"idle_in_transaction_timeout_s": 1, "tcp_user_timeout_s": 1}
        settings = settings_for("nowhere:1", postgres_server.dsn(name, port=proxy.port), database=bounds)
        database = Database(Settings(**settings).database)
        frozen = threading.Thread(target=_freeze, args=(database, proxy, where))
        frozen.start()
        try:
            deadline = give_up_at(30)
            while not (proxy.holding and _waits_for_its_client(dsn)):
                assert time.monotonic() < deadline, "not frozen"
                time.sleep(0.02)
            deadline = time.monotonic() + 8
            while _is_held(dsn):
                assert time.monotonic() < deadline, "the lock is still held"
                time.sleep(0.1)
        finally:
            proxy.heal()
            frozen.join()
            database.close()


def test_postgresql_looks_after_its_end_of_the_connection(postgres_server: PostgresServer) -> None:
    # A machine that is gone says nothing any more: without these it would be missed after two hours.
    given = {"keepalive_idle_s": 7, "keepalive_interval_s": 3, "keepalive_count": 2, "tcp_user_timeout_s": 9}
    settings = settings_for("nowhere:1", postgres_server.dsn(), database=given)
    database = Database(Settings(**settings).database)
    try:
        with database.transaction() as session:
            # As the kernel has them.
            found = session._connection.execute(
                "SELECT setting FROM pg_settings WHERE name LIKE 'tcp_%' ORDER BY name"
            ).fetchall()
    finally:
        database.close()
    assert found == [("2",), ("7",), ("3",), ("9000",)]


@pytest.mark.kafka
def test_frozen_in_the_middle_of_a_request(scene: Scene) -> None:
    # The rows of the regions are megabytes; the frozen process has the locks of its batch, and has said half of them.
    settings = {"database": {"idle_in_transaction_timeout_s": 1}, "batch": {"max_messages": 2000}}
    zombie = scene.replica("zombie", **settings)
    scene.database_proxy.hold_after(400_000)
    scene.produce(night(1, 60))
    with zombie:
        zombie.wait_until(lambda: scene.database_proxy.holding, what="half a request")
        zombie.signal(signal.SIGSTOP)
        # On a slow machine a smaller batch may have come before.
        assert scene.read() < 1200
        heir_settings = scene.configure(**settings)
        heir_settings["database"]["conninfo"] = scene.dsn
        scene.harmed()
        with scene.replica_of(heir_settings, "heir") as heir:
            heir.wait_until(lambda: len(heir.lines("partition claimed")) == 4, what="the takeover")
            assert scene.since_harmed_s is not None
            assert scene.since_harmed_s < 15
            scene.until(heir, 1200)
            zombie.signal(signal.SIGCONT)
            scene.database_proxy.heal()
            wait_until_it_lets_go(zombie)
            scene.judge(heir)


@pytest.mark.kafka
@pytest.mark.long
def test_relay_frozen(scene: Scene) -> None:
    # Its session holds the lock that lets one process announce, and is not in a transaction.
    announced = f"{scene.topic}-announced"
    scene.kafka.create_topic(announced)
    settings = scene.configure(announce={"topic": announced})
    settings["database"]["conninfo"] = scene.dsn
    zombie, heir = scene.replica_of(settings, "zombie"), scene.replica_of(settings, "heir")
    with zombie:
        zombie.wait_for_line("announces")
        scene.produce(night(1, 5))
        zombie.wait_until(lambda: _announced(scene) == 5, what="announcements")
        zombie.signal(signal.SIGSTOP)
        with heir:
            heir.wait_for_line("another process announces")
            scene.produce(night(6, 10))
            scene.until(heir, 200)
            assert _announced(scene) == 5
            scene.harmed()
            heir.wait_for_line("announces", timeout_s=90)
            heir.wait_until(lambda: _announced(scene) == 10, what="announcements")
            took_s = scene.since_harmed_s
            zombie.signal(signal.SIGCONT)
            zombie.wait_for_line("another process announces")
            scene.judge(heir, recovery_s=took_s)


def _announced(scene: Scene) -> int:
    with scene.connect() as connection:
        row = connection.execute("SELECT count(*) FROM visits.outbox WHERE sent_at IS NOT NULL").fetchone()
    assert row is not None
    return int(row[0])
