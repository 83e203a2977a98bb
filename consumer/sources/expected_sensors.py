"""The side file of an exposure that lists which detectors will bring a raw: Rubin's ``_expectedSensors.json``."""

import json
from dataclasses import dataclass
from typing import Any, BinaryIO

from consumer.sources.model import NotReadableYetError, RejectedError, RejectReason

_MAX_BYTES = 1_048_576
_MAX_DETECTORS = 100_000
_SCIENCE = "SCIENCE"
_KINDS = frozenset({_SCIENCE, "GUIDER"})
"""A guider brings a file of its own kind, which is no raw."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedSensors:
    """What such a file says."""

    obs_id: str
    detectors: tuple[str, ...]
    """Names of the detectors that will bring a raw, as the camera has them."""


def read_sensors(stream: BinaryIO, uri: str) -> ExpectedSensors:
    """Read such a file, which is open; raises as `parse_expected_sensors`, also where it is too large."""
    content = stream.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise RejectedError(RejectReason.TOO_LARGE, f"a file of expected sensors may have {_MAX_BYTES} bytes", uri=uri)
    return parse_expected_sensors(content, uri)


def parse_expected_sensors(content: bytes, uri: str) -> ExpectedSensors:
    """Parse such a file; ``uri`` is its address, for errors.

    Raises
    ------
    NotReadableYetError
        If it is empty or no JSON: cut off perhaps, while it is written.
    RejectedError
        If it is JSON of another kind.
    """
    try:
        file: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise NotReadableYetError(RejectReason.TRUNCATED, f"expected sensors: no JSON ({error})", uri=uri) from error
    obs_id = file.get("obsId") if isinstance(file, dict) else None
    sensors = file.get("expectedSensors") if isinstance(file, dict) else None
    if not isinstance(obs_id, str) or not obs_id or not isinstance(sensors, dict) or len(sensors) > _MAX_DETECTORS:
        raise RejectedError(
            RejectReason.BAD_EXPECTED_SENSORS,
            "expected sensors: need obsId, a text, and expectedSensors, an object",
            uri=uri,
        )
    unknown = sorted({str(kind)[:40] for kind in sensors.values() if str(kind) not in _KINDS})
    if unknown:
        raise RejectedError(
            RejectReason.BAD_EXPECTED_SENSORS,
            f"expectedSensors: kinds {', '.join(unknown[:5])} are neither SCIENCE nor GUIDER",
            uri=uri,
        )
    return ExpectedSensors(obs_id=obs_id, detectors=tuple(name for name, kind in sensors.items() if kind == _SCIENCE))
