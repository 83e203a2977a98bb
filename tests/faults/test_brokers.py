"""Brokers are restarted, killed, frozen, parted from the service."""

import signal
import time
from typing import Any

import pytest

from tests.faults.conftest import Scene, night, wait_until_it_lets_go
from tests.support.service import Replica

pytestmark = pytest.mark.kafka


def _under_load(scene: Scene, **sections: dict[str, Any]) -> Replica:
    scene.produce(night(1, 30))
    replica = scene.replica("replica", **sections)
    replica.start()
    scene.until(replica, 100)
    return replica


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_broker_restarted(scene: Scene, how: str) -> None:
    with _under_load(scene) as replica:
        if how == "stopped":
            scene.kafka.stop()
        else:
            scene.kafka.kill()
        replica.wait_for_line("the Kafka client complains")
        assert replica.get("/healthz").status == 200
        scene.kafka.start()
        scene.harmed()
        scene.produce(night(31, 60))
        scene.judge(replica)


def test_broker_frozen_for_longer_than_a_session(scene: Scene) -> None:
    with _under_load(scene) as replica:
        scene.kafka.pause()
        time.sleep(5)
        assert replica.get("/healthz").status == 200
        scene.kafka.resume()
        scene.harmed()
        scene.produce(night(31, 60))
        scene.judge(replica)


def test_network_to_the_brokers_parted(scene: Scene) -> None:
    _parted_for(scene, 6)


@pytest.mark.long
def test_network_to_the_brokers_parted_for_a_minute(scene: Scene) -> None:
    _parted_for(scene, 60)


def _parted_for(scene: Scene, seconds: float) -> None:
    assert scene.broker_proxy is not None
    with _under_load(scene) as replica:
        scene.broker_proxy.hold()
        scene.produce(night(31, 60))
        time.sleep(seconds)
        assert replica.get("/healthz").status == 200
        assert scene.read() <= 600
        scene.broker_proxy.refuse()
        time.sleep(1)
        scene.broker_proxy.heal()
        scene.harmed()
        scene.judge(replica)


def test_brokers_slow(scene: Scene) -> None:
    assert scene.broker_proxy is not None
    with _under_load(scene) as replica:
        scene.broker_proxy.delay_s = 0.1
        scene.produce(night(31, 60))
        time.sleep(3)
        scene.broker_proxy.heal()
        scene.harmed()
        scene.judge(replica)


def test_rebalance_in_mid_transaction(scene: Scene) -> None:
    # The batch waits for a lock while another replica takes half of the partitions over.
    with _under_load(scene) as replica:
        with scene.connect() as holder:
            holder.execute("LOCK TABLE visits.visit_detector_region IN SHARE MODE")
            scene.produce(night(31, 60))
            scene.until_waiting(replica)
            heir = scene.replica("heir")
            heir.start()
            replica.wait_for_line("partitions revoked")
        scene.harmed()
        with heir:
            scene.judge(heir)


def test_sigstop_past_the_poll_interval(scene: Scene) -> None:
    replica = _under_load(scene, database={"idle_in_transaction_timeout_s": 1})
    with replica:
        replica.signal(signal.SIGSTOP)
        with scene.replica("heir") as heir:
            heir.wait_until(lambda: len(heir.lines("partition claimed")) == 4, what="the takeover")
            scene.produce(night(31, 60))
            scene.until(heir, 900)
            replica.signal(signal.SIGCONT)
            scene.harmed()
            wait_until_it_lets_go(replica)
            scene.judge(heir)


def test_one_to_four_to_one_replicas(scene: Scene) -> None:
    messages = night(1, 200)
    with _under_load(scene) as first:
        others = [scene.replica(f"replica-{n}") for n in range(2, 5)]
        for number, each in enumerate(others, 1):
            each.start()
            scene.produce(messages[600 + (number - 1) * 800 : 600 + number * 800])
            each.wait_until(lambda each=each: bool(each.lines("partition claimed")), what="a share", timeout_s=60)  # type: ignore[misc] # mypy cannot infer a lambda with a default
        for number, each in enumerate(others, 4):
            assert each.terminate()[0] == 0
            scene.produce(messages[600 + (number - 1) * 400 : 600 + number * 400])
        scene.harmed()
        scene.judge(first)
