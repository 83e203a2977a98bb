"""A group whose raws alternate between partitions keeps its age: it is closed when it is too old, whatever arrives."""

import time

import pytest

from tests.faults.conftest import Scene, night

pytestmark = pytest.mark.kafka

MAX_OPEN_S = 6.0


def test_age_of_a_group_that_alternates_between_partitions(scene: Scene) -> None:
    """Before, each raw on the other partition began the group's age anew, and it was never closed."""
    replica = scene.replica(
        instruments={"LSSTCam": {"group_exposures": "by-group-metadata", "group_id": "digits"}},
        closing={"close_after_s": 3, "max_open_s": MAX_OPEN_S, "next_group_grace_s": 3},
    )
    with replica:
        replica.wait_until(lambda: replica.metric("visit_consumer_partitions_assigned") == 4, what="all partitions")
        began_s = time.monotonic()
        number = 0
        while replica.metric("visit_consumer_groups_closed_total", instrument="LSSTCam", reason="age") == 0:
            assert time.monotonic() - began_s < 5 * MAX_OPEN_S, "it is never closed"
            number += 1
            scene.produce([each._replace(partition=number % 2) for each in night(number, number, 1, group="7")])
            time.sleep(0.5)
        assert time.monotonic() - began_s >= MAX_OPEN_S - 0.5
        scene.harmed()
        # Later raws close what is open, in the service and in a replay.
        time.sleep(3.5)
        for partition in range(4):
            last = night(100 + partition, 100 + partition, 1, group=f"{8 + partition}", group_size=1)
            scene.produce([each._replace(partition=partition) for each in last])
        scene.judge(replica)
