"""PostgreSQL is restarted, killed, locked, frozen, read-only, full, slow or gone, under load."""

import contextlib
import re
import signal
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.faults.conftest import Scene, assert_undisturbed, night
from tests.support.service import Replica
from tests.support.waiting import give_up_at

pytestmark = pytest.mark.kafka

MEMORY_MB = 400
N_DETECTORS = 205
EXPOSURES_PER_S = 10
"""In the ten minutes without a database: 2,050 events a second, 1.2 million in all."""


def _reading(scene: Scene, **sections: dict[str, Any]) -> Replica:
    """Start a replica that reads; `_more` comes once it is harmed, when reading must be under way then."""
    scene.produce(night(1, 30))
    # Long enough for a busy machine: where a case is judged to have kept its partitions, only the fault may cost them.
    kafka = {"session_timeout_s": 6, **sections.pop("kafka", {})}
    replica = scene.replica("replica", kafka=kafka, **sections)
    replica.start()
    scene.until(replica, 100)
    return replica


def _more(scene: Scene) -> None:
    scene.produce(night(31, 60))


def _under_load(scene: Scene, **sections: dict[str, Any]) -> Replica:
    """Start a replica that is in the middle of a stream."""
    replica = _reading(scene, **sections)
    _more(scene)
    return replica


