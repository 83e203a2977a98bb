"""Several workers keep the promises that no other test would notice broken: who is alone, what stays together."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

_ROOT = Path(__file__).parents[2]
_TESTS = """
import os, time
from pathlib import Path
import pytest

HERE = Path(__file__).parent

@pytest.fixture(scope="module")
def shared():
    return None

def note(name):
    begin = time.monotonic()
    time.sleep(0.2)
    line = f'["{name}", "{os.environ["PYTEST_XDIST_WORKER"]}", {begin}, {time.monotonic()}]'
    (HERE / f"{name}.json").write_text(line)

@pytest.mark.parametrize("n", range(4))
def test_free(n):
    note(f"free-{n}")

@pytest.mark.parametrize("n", range(3))
def test_together(shared, n):
    note(f"together-{n}")

@pytest.mark.alone
@pytest.mark.parametrize("n", range(3))
def test_alone(n):
    note(f"alone-{n}")

def test_that_ends_its_worker():
    if not (HERE / "ended").exists():
        (HERE / "ended").touch()
        os._exit(1)
"""


class Noted(NamedTuple):
    """When a test ran, and where."""

    name: str
    worker: str
    begin_s: float
    end_s: float


def run(folder: Path, *options: str) -> tuple[str, list[Noted]]:
    """Run the tests above with workers; return the closing line, and what each test has noted."""
    (folder / "test_these.py").write_text(_TESTS)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = alone\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.support.parallel", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, f"--rootdir={folder}", f"--basetemp={folder / 'base'}", *options, folder],
        cwd=_ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    assert not list(folder.glob("visit-consumer-*"))
    noted = [Noted(*json.loads(file.read_text())) for file in folder.glob("*-*.json")]
    return done.stdout.splitlines()[-1], noted


def test_some_stay_together_and_nobody_runs_beside_one_that_is_alone(tmp_path: Path) -> None:
    closing, noted = run(tmp_path, "-n3", "-k", "not ends")
    assert "10 passed" in closing
    assert len({each.worker for each in noted if each.name.startswith("together")}) == 1
    others_end_s = max(each.end_s for each in noted if not each.name.startswith("alone"))
    alone = sorted((each for each in noted if each.name.startswith("alone")), key=lambda each: each.begin_s)
    assert len(alone) == 3
    for before_s, each in zip([others_end_s, *(each.end_s for each in alone)], alone, strict=False):
        assert each.begin_s >= before_s


def test_the_work_of_a_worker_that_died_is_done_by_another(tmp_path: Path) -> None:
    closing, noted = run(tmp_path, "-n2")
    assert "1 failed, 11 passed" in closing
    assert len(noted) == 10
