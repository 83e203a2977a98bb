"""The process that reads headers: what dies in it harms nobody, and it outlives nobody."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from consumer.errors import TransientError
from consumer.regions.wcs.isolated import IsolatedWcs
from tests.support.skies import HEADERS, cards_of, written
from tests.support.waiting import give_up_at

CARDS = written(
    {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 0.0, "CRVAL2": 0.0, "CRPIX1": 1.0, "CRPIX2": 1.0,
        "CD1_1": 1e-4, "CD2_2": 1e-4,
    }
)  # fmt: skip
ABORTS = cards_of(HEADERS / "public" / "tnx-wat-abort.hdr")
ORIGIN = np.zeros((1, 2))


@pytest.fixture
def isolated() -> Iterator[IsolatedWcs]:
    reader = IsolatedWcs()
    yield reader
    reader._child.close()


def pid(reader: IsolatedWcs) -> int:
    assert reader._child._process is not None
    return reader._child._process.pid


def test_a_header_that_aborts_its_reader_harms_no_other(isolated: IsolatedWcs) -> None:
    for _ in range(3):
        assert isolated.icrs_vectors(CARDS, ORIGIN)[0, 0] == 1.0
        first = pid(isolated)
        with pytest.raises(ValueError, match="wcslib breaks on its cards"):
            isolated.icrs_vectors(ABORTS, ORIGIN)
        assert pid(isolated) == first, "what is suspicious is read in a process of its own"


def test_a_reader_that_was_killed_is_started_again_and_the_header_is_read(isolated: IsolatedWcs) -> None:
    isolated.icrs_vectors(CARDS, ORIGIN)
    for number in (signal.SIGKILL, signal.SIGSEGV):
        before = pid(isolated)
        os.kill(before, number)
        assert isolated.icrs_vectors(CARDS, ORIGIN)[0, 0] == 1.0
        assert pid(isolated) != before


def test_one_that_does_not_answer_is_a_reason_to_ask_again(
    isolated: IsolatedWcs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumer.regions.wcs.isolated._ANSWER_S", 0.0)
    with pytest.raises(TransientError, match="does not answer"):
        isolated.icrs_vectors(CARDS, ORIGIN)
    monkeypatch.undo()
    assert isolated.icrs_vectors(CARDS, ORIGIN)[0, 0] == 1.0


def test_a_machine_without_room_for_another_process_is_a_reason_to_ask_again(
    isolated: IsolatedWcs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("consumer.process.child.subprocess.Popen", no_room)
    with pytest.raises(TransientError, match="does not answer"):
        isolated.icrs_vectors(CARDS, ORIGIN)
    monkeypatch.undo()
    assert isolated.icrs_vectors(CARDS, ORIGIN)[0, 0] == 1.0


def test_it_ends_with_the_process_that_needed_it(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    program = f"""
import os, signal, numpy
from pathlib import Path
from consumer.regions.wcs.isolated import ISOLATED
ISOLATED.icrs_vectors({CARDS!r}, numpy.zeros((1, 2)))
Path({str(file)!r}).write_text(str(ISOLATED._child._process.pid))
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    reader = int(file.read_text())
    deadline = give_up_at(20)
    while Path(f"/proc/{reader}").exists() and "Z" not in Path(f"/proc/{reader}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
