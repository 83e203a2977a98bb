"""Sidecars of a night of LSSTCam, made of one real header: what changes from exposure to exposure changes here too."""

import json
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from consumer.regions.camera.files import find_or_load

DAY_OBS = 20260901
FIRST_MJD = 61285.1
"""TAI; 2026-09-02T02:24:00."""
CADENCE_DAYS = 34 / 86400
_HEADER = Path(__file__).parents[1] / "data" / "sources" / "lsstcam_header.json"


class SideFile(NamedTuple):
    """One object that an observatory writes."""

    key: str
    content: bytes


@cache
def detector_names() -> tuple[str, ...]:
    """Return the names of LSSTCam's 205 detectors, by their ids."""
    camera = find_or_load("lsstcam")
    return tuple(each.name for each in sorted(camera.detectors, key=lambda each: each.id))


@cache
def _real_header() -> dict[str, Any]:
    header: dict[str, Any] = json.loads(_HEADER.read_text(encoding="utf-8"))
    return header


def exposure_name(number: int) -> str:
    """Return the obs_id of an exposure."""
    return f"MC_O_{DAY_OBS}_{number:06d}"


def exposure_id(number: int) -> int:
    """Return the id of an exposure."""
    return DAY_OBS * 100_000 + number


def key_of(number: int, suffix: str) -> str:
    """Return the key of a file of an exposure, as Rubin names them."""
    name = exposure_name(number)
    return f"LSSTCam/{DAY_OBS}/{name}/{name}_{suffix}"


def header_of(number: int, detector: str) -> dict[str, Any]:
    """Return the header of one raw."""
    begin = FIRST_MJD + number * CADENCE_DAYS
    raft, _, slot = detector.partition("_")
    return _real_header() | {
        "OBSID": exposure_name(number),
        "DAYOBS": str(DAY_OBS),
        "SEQNUM": number,
        "GROUPID": f"2026-09-02T02:24:00.000+{number}",
        "RAFTBAY": raft,
        "CCDSLOT": slot,
        "MJD-BEG": begin,
        "MJD-OBS": begin,
        "MJD-END": begin + 30 / 86400,
        "DATE-END": None,
        "RASTART": (number * 7.3) % 360,
        "DECSTART": -60 + number * 0.3,
        "RA": (number * 7.3) % 360,
        "DEC": -60 + number * 0.3,
        "FILTER": "r_57",
    }


def sidecars(number: int, detectors: Sequence[str] | None = None) -> Iterator[SideFile]:
    """Yield the sidecars of an exposure, of all detectors unless some are named."""
    for each in detector_names() if detectors is None else detectors:
        yield SideFile(key_of(number, f"{each}.json"), json.dumps(header_of(number, each)).encode())


def expected_sensors(number: int) -> SideFile:
    """Return the file of expected sensors of an exposure: all detectors."""
    content = {
        "fileName": f"{exposure_name(number)}_expectedSensors.json",
        "fileType": "expectedSensors",
        "obsId": exposure_name(number),
        "version": 1.0,
        "expectedSensors": dict.fromkeys(detector_names(), "SCIENCE"),
    }
    return SideFile(key_of(number, "expectedSensors.json"), json.dumps(content).encode())


def write(folder: Path, file: SideFile) -> None:
    """Write a file into a folder as an observatory does: in place, and not by renaming."""
    path = folder / file.key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file.content)
