"""PostgreSQL is restarted, killed, locked, frozen, read-only, full, slow or gone, under load."""

import contextlib
import re
import signal
import time
from typing import Any

import psycopg
import pytest

from tests.faults.conftest import Scene, night
from tests.support.postgres import PostgresServer
from tests.support.service import Replica

pytestmark = pytest.mark.kafka

EVENTS = 1200


def _under_load(scene: Scene, **sections: dict[str, Any]) -> Replica:
    """Start a replica that is in the middle of a stream."""
    scene.produce(night(1, 30))
    replica = scene.replica("replica", **sections)
    replica.start()
    scene.until(replica, 100)
    scene.produce(night(31, 60))
    return replica


def _resident_mb(replica: Replica) -> float:
    with open(f"/proc/{replica.pid}/status", encoding="ascii") as file:  # noqa: PTH123 - a file of the kernel's
        found = re.search(r"VmRSS:\s+(\d+) kB", file.read())
    assert found is not None
    return int(found[1]) / 1024


def _undisturbed(replica: Replica) -> None:
    """Hold a replica to have kept its partitions, and to have claimed each once."""
    assert not replica.lines("partitions lost")
    assert not replica.lines("partitions revoked")
    assert len(replica.lines("partition claimed")) == 4


def _take_every_slot(scene: Scene, others: contextlib.ExitStack) -> bool:
    """Open connections until the server refuses; always False, for use in a condition."""
    with contextlib.suppress(psycopg.OperationalError):
        while True:
            others.enter_context(contextlib.closing(scene.server.connect()))
    return False


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL])
def test_postgresql_restarted(scene: Scene, how: signal.Signals) -> None:
    with _under_load(scene) as replica:
        if how is signal.SIGKILL:
            scene.server.kill()
        else:
            scene.server.stop(how=how)
        replica.wait_for_line("the database is unwell, retrying")
        scene.server.start()
        scene.harmed()
        scene.judge(replica)
        _undisturbed(replica)


def test_postgresql_down_under_load_for_longer_than_a_session(scene: Scene) -> None:
    with _under_load(scene, kafka={"max_poll_interval_s": 10}) as replica:
        scene.server.stop()
        scene.produce(night(61, 400))
        replica.wait_until(lambda: replica.get("/readyz").status == 503, what="unready")
        time.sleep(12)
        assert replica.get("/healthz").status == 200
        assert _resident_mb(replica) < 400
        scene.server.start()
        scene.harmed()
        scene.judge(replica)
        _undisturbed(replica)
        replica.wait_ready()


def test_tables_locked(scene: Scene) -> None:
    _locked_for(scene, 7)


@pytest.mark.long
def test_tables_locked_for_a_minute(scene: Scene) -> None:
    _locked_for(scene, 60)


def _locked_for(scene: Scene, seconds: float) -> None:
    with _under_load(scene, database={"lock_timeout_s": 1}) as replica:
        with scene.connect() as holder:
            holder.execute("LOCK TABLE visits.visit IN ACCESS EXCLUSIVE MODE")
            replica.wait_for_line("the database is unwell, retrying")
            time.sleep(seconds)
        scene.harmed()
        scene.judge(replica)
        _undisturbed(replica)


def test_read_only(scene: Scene) -> None:
    name = scene.dsn.rpartition("/")[2]
    with _under_load(scene) as replica:
        with scene.server.connect() as admin:
            admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on".encode())
            scene.database_proxy.cut()
            replica.wait_until(
                lambda: replica.metric("visit_consumer_db_errors_total", **{"class": "25"}) > 0,
                what="the refusal to write",
            )
            admin.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only".encode())
        scene.database_proxy.cut()
        scene.harmed()
        scene.judge(replica)
        _undisturbed(replica)


def test_connection_limit_reached(scene: Scene) -> None:
    with _under_load(scene) as replica, contextlib.ExitStack() as others:
        _take_every_slot(scene, others)
        scene.database_proxy.cut()
        replica.wait_until(
            lambda: _take_every_slot(scene, others) or replica.get("/readyz").status == 503, what="unready"
        )
        time.sleep(2)
        others.close()
        scene.harmed()
        scene.judge(replica)
        _undisturbed(replica)


