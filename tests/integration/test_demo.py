"""The demo, run as a user runs it, twice on one database; and out of a wheel, away from the checkout."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.children import ended

ROOT = Path(__file__).parents[2]
PNG = b"\x89PNG\r\n\x1a\n"
LANDED = [
    ("AT_O_20230705_000379_R00_S00.json", "LATISS", "2023070500379"),
    ("MC_O_20250415_000060_R01_S01.json", "LSSTCam", "2025041500060"),
    ("MC_O_20250609_000578_R01_S01.json", "LSSTCam", "2025060900578"),
]
"""Files that land, and the ids that Rubin gave their exposures: each is a visit by itself."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder that the account of PostgreSQL can reach: pytest closes its own to others whenever a run starts."""
    with tempfile.TemporaryDirectory(prefix="visit-consumer-demo-") as name:
        yield Path(name)


def run_demo(command: Path, directory: Path, output: Path) -> str:
    done = subprocess.run(
        [command, "demo", "--directory", directory, "--output", output],
        cwd=directory.parent,
        env={**os.environ, "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def fact(output: str, name: str) -> str:
    found = re.search(rf"^{re.escape(name)}\s\s+(.*?)\s*$", output, re.MULTILINE)
    assert found is not None, output
    return found[1]


def landed(output: str) -> list[tuple[str, str, str]]:
    return re.findall(r"^  (\S+\.json): (\w+) visit (\d+) after \d+\.\d s$", output, re.MULTILINE)


def test_the_demo_passes_and_a_second_run_reads_as_much_and_touches_nothing(folder: Path) -> None:
    command = Path(sys.executable).with_name("visit-consumer")
    first = run_demo(command, folder / "data", folder / "pictures")
    assert (folder / "pictures" / "footprint.png").read_bytes().startswith(PNG)
    difference = float(fact(first, "largest difference to the published regions").split()[0])
    assert 0 <= difference <= 1e-12
    visits = int(fact(first, "visits").split()[0])
    assert visits > 40
    assert "All as published." in first
    assert re.search(r"The page of this night was at http://127\.0\.0\.1:\d+: run with --stay", first)
    assert landed(first) == LANDED

    second = run_demo(command, folder / "data", folder / "pictures")
    assert fact(second, "events read") == fact(first, "events read")
    assert fact(second, "visits") == f"{visits} (0 new, 0 of {visits} stored ones touched)"
    assert landed(second) == LANDED
    assert not [path for path in (folder / "data").iterdir() if path.name.startswith("landing")]


@pytest.mark.slow
def test_the_servers_end_with_a_demo_that_is_told_to_end(folder: Path) -> None:
    command = Path(sys.executable).with_name("visit-consumer")
    with subprocess.Popen(
        [command, "demo", "--stay", "--exposures", "2", "--directory", folder / "data", "--output", folder / "out"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        assert any(re.search(r"status of the consumer: http://127\.0\.0\.1:\d+", line) for line in demo.stdout)
        (lock,) = (folder / "data").rglob("postmaster.pid")
        postgres = int(lock.read_text().split()[0])
        demo.terminate()
        assert demo.wait(30) == 128 + signal.SIGTERM
    assert ended(postgres)


@pytest.mark.long
def test_the_wheel_carries_all_that_the_demo_needs(folder: Path) -> None:
    build: list[str | Path] = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run(build, check=True, capture_output=True)
    wheel = next(folder.glob("visit_consumer-*.whl"))
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    # Not compiled: of astropy and matplotlib only a part is imported
    install: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--no-compile"]
    install += ["-c", ROOT / "constraints.txt"]
    subprocess.run([*install, f"{wheel}[demo]"], check=True, capture_output=True)
    where: list[str | Path] = [python, "-c", "import consumer; print(consumer.__file__)"]
    found = subprocess.run(where, cwd=folder, check=True, capture_output=True, text=True).stdout
    assert found.startswith(str(folder))
    output = run_demo(python.with_name("visit-consumer"), folder / "data", folder)
    assert "All as published." in output
    # Of another extra, which the demo does without
    assert re.search(r"^No files land: .*watchfiles.* missing; pip install '\.\[sources\]'", output, re.MULTILINE)
    assert not landed(output)
