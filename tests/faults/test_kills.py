"""The process dies at each moment of a batch's life. The moments are made from outside: by locks, and by a proxy."""

import contextlib
from collections.abc import Iterator

import pytest

from tests.faults.conftest import Scene, night
from tests.support.service import Replica

pytestmark = pytest.mark.kafka

N_EXPOSURES = 30
EVENTS = N_EXPOSURES * 20


def _killed_while(scene: Scene, lock: str) -> Replica:
    """Start a replica, let it read half, and kill it while its session waits for a lock on a table."""
    replica = scene.replica()
    scene.produce(night(1, N_EXPOSURES // 2))
    replica.start()
    scene.until(replica, EVENTS // 2)
    with scene.connect() as holder:
        holder.execute(lock)
        scene.produce(night(N_EXPOSURES // 2 + 1, N_EXPOSURES))
        scene.until_waiting(replica)
        before = scene.read()
        replica.kill()
        assert scene.read() == before
    return replica


@contextlib.contextmanager
def _in_a_batch(scene: Scene, replica: Replica) -> Iterator[None]:
    """Hold a replica in the middle of the first batch of the second half: the next COMMIT is that batch's."""
    with scene.connect() as holder:
        holder.execute("LOCK TABLE visits.visit_detector_region IN SHARE MODE")
        scene.produce(night(N_EXPOSURES // 2 + 1, N_EXPOSURES))
        scene.until_waiting(replica)
        yield


def _recovers(scene: Scene, replica: Replica) -> None:
    scene.harmed()
    with replica:
        scene.judge(replica)


def test_kill_9_after_poll(scene: Scene) -> None:
    # The fence waits: everything was read, nothing is written.
    _recovers(
        scene,
        _killed_while(
            scene,
            "LOCK TABLE visits.consumer_offset IN ROW EXCLUSIVE MODE; SELECT FROM visits.consumer_offset FOR UPDATE",
        ),
    )


def test_kill_9_in_mid_upsert(scene: Scene) -> None:
    _recovers(scene, _killed_while(scene, "LOCK TABLE visits.visit_detector_region IN SHARE MODE"))


def test_kill_9_before_commit(scene: Scene) -> None:
    # A deferred trigger runs inside COMMIT, after every statement of the batch: there it waits for the test.
    with scene.connect() as connection:
        connection.execute(
            """
            CREATE FUNCTION watch.wait() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN NULL; END $$;
            CREATE CONSTRAINT TRIGGER wait AFTER UPDATE ON visits.consumer_offset DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION watch.wait();
            """
        )
    _recovers(scene, _killed_while(scene, "SELECT pg_advisory_xact_lock(42)"))


def test_kill_9_after_commit(scene: Scene) -> None:
    replica = scene.replica()
    scene.produce(night(1, N_EXPOSURES // 2))
    replica.start()
    scene.until(replica, EVENTS // 2)
    with _in_a_batch(scene, replica):
        # PostgreSQL commits, and its answer never arrives.
        scene.database_proxy.hold_answers_after(b"COMMIT")
    scene.until(replica, EVENTS // 2 + 1)
    committed = scene.read()
    replica.kill()
    scene.database_proxy.heal()
    assert EVENTS // 2 < committed < EVENTS
    _recovers(scene, replica)


def test_kill_9_during_assignment(scene: Scene) -> None:
    replica = scene.replica()
    scene.produce(night(1, N_EXPOSURES))
    with scene.connect() as holder:
        holder.execute("LOCK TABLE visits.consumer_offset IN EXCLUSIVE MODE")
        replica.start()
        replica.wait_for_line("partitions assigned")
        scene.until_waiting(replica)
        replica.kill()
    _recovers(scene, replica)


def test_connection_cut_before_commit_arrives(scene: Scene) -> None:
    _cut_at_commit(scene, arrives=False)


def test_connection_cut_after_commit_arrived(scene: Scene) -> None:
    replica = _cut_at_commit(scene, arrives=True)
    # Its own commit moved the fence, and it knows: nothing is dropped, nothing is claimed anew.
    assert not replica.lines("batch fenced, nothing of it was written")
    assert len(replica.lines("partition claimed")) == 4


def _cut_at_commit(scene: Scene, *, arrives: bool) -> Replica:
    replica = scene.replica()
    with replica:
        scene.produce(night(1, N_EXPOSURES // 2))
        scene.until(replica, EVENTS // 2)
        with _in_a_batch(scene, replica):
            scene.database_proxy.cut_at(b"COMMIT", arrives=arrives)
        replica.wait_for_line("database unavailable, retrying")
        scene.harmed()
        assert scene.database_proxy.cuts == 1
        scene.judge(replica)
    return replica
