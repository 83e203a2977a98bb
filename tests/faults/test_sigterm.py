"""SIGTERM: the process ends in order within 10 s, whatever it is doing and whoever is unwell; all with default timings.

The seconds of these lines are those from the signal to the end of the process. The oracle judges after a second start.
"""

import contextlib
import time
from collections.abc import Iterator

import pytest

from tests.faults.conftest import Scene, night
from tests.support.service import Replica

pytestmark = [pytest.mark.kafka, pytest.mark.alone]

LIMIT_S = 10
EVENTS = 200
LOCK = "LOCK TABLE visits.visit_detector_region IN SHARE MODE"


@contextlib.contextmanager
def _serving(scene: Scene) -> Iterator[Replica]:
    """Run a replica on a topic that it has read to its end."""
    scene.produce(night(1, 10))
    with scene.replica_by_default() as replica:
        scene.until(replica, EVENTS)
        replica.wait_ready()
        yield replica


def _ends_in_order(replica: Replica, since_s: float | None = None) -> float:
    """End the process, hold it to the limit, and return how long it took, seconds, since an earlier signal if any."""
    begin_s = time.monotonic() if since_s is None else since_s
    if since_s is None:
        replica.signal_end()
    code = replica.wait_end()
    took_s = time.monotonic() - begin_s
    assert code == 0, replica.log_tail()
    assert took_s < LIMIT_S
    assert replica.lines("stopped"), replica.log_tail()
    return took_s


def _goes_on(scene: Scene, replica: Replica, took_s: float) -> None:
    """Start the process again, and judge."""
    scene.produce(night(21, 22))
    with replica:
        scene.judge(replica, recovery_s=took_s)


def test_sigterm_while_idle(scene: Scene) -> None:
    with _serving(scene) as replica:
        assert replica.get("/healthz").status == 200
        took_s = _ends_in_order(replica)
    _goes_on(scene, replica, took_s)


def test_sigterm_in_a_batch_that_can_be_finished(scene: Scene) -> None:
    with _serving(scene) as replica:
        with scene.connect() as holder:
            holder.execute(LOCK)
            scene.produce(night(11, 11))
            scene.until_waiting(replica)
            begin_s = time.monotonic()
            replica.signal_end()
            replica.wait_for_line("asked to stop")
        took_s = _ends_in_order(replica, begin_s)
        assert scene.read() == EVENTS + 20, "the batch was not finished"
    _goes_on(scene, replica, took_s)


def test_sigterm_in_a_batch_that_cannot_be_finished(scene: Scene) -> None:
    with _serving(scene) as replica, scene.connect() as holder:
        holder.execute(LOCK)
        scene.produce(night(11, 11))
        scene.until_waiting(replica)
        took_s = _ends_in_order(replica)
        assert scene.read() == EVENTS, "the batch was not rolled back"
    _goes_on(scene, replica, took_s)


@pytest.mark.parametrize("how", ["down", "frozen"])
def test_sigterm_with_the_database(scene: Scene, how: str) -> None:
    with _serving(scene) as replica:
        scene.server.stop() if how == "down" else scene.server.pause()
        scene.produce(night(11, 11))
        if how == "down":
            replica.wait_until(lambda: replica.get("/readyz").status == 503, what="unready")
        assert replica.get("/healthz").status == 200
        took_s = _ends_in_order(replica)
    scene.server.start() if how == "down" else scene.server.resume()
    _goes_on(scene, replica, took_s)


@pytest.mark.parametrize("how", ["down", "frozen"])
def test_sigterm_with_the_brokers(scene: Scene, how: str) -> None:
    with _serving(scene) as replica:
        scene.kafka.kill() if how == "down" else scene.kafka.pause()
        replica.wait_until(
            lambda: how == "frozen" or bool(replica.lines("the Kafka client complains")), what="a complaint"
        )
        assert replica.get("/healthz").status == 200
        took_s = _ends_in_order(replica)
    scene.kafka.start() if how == "down" else scene.kafka.resume()
    _goes_on(scene, replica, took_s)


def test_sigterm_before_the_database_was_ever_there(scene: Scene) -> None:
    scene.server.stop()
    scene.produce(night(1, 10))
    with scene.replica_by_default() as replica:
        replica.wait_for_line("database unavailable, retrying")
        replica.wait_until(lambda: replica.get("/healthz").status == 200, what="/healthz")
        answer = replica.get("/readyz")
        assert answer.status == 503
        assert "database" in answer.body
        took_s = _ends_in_order(replica)
    scene.server.start()
    _goes_on(scene, replica, took_s)
