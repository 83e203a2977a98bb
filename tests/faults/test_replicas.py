"""Several replicas: takeover after a death, rebalances in mid stream, zombies, and two that claim one partition."""

import signal
import threading
import time
from typing import Any

import pytest

from tests.faults.conftest import Scene, night, wait_until_it_lets_go
from tests.support.service import Replica
from tests.support.tables import moves

pytestmark = pytest.mark.kafka

TAKEOVER_S = 15
SLOW_S = 0.005
"""Delay of each message to the database and back: work is left when a replica is harmed, on a fast machine too."""
FENCED = "batch fenced, nothing of it was written"


def _claimed(replica: Replica) -> int:
    return len(replica.lines("partition claimed"))


def _until_claimed(replica: Replica, number: int, timeout_s: float = 60) -> None:
    replica.wait_until(lambda: _claimed(replica) >= number, what=f"{number} claims", timeout_s=timeout_s)


def test_takeover_after_kill_9_with_default_settings(scene: Scene) -> None:
    with scene.replica_by_default("first") as first:
        _until_claimed(first, 4)
        scene.produce(night(1, 10))
        scene.until(first, 200)
        with scene.replica_by_default("heir") as heir:
            _until_claimed(heir, 2)
            scene.produce(night(11, 20))
            first.kill()
            scene.harmed()
            # The partitions that it has already stay its own: what it takes over are the other two.
            _until_claimed(heir, 4)
            took_s = scene.since_harmed_s
            scene.until(heir, 400)
            assert scene.since_harmed_s is not None
            assert scene.since_harmed_s < TAKEOVER_S, heir.log_tail()
            scene.judge(heir, recovery_s=took_s)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_replicas_come_and_go_in_mid_stream(scene: Scene, protocol: str) -> None:
    stop = threading.Event()
    written = 0

    def stream() -> None:
        nonlocal written
        while not stop.is_set():
            written += 1
            scene.produce(night(written, written))
            time.sleep(0.1)

    producing = threading.Thread(target=stream)
    settings = {"kafka": {"group_protocol": protocol}}
    first, second, third = (scene.replica(name, **settings) for name in ("first", "second", "third"))
    with first, second:
        second.signal(signal.SIGSTOP)  # until the first has all partitions
        producing.start()
        try:
            scene.until(first, 100)
            _until_claimed(first, 4)
            second.signal(signal.SIGCONT)
            _until_claimed(second, 2)
            assert first.terminate()[0] == 0
            _until_claimed(second, 4)
            with third:
                _until_claimed(third, 2)
                stop.set()
                producing.join()
                scene.harmed()
                scene.judge(third)
                assert not second.lines("partitions lost")
        finally:
            stop.set()
            producing.join()
    assert len({epoch for _, epoch, _, _ in moves(scene.dsn)}) > 1


def test_a_zombie_writes_nothing(scene: Scene) -> None:
    settings = {"database": {"idle_in_transaction_timeout_s": 1}, "batch": {"max_messages": 20}}
    zombie, heir = scene.replica("zombie", **settings), scene.replica("heir", **settings)
    with zombie:
        _until_claimed(zombie, 4)
        scene.database_proxy.delay_s = SLOW_S
        scene.produce(night(1, 100))
        scene.until(zombie, 200)
        zombie.signal(signal.SIGSTOP)
        scene.database_proxy.delay_s = 0
        at_stop = scene.read()
        assert at_stop < 2000, "stopped too late to be in the middle of anything"
        with heir:
            _until_claimed(heir, 4)
            scene.until(heir, 2000)
            zombie.signal(signal.SIGCONT)
            wait_until_it_lets_go(zombie)
            _until_claimed(zombie, 5)
            scene.produce(night(101, 110))
            scene.harmed()
            scene.judge(heir)


def test_two_processes_that_claim_one_partition_take_turns_at_most(scene: Scene) -> None:
    # Another reader of the same positions that the group knows nothing of: it claims, again and again.
    scene.database_proxy.delay_s = SLOW_S
    scene.produce(night(1, 150))
    with scene.replica("first", batch={"max_messages": 50}) as first:
        scene.until(first, 100)
        with scene.connect() as rival:
            rival.autocommit = True
            while scene.read() < 3000 and len(first.lines(FENCED)) < 4:
                fenced, claims = len(first.lines(FENCED)), _claimed(first)
                rival.execute("UPDATE visits.consumer_offset SET epoch = epoch + 1, owner = 'rival'")
                first.wait_until(
                    lambda fenced=fenced: len(first.lines(FENCED)) > fenced or scene.read() == 3000,  # type: ignore[misc] # mypy cannot infer a lambda with a default
                    what="the fence",
                )
                if scene.read() < 3000:
                    assert first.get("/readyz").status in {200, 503}
                    _until_claimed(first, claims + 1)
        assert len(first.lines(FENCED)) >= 2
        scene.database_proxy.delay_s = 0
        scene.harmed()
        scene.judge(first)


def test_two_processes_forced_onto_one_partition(scene: Scene) -> None:
    # Two Kafka groups give every partition to both processes. The row of the fence is made the same for both.
    with scene.connect() as connection:
        connection.execute(
            f"""
            CREATE FUNCTION watch.one_group() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN new.consumer_group := '{scene.topic}'; RETURN new; END $$;
            CREATE TRIGGER one_group BEFORE INSERT ON visits.consumer_offset
                FOR EACH ROW EXECUTE FUNCTION watch.one_group();
            """.encode()
        )
    scene.produce(night(1, 20))
    settings: dict[str, dict[str, Any]] = {"batch": {"max_messages": 50}, "database": {"lock_timeout_s": 20}}
    left = scene.replica("left", **settings)
    right = scene.replica("right", **settings, kafka={"group": f"{scene.topic}-other"})
    with left:
        scene.until(left, 100)
        with scene.connect() as holder:
            # The one waits in the middle of a batch, and the other for what the batch has locked: its claim is next.
            holder.execute("LOCK TABLE visits.visit_detector_region IN SHARE MODE")
            scene.produce(night(21, 150))
            scene.until_waiting(left)
            right.start()
            scene.until_waiting(right, number=2)
        with right:
            scene.judge(right)
            assert left.lines(FENCED)
            assert left.running
            assert right.running
