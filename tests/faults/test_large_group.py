"""The acquisition system never changes the group's name: 20,000 exposures of one group."""

import time
from typing import Any

import pytest

from tests.faults.conftest import Scene
from tests.support.exposures import exposure
from tests.support.service import raws_of

pytestmark = pytest.mark.kafka

N_EXPOSURES = 20_000
N_TIMED = 4_000
SECTIONS: dict[str, Any] = {
    "batch": {"max_messages": 200},
    "instruments": {"LSSTComCam": {"group_exposures": "by-group-metadata", "group_id": "digits"}},
    "closing": {"close_after_s": 30},
}


def test_constant_group_of_20000_exposures(scene: Scene) -> None:
    """Each says that its group has one exposure: before, each closed the group again, with all that it had by then."""
    same = {"timespan_begin": None, "timespan_end": None, "group": "7", "group_size": 1}
    night = [exposure(n, instrument="LSSTComCam", **same) for n in range(1, N_EXPOSURES + 1)]
    scene.produce([each._replace(partition=0) for each in raws_of(night, [0])])
    with scene.replica(**SECTIONS) as replica:
        reached_s = {}
        for mark in (2_000, 2_000 + N_TIMED, N_EXPOSURES - N_TIMED, N_EXPOSURES):
            scene.until(replica, mark)
            reached_s[mark] = time.monotonic()
        first_s = reached_s[2_000 + N_TIMED] - reached_s[2_000]
        last_s = reached_s[N_EXPOSURES] - reached_s[N_EXPOSURES - N_TIMED]
        (later,) = raws_of([exposure(90_000, instrument="LSSTComCam", **{**same, "group": "8"})], [0])
        scene.produce([later._replace(partition=0, timestamp_ms=round(time.time() * 1000) + 40_000)])
        scene.judge(replica)
    with scene.connect() as connection:
        query = "SELECT count(*) FROM visits.visit_definition WHERE visit = 7"
        ((members,),) = connection.execute(query).fetchall()
    assert members == N_EXPOSURES
    assert last_s < 3 * first_s, "four times as many are stored by then"