def _peak_resident_mb(replica: Replica) -> float:
    """Ask the kernel how much memory the process has had at most, since its start."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{replica.pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def _take_every_slot(scene: Scene, others: contextlib.ExitStack) -> bool:
    """Open connections until the server refuses; always False, for use in a condition."""
    with contextlib.suppress(psycopg.OperationalError):
        while True:
            others.enter_context(contextlib.closing(scene.server.connect()))
    return False


@pytest.mark.parametrize(
    "how", [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL], ids=["fast", "at once", "after a kill"]
)
def test_postgresql_restarted(scene: Scene, how: signal.Signals) -> None:
    with _under_load(scene) as replica:
        if how is signal.SIGKILL:
            scene.server.kill()
        else:
            scene.server.stop(how=how)
        replica.wait_for_line("database unavailable, retrying")
        scene.server.start()
        scene.harmed()
        scene.judge(replica)
        assert_undisturbed(replica)


def test_postgresql_down_under_load_for_longer_than_a_session(scene: Scene) -> None:
    with _under_load(scene, kafka={"max_poll_interval_s": 10}) as replica:
        scene.server.stop()
        scene.produce(night(61, 400))
        replica.wait_until(lambda: replica.get("/readyz").status == 503, what="unready")
        time.sleep(12)
        assert replica.get("/healthz").status == 200
        assert _peak_resident_mb(replica) < MEMORY_MB
        scene.server.start()
        scene.harmed()
        scene.judge(replica)
        assert_undisturbed(replica)
        replica.wait_ready()


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_ten_minutes_without_a_database(scene: Scene) -> None:
    scene.produce(night(1, 10, N_DETECTORS))
    with scene.replica_by_default() as replica:
        scene.until(replica, 10 * N_DETECTORS)
        replica.wait_ready()
        scene.server.stop()
        begin_s = time.monotonic()
        for second in range(600):
            first = 11 + second * EXPOSURES_PER_S
            scene.produce(night(first, first + EXPOSURES_PER_S - 1, N_DETECTORS))
            assert replica.get("/healthz").status == 200
            assert _peak_resident_mb(replica) < MEMORY_MB
            time.sleep(max(begin_s + second + 1 - time.monotonic(), 0))
        assert replica.get("/readyz").status == 503
        assert time.monotonic() - begin_s < 660, "this machine cannot produce so many events"
        scene.server.start()
        scene.harmed()
        scene.judge(replica, timeout_s=600)
        assert_undisturbed(replica)
        replica.wait_ready()
        assert replica.metric("visit_consumer_dead_letters_total") == 0
        assert _peak_resident_mb(replica) < MEMORY_MB


def test_postgresql_locked(scene: Scene) -> None:
    _locked_for(scene, 7)


@pytest.mark.long
def test_postgresql_locked_for_a_minute(scene: Scene) -> None:
    _locked_for(scene, 60)


def _locked_for(scene: Scene, seconds: float) -> None:
    with _reading(scene, database={"lock_timeout_s": 1}) as replica:
        with scene.connect() as holder:
            holder.execute("LOCK TABLE visits.visit IN ACCESS EXCLUSIVE MODE")
            _more(scene)
            replica.wait_for_line("database unavailable, retrying")
            time.sleep(seconds)
        scene.harmed()
        scene.judge(replica)
        assert_undisturbed(replica)


def test_postgresql_read_only(scene: Scene) -> None:
    name = scene.dsn.rpartition("/")[2]
    with _reading(scene) as replica:
        with scene.server.connect() as admin:
            admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on".encode())
            scene.database_proxy.cut()
            _more(scene)
            replica.wait_until(
                lambda: replica.metric("visit_consumer_db_errors_total", **{"class": "25"}) > 0,
                what="the refusal to write",
            )
            admin.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only".encode())
        scene.database_proxy.cut()
        scene.harmed()
        scene.judge(replica)
        assert_undisturbed(replica)


def test_postgresql_connection_limit_reached(scene: Scene) -> None:
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
        assert_undisturbed(replica)


def test_postgresql_frozen(scene: Scene) -> None:
    with _under_load(scene) as replica:
        scene.server.pause()
        time.sleep(4)
        assert replica.get("/healthz").status == 200
        scene.server.resume()
        scene.harmed()
        scene.judge(replica)
        assert_undisturbed(replica)


def test_postgresql_slow(scene: Scene) -> None:
    with _under_load(scene, batch={"max_messages": 600}) as replica:
        scene.database_proxy.delay_s = 0.2
        time.sleep(4)
        scene.database_proxy.heal()
        scene.harmed()
        scene.judge(replica)
        assert_undisturbed(replica)


@pytest.mark.long
def test_postgresql_at_two_seconds_a_round_trip(scene: Scene) -> None:
    with _under_load(scene, batch={"max_messages": 10_000}) as replica:
        scene.database_proxy.delay_s = 1.0
        scene.harmed()
        scene.judge(replica, timeout_s=200)
        assert_undisturbed(replica)


def test_network_to_the_database_parted(scene: Scene) -> None:
    with _under_load(scene, database={"tcp_user_timeout_s": 2, "keepalive_idle_s": 1}) as replica:
        scene.database_proxy.hold()
        time.sleep(5)
        assert replica.get("/healthz").status == 200
        scene.database_proxy.refuse()
        replica.wait_for_line("database unavailable, retrying")
        scene.database_proxy.heal()
        scene.harmed()
        scene.judge(replica)
        assert_undisturbed(replica)


def test_connections_to_the_database_cut_again_and_again(scene: Scene) -> None:
    with _under_load(scene) as replica:
        for _ in range(20):
            scene.database_proxy.cut()
            time.sleep(0.1)
        scene.harmed()
        scene.judge(replica)
        assert_undisturbed(replica)


def test_an_orphaned_session_blocks_a_takeover_for_no_longer_than_stated(scene: Scene) -> None:
    # A replica's machine vanishes in mid transaction: its session stays, with its locks, until PostgreSQL gives it up.
    bounds = {"idle_in_transaction_timeout_s": 3, "client_check_interval_s": 1}
    replica = _reading(scene, database=bounds, kafka={"session_timeout_s": 2})
    with scene.connect() as holder:
        holder.execute("LOCK TABLE visits.visit_detector_region IN SHARE MODE")
        _more(scene)
        scene.until_waiting(replica)
        scene.database_proxy.hold()  # nothing of what the dead say arrives any more, also not their end
        replica.kill()
    settings = scene.configure()
    settings["database"]["conninfo"] = scene.dsn
    heir = scene.replica_of(settings, "heir")
    scene.harmed()
    begin = time.monotonic()
    with heir:
        heir.wait_until(lambda: len(heir.lines("partition claimed")) == 4, what="the takeover")
        assert time.monotonic() - begin < 15
        scene.judge(heir)


def test_role_barred_and_let_in_again(scene: Scene) -> None:
    with psycopg.connect(scene.dsn, autocommit=True) as admin:
        admin.execute("DROP ROLE IF EXISTS short_lived")
        admin.execute("CREATE ROLE short_lived SUPERUSER LOGIN")
        with _under_load(scene, kafka={"session_timeout_s": 2}) as first:
            scene.until(first, 200)
            first.kill()
        settings = scene.configure()
        settings["database"]["conninfo"] = scene.server.dsn(scene.dsn.rpartition("/")[2], user="short_lived")
        replica = scene.replica_of(settings, "barred")
        with replica:
            scene.until(replica, 300)
            admin.execute("ALTER ROLE short_lived NOLOGIN")
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'short_lived'")
            scene.produce(night(61, 62))
            deadline = give_up_at(30)
            while replica.running and time.monotonic() < deadline:
                time.sleep(0.1)
            assert replica.returncode == 1, replica.log_tail()
            assert "not permitted to log in" in replica.log_tail()
        admin.execute("ALTER ROLE short_lived LOGIN")
        with replica:
            scene.harmed()
            scene.judge(replica)
