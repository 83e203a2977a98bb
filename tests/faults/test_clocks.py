"""Somebody sets the clock of one replica's machine, an hour wrong and then right again, while it reads."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import Scene, night
from tests.support.clocks import FaketimeUnavailableError, WallClock
from tests.support.load import Load
from tests.support.service import Replica, Wire
from tests.support.tables import snapshot

pytestmark = [pytest.mark.kafka, pytest.mark.alone]

AN_HOUR_S = 3600
N_GROUPS = 120
N_RAWS = 5
GROUP_SIZE = 3
SECTIONS: dict[str, Any] = {
    "kafka": {"session_timeout_s": 10},
    "instruments": {"LSSTCam": {"group_exposures": "by-group-metadata"}},
    "closing": {"close_after_s": 600, "next_group_grace_s": 600},
}
"""By a clock that is right nothing that waits is due while the case lasts, and no session ends in it."""


@pytest.fixture
def clock(tmp_path: Path) -> WallClock:
    """Give a clock that can be set wrong."""
    try:
        return WallClock(tmp_path)
    except FaketimeUnavailableError as error:
        if os.environ.get("REQUIRE_DEPLOY_TOOLS") == "1":
            pytest.fail(f"REQUIRE_DEPLOY_TOOLS=1, but: {error}")
        pytest.skip(str(error))


def _group(number: int, first: int = 0, last: int = GROUP_SIZE - 1) -> list[Wire]:
    """Make raws of a group's exposures ``first..last``, all on one partition."""
    begin = number * 10
    raws = night(begin + first, begin + last, N_RAWS, group=f"group {number}", group_size=GROUP_SIZE)
    return [each._replace(partition=number % 4) for each in raws]


def _flat(groups: list[list[Wire]]) -> list[Wire]:
    return [each for group in groups for each in group]


def _waiting(scene: Scene) -> int:
    """Count those that wait for their third exposure all the time."""
    return sum(row[1] in {f"group {number}" for number in range(4)} for row in snapshot(scene.dsn)["open_group"])


def _visits(scene: Scene) -> list[tuple[Any, ...]]:
    return snapshot(scene.dsn)["visit"]


def _closed(replica: Replica, reason: str) -> float:
    return replica.metric("visit_consumer_groups_closed_total", reason=reason)


@pytest.mark.parametrize("ahead_s", [AN_HOUR_S, -AN_HOUR_S], ids=["ahead", "behind"])
def test_clock_of_one_replica_stepped_by_an_hour(scene: Scene, clock: WallClock, ahead_s: int) -> None:
    stepped = Replica(scene.folder, scene.configure(**SECTIONS), name="stepped", environment=clock.environment)
    with stepped, scene.replica("other", **SECTIONS) as other:
        for each in (stepped, other):
            each.wait_until(lambda each=each: each.metric("visit_consumer_partitions_assigned") == 2, what="a half")  # type: ignore[misc] # mypy cannot infer a lambda with a default
        scene.produce(_flat([_group(number, 0, GROUP_SIZE - 2) for number in range(4)]))
        scene.until(stepped, 4 * 2 * N_RAWS)
        groups = [_group(number) for number in range(4, 4 + N_GROUPS)]
        with Load(scene.kafka.bootstrap, scene.topic, _flat(groups), per_s=400) as load:
            scene.until(stepped, 400)
            clock.set(ahead_s)
            early = 2 if ahead_s > 0 else 0
            if early:
                # By its clock nothing came for an hour: what waits at the end of its partitions is closed.
                stepped.wait_until(lambda: _closed(stepped, "idle") >= early, what="two groups closed")
            else:
                # Stamps from its future move its clock no further than a minute past its own.
                clamped = "visit_consumer_clock_skew_clamped_total"
                stepped.wait_until(lambda: stepped.metric(clamped) > 0, what="stamps cut")
            # Whatever it asks of others meanwhile, new connections too, has its time by other clocks.
            scene.database_proxy.cut()
            load.finish()
            # What is complete waits for no clock.
            stepped.wait_until(lambda: len(_visits(scene)) == N_GROUPS + early, what="groups that go on closing")
            assert _waiting(scene) == 4 - early
            stepped.wait_ready()
            clock.set(0)
        scene.harmed()
        # What comes after all redefines its visit; and the last word on every partition has the right time.
        scene.produce(_flat([_group(number, GROUP_SIZE - 1, GROUP_SIZE - 1) for number in range(4)]))
        scene.judge(stepped)
        assert not snapshot(scene.dsn)["open_group"]
        assert len(_visits(scene)) == N_GROUPS + 4
        assert _closed(other, "idle") == 0
        for each in (stepped, other):
            assert not each.lines("partitions lost")
            assert not each.lines("batch fenced, nothing of it was written")


def test_clock_set_back_by_an_hour_while_the_kafka_client_waits(scene: Scene, clock: WallClock) -> None:
    """Its library waits until a time of day. Nothing is lost by that, and no reader is alive that reads nothing."""
    settings = scene.configure(http={"stalled_after_s": 3})
    with Replica(scene.folder, settings, environment=clock.environment_of_long_waits) as replica:
        scene.produce(night(1, 10))
        scene.until(replica, 200)
        clock.set(AN_HOUR_S)
        replica.wait_until(lambda: replica.get("/healthz").status == 503, what="a loop that does not turn")
        clock.set(0)
        scene.harmed()
        # What comes wakes it. Where nothing comes, whoever asks /healthz ends it.
        scene.produce(night(11, 20))
        scene.judge(replica)
        replica.wait_until(lambda: replica.get("/healthz").status == 200, what="a loop that turns")
