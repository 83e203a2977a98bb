"""A message that ends the process which reads it, by native code; and processes that end for other reasons."""

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.conftest import Scene, night
from tests.support.service import Replica, prepare_database
from tests.support.tables import difference, replay, snapshot

pytestmark = pytest.mark.kafka

N_EXPOSURES = 12
N_KILLS = 10
PLUGIN = """
import os, resource
from consumer.regions.single_raw_wcs import SingleRawWcs

class Fragile(SingleRawWcs):
    def compute(self, exposures, raws):
        return self.compute_many([(exposures, raws)])[0]

    def compute_many(self, visits):
        if any(exposure.target_name == "poison" for exposures, _ in visits for exposure in exposures):
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.abort()
        return [SingleRawWcs.compute(self, exposures, raws) for exposures, raws in visits]
"""


@pytest.fixture
def fragile(tmp_path: Path) -> dict[str, str]:
    """Install a region algorithm that aborts on one target, and return the environment that knows it."""
    site = tmp_path / "site"
    info = site / "fragile-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "fragile.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fragile\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[visit_consumer.region_algorithms]\nfragile = fragile:Fragile\n")
    return {"PYTHONPATH": os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])}


def test_poison_that_aborts_the_process(scene: Scene, fragile: dict[str, str]) -> None:
    sections = {"instruments": {"LSSTCam": {"regions": {"algorithm": "fragile"}}}}
    (poison,) = night(500, 500, 1, target_name="poison")
    messages = [each._replace(partition=0) for each in night(1, N_EXPOSURES)]
    scene.produce([*messages[:150], poison._replace(partition=0), *messages[150:]])
    scene.produce([each._replace(partition=1) for each in night(101, 110)])
    replica = Replica(scene.folder, scene.configure(**sections), name="fragile", environment=fragile)
    scene.replicas.append(replica)
    starts = 0
    wanted = sum(scene.kafka.ends(scene.topic).values())
    while scene.read() < wanted:
        assert starts <= 3, replica.log_tail()  # one that hangs is ended by pytest's own timeout
        if not replica.running:
            replica.start()
            starts += 1
        time.sleep(0.1)
    assert replica.running
    assert starts == 3, "the third process knows where the two before it died"
    scene.harmed()
    letters = snapshot(scene.dsn)["dead_letter"]
    assert [("poison" in map(str, row), 150 in row) for row in letters] == [(True, True)]
    log = scene.log()
    good = replace(log, messages=[each for each in log.messages if each.value != poison.value])
    with scene.server.database(prepare_database) as calm:
        replay(calm, scene.settings | {"instruments": {"LSSTCam": {}}}, [good])
        found, expected = snapshot(scene.dsn), snapshot(calm)
    found["dead_letter"] = []
    result = difference(found, expected)
    scene.table.add(len(log.messages), scene.since_harmed_s, lost=result.lost, doubled=result.doubled)
    assert not result.example
    assert len(found["visit"]) == N_EXPOSURES + 10


def _children(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(each) for each in found.stdout.split()]


def test_ten_kills_over_a_good_log_are_no_poison(scene: Scene) -> None:
    """Nothing can be committed, so that each process dies where the one before died: killed, drained, out of memory."""
    scene.produce(night(1, N_EXPOSURES))
    replica = scene.replica()
    with scene.connect() as holder:
        holder.execute("LOCK TABLE visits.visit_detector_region IN SHARE MODE")
        for number in range(N_KILLS):
            replica.start()
            scene.until_waiting(replica)
            if number % 3 == 1:  # the kernel takes the child, and later all
                for each in _children(replica.pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(each, signal.SIGKILL)
                time.sleep(0.5)
            if number % 4 == 3:
                replica.terminate()
            else:
                replica.kill()
            with scene.connect() as connection:  # what a dead process asked goes on waiting
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                )
    with scene.connect() as connection:
        ((leases,),) = connection.execute("SELECT max(lease_count) FROM visits.consumer_offset").fetchall()
    assert leases == N_KILLS
    scene.harmed()
    with replica:
        scene.judge(replica, dead_letters=0)
