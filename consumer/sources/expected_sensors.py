"""The side file of an exposure that lists which detectors will bring a raw: Rubin's ``_expectedSensors.json``. Pure."""

import json
from dataclasses import dataclass
from typing import Any

from consumer.sources.outcomes import NotReadableError, RejectedError, RejectionReason, WaitingReason

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


def parse_expected_sensors(content: bytes) -> ExpectedSensors:
    """Parse such a file.

    Raises
    ------
    NotReadableError
        If it is empty or no JSON: cut off perhaps, while it is written.
    RejectedError
        If it is JSON of another kind.
    """
    try:
        file: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise NotReadableError(WaitingReason.INCOMPLETE, f"expected sensors: no JSON ({error})") from error
    obs_id = file.get("obsId") if isinstance(file, dict) else None
    sensors = file.get("expectedSensors") if isinstance(file, dict) else None
    if not isinstance(obs_id, str) or not obs_id or not isinstance(sensors, dict) or len(sensors) > _MAX_DETECTORS:
        raise RejectedError(
            RejectionReason.BAD_EXPECTED_SENSORS, "expected sensors: need obsId, a text, and expectedSensors, an object"
        )
    unknown = sorted({str(kind)[:40] for kind in sensors.values() if str(kind) not in _KINDS})
    if unknown:
        raise RejectedError(
            RejectionReason.BAD_EXPECTED_SENSORS,
            f"expectedSensors: kinds {', '.join(unknown[:5])} are neither SCIENCE nor GUIDER",
        )
    return ExpectedSensors(obs_id=obs_id, detectors=tuple(name for name, kind in sensors.items() if kind == _SCIENCE))