def test_frozen(scene: Scene) -> None:
    with _under_load(scene) as replica:
        scene.server.pause()
        time.sleep(4)
        assert replica.get("/healthz").status == 200
        scene.server.resume()
        scene.harmed()
        scene.judge(replica)
        _undisturbed(replica)


def test_slow(scene: Scene) -> None:
    with _under_load(scene, batch={"max_messages": 600}) as replica:
        scene.database_proxy.delay_s = 0.2
        time.sleep(4)
        scene.database_proxy.heal()
        scene.harmed()
        scene.judge(replica)
        _undisturbed(replica)


@pytest.mark.long
def test_two_seconds_a_round_trip(scene: Scene) -> None:
    with _under_load(scene, batch={"max_messages": 10_000}) as replica:
        scene.database_proxy.delay_s = 1.0
        scene.harmed()
        scene.judge(replica, timeout_s=200)
        _undisturbed(replica)


def test_network_to_the_database_parted(scene: Scene) -> None:
    with _under_load(scene, database={"tcp_user_timeout_s": 2, "keepalive_idle_s": 1}) as replica:
        scene.database_proxy.hold()
        time.sleep(5)
        assert replica.get("/healthz").status == 200
        scene.database_proxy.refuse()
        replica.wait_for_line("the database is unwell, retrying")
        scene.database_proxy.heal()
        scene.harmed()
        scene.judge(replica)
        _undisturbed(replica)


def test_connection_cut_again_and_again(scene: Scene) -> None:
    with _under_load(scene) as replica:
        for _ in range(20):
            scene.database_proxy.cut()
            time.sleep(0.1)
        scene.harmed()
        scene.judge(replica)
        _undisturbed(replica)


def test_an_orphaned_session_blocks_a_takeover_for_no_longer_than_stated(scene: Scene) -> None:
    # A replica's machine vanishes in mid transaction: its session stays, with its locks, until PostgreSQL gives it up.
    replica = _under_load(scene, database={"idle_in_transaction_timeout_s": 3, "client_check_interval_s": 1})
    with scene.connect() as holder:
        holder.execute("LOCK TABLE visits.visit_detector_region IN SHARE MODE")
        scene.until_waiting(replica)
        scene.database_proxy.hold()  # nothing of what the dead say arrives any more, also not their end
        replica.kill()
    settings = scene.configure()
    settings["database"]["conninfo"] = scene.dsn
    heir = Replica(scene.folder, settings, name="heir")
    scene.harmed()
    begin = time.monotonic()
    with heir:
        heir.wait_until(lambda: len(heir.lines("partition claimed")) == 4, what="the takeover")
        assert time.monotonic() - begin < 15
        scene.judge(heir)


def test_password_revoked_ends_the_process_with_a_reason(scene: Scene, faulty_postgres: PostgresServer) -> None:
    name = scene.dsn.rpartition("/")[2]
    with psycopg.connect(scene.dsn, autocommit=True) as admin:
        admin.execute("DROP ROLE IF EXISTS short_lived")
        admin.execute("CREATE ROLE short_lived SUPERUSER LOGIN")
        with _under_load(scene) as first:
            scene.until(first, 200)
            first.kill()
        scene.settings["database"]["conninfo"] = faulty_postgres.dsn(name, user="short_lived")
        replica = Replica(scene.folder, scene.settings, name="revoked")
        with replica:
            scene.until(replica, 300)
            admin.execute("ALTER ROLE short_lived NOLOGIN")
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'short_lived'")
            scene.produce(night(61, 62))
            deadline = time.monotonic() + 30
            while replica.running and time.monotonic() < deadline:
                time.sleep(0.1)
            assert replica.returncode == 1, replica.log_tail()
            assert "not permitted to log in" in replica.log_tail()
        admin.execute("ALTER ROLE short_lived LOGIN")
        with replica:
            scene.harmed()
            scene.judge(replica)
