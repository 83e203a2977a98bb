"""Hostile headers, and deaths of the process that reads them: each bad header is one dead letter, and nothing stops."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from consumer.errors import BadMessageError
from consumer.events import encode
from consumer.model import RawIngested
from consumer.regions import RegionSettings, get_algorithm
from tests.faults.conftest import Scene, assert_undisturbed
from tests.support.exposures import exposure
from tests.support.headers import SIZE, hostile_header
from tests.support.service import Wire
from tests.support.skies import HEADERS, cards_of, written
from tests.support.tables import snapshot

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

INSTRUMENTS = {"LSSTCam": {"regions": {"algorithm": "full-raw-wcs", "padding": 0}}}
GOOD = written(
    {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": 20.0, "CRPIX1": 1024.5, "CRPIX2": 2048.5,
        "CD1_1": -1e-4, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 1e-4,
    }
)  # fmt: skip


def raw_of(number: int, cards: str) -> RawIngested:
    return RawIngested(
        exposure=exposure(number, instrument="LSSTCam"), detector=0, wcs=cards, naxis1=SIZE[0], naxis2=SIZE[1]
    )


def wire(raw: RawIngested) -> Wire:
    return Wire(encode(raw), partition=raw.exposure.id % 4)


def is_bad(raw: RawIngested) -> bool:
    try:
        get_algorithm("full-raw-wcs", RegionSettings(padding=0)).observe(raw)
    except BadMessageError:
        return True
    return False


def children_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


@pytest.mark.parametrize("number", [400, pytest.param(2000, marks=pytest.mark.long)])
def test_hostile_headers(scene: Scene, number: int) -> None:
    random = np.random.default_rng(5)
    headers = [hostile_header(random) for _ in range(number - 3)] + 3 * [
        cards_of(HEADERS / "public" / "tnx-wat-abort.hdr")
    ]
    raws = [raw_of(2 * place + 1, cards) for place, cards in enumerate(headers)]
    neighbours = [raw_of(2 * place + 2, GOOD) for place in range(0, len(raws), 10)]
    bad = sum(map(is_bad, raws))
    replica = scene.replica(instruments=INSTRUMENTS, breaker={"enabled": False})
    scene.produce([wire(raw) for raw in sorted([*raws, *neighbours], key=lambda raw: raw.exposure.id)])
    with replica:
        scene.harmed()
        scene.judge(replica, dead_letters=bad, timeout_s=240)
        assert_undisturbed(replica)
    assert 0.5 < bad / number < 0.95
    letters = snapshot(scene.dsn)["dead_letter"]
    assert sum("wcslib breaks on its cards" in str(letter) for letter in letters) >= 3


def test_the_process_that_reads_headers_is_killed_again_and_again(scene: Scene) -> None:
    replica = scene.replica(instruments=INSTRUMENTS, batch={"max_messages": 20})
    with replica:
        for step in range(10):
            scene.produce([wire(raw_of(number, GOOD)) for number in range(100 * step + 1, 100 * step + 101)])
            scene.until(replica, 100 * step + 10)
            for child in children_of(replica.pid):
                os.kill(child, signal.SIGKILL)
        scene.harmed()
        scene.judge(replica)
        assert_undisturbed(replica)
