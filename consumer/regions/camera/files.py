"""Camera files: JSON to `Camera`, with errors that name file and key.

The format is documented in ``data/README.md`` beside this module. The package's own cameras are found by name,
any other by its path.
"""

import functools
import hashlib
import json
import re
import reprlib
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Final, Literal, Self

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from consumer.errors import CameraError
from consumer.regions.camera.geometry import (
    ARCSEC,
    Camera,
    CameraSet,
    Detector,
    DetectorType,
    Filter,
    PolynomialFieldAngle,
    Purpose,
    RadialFieldAngle,
)

_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?")
_NEUTRAL_KEYS: Final = ("name", "version", "valid_from_tai", "valid_until_tai", "note", "format", "filters")
"""Keys that change no region, and so stay out of the digest."""


def _tai_ns(instant: object) -> int:
    """Read an ISO instant, TAI, as nanoseconds since 1970-01-01T00:00:00 TAI (a scale without leap seconds)."""
    if not isinstance(instant, str) or not _INSTANT.fullmatch(instant):
        raise ValueError("write an instant in TAI as 2025-04-15T12:00:00")
    try:
        return int(np.datetime64(instant, "ns").astype(np.int64))
    except ValueError as error:
        raise ValueError("no calendar has this instant") from error


_Instant = Annotated[int, BeforeValidator(_tai_ns)]


class _Part(BaseModel):
    """Base of what a file holds: no unknown key, no empty text, finite numbers, nothing converted."""

    model_config = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, str_strip_whitespace=True, str_min_length=1
    )


class _Radial(_Part):
    """A distortion along the radius, in radians or relative to a plate scale."""

    kind: Literal["radial"]
    coefficients_rad: tuple[float, ...] | None = None
    plate_scale_arcsec_per_mm: float | None = None
    relative_coefficients: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        self.field_angle()
        return self

    def field_angle(self) -> RadialFieldAngle:
        """Return the distortion in radians."""
        match self.coefficients_rad, self.plate_scale_arcsec_per_mm, self.relative_coefficients:
            case tuple() as coefficients, None, None:
                return RadialFieldAngle(coefficients_rad=coefficients)
            case None, float() as scale, tuple() as relative:
                return RadialFieldAngle(coefficients_rad=tuple(scale * ARCSEC * c for c in relative))
        raise ValueError("needs either coefficients_rad, or plate_scale_arcsec_per_mm and relative_coefficients")


class _Detector(_Part):
    """As `Detector`, with the name of its type."""

    id: Annotated[int, Field(ge=0, lt=2**31)]  # detector ids are PostgreSQL integers
    name: str
    type: str
    purpose: Purpose = Purpose.SCIENCE
    position_mm: tuple[float, float]
    yaw_deg: float = 0.0
    pitch_deg: float = 0.0
    roll_deg: float = 0.0


class _CameraFile(_Part):
    """A whole file."""

    format: Literal["visit-consumer-camera/1"]
    name: str
    version: str
    note: object = None
    valid_from_tai: _Instant | None = None
    valid_until_tai: _Instant | None = None
    flip_x: bool
    field_angle: Annotated[_Radial | PolynomialFieldAngle, Field(discriminator="kind")]
    detector_types: dict[str, DetectorType]
    detectors: Annotated[list[_Detector], Field(min_length=1)]
    filters: tuple[Filter, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for index, detector in enumerate(self.detectors):
            if detector.type not in self.detector_types:
                raise ValueError(f"detectors[{index}].type is {detector.type!r}, which detector_types does not have")
        for key in ("id", "name"):
            values = Counter(getattr(detector, key) for detector in self.detectors)
            if repeated := [str(value) for value, count in values.items() if count > 1]:
                raise ValueError(f"detectors: several have the same {key}: {', '.join(repeated)}")
        start, end = self.valid_from_tai, self.valid_until_tai
        if start is not None and end is not None and start >= end:
            raise ValueError("valid_until_tai is not after valid_from_tai")
        return self


def parse_camera(text: str, source: str) -> Camera:
    """Make a camera of the text of a camera file.

    Parameters
    ----------
    text
        JSON in the format of ``consumer/regions/camera/data/README.md``.
    source
        The file's name, for messages.

    Raises
    ------
    CameraError
        If the text is not such a file; names the file and the key.
    """
    try:
        file = _CameraFile.model_validate_json(text)
    except ValidationError as error:
        first, *further = (f"camera file {source}: {_problem(each)}" for each in error.errors())
        raise CameraError(first, further) from error
    detectors = (
        Detector(**{**dict(item), "type": file.detector_types[item.type]})
        for item in sorted(file.detectors, key=lambda item: item.id)
    )
    distortion = file.field_angle
    return Camera(
        name=file.name,
        version=file.version,
        digest=_digest(json.loads(text)),
        field_angle=distortion.field_angle() if isinstance(distortion, _Radial) else distortion,
        flip_x=file.flip_x,
        detectors=tuple(detectors),
        valid_from_tai_ns=file.valid_from_tai,
        valid_until_tai_ns=file.valid_until_tai,
        filters=file.filters,
    )


def load_camera(path: Path) -> Camera:
    """Read one camera file.

    Raises
    ------
    CameraError
        If the file cannot be read or is not a camera file.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CameraError(f"camera file {path}: cannot be read: {error}") from error
    return parse_camera(text, str(path))


def built_in_names() -> tuple[str, ...]:
    """Names of the cameras that the package ships, lower case."""
    entries = resources.files("consumer.regions.camera").joinpath("data").iterdir()
    return tuple(sorted(e.name.removesuffix(".json") for e in entries if e.name.endswith(".json")))


@functools.cache
def built_in_camera(name: str) -> Camera:
    """Return a camera that the package ships; upper and lower case are the same.

    Raises
    ------
    CameraError
        If the package ships no camera of this name.
    """
    if name.lower() not in built_in_names():
        known = ", ".join(built_in_names())
        raise CameraError(f"no built-in camera is called {name!r}; there are {known}, or give the path of a file")
    file = resources.files("consumer.regions.camera").joinpath("data", f"{name.lower()}.json")
    return parse_camera(file.read_text(encoding="utf-8"), str(file))


def find_or_load(name_or_path: str) -> Camera:
    """Return a built-in camera by name, or read a file: whatever ends in ``.json`` or has a slash is a path."""
    if name_or_path.endswith(".json") or "/" in name_or_path:
        return load_camera(Path(name_or_path))
    return built_in_camera(name_or_path)


def camera_set(names_or_paths: Iterable[str]) -> CameraSet:
    """Make one camera of its files, each a built-in name or a path.

    Raises
    ------
    CameraError
        If a file is wrong, or the files do not make one camera.
    """
    return CameraSet(tuple(find_or_load(item) for item in names_or_paths))


def _digest(data: Mapping[str, object]) -> str:
    """Digest the numbers of a file, independent of its layout, name and version."""
    relevant = {key: value for key, value in data.items() if key not in _NEUTRAL_KEYS}
    canonical = json.dumps(relevant, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()


def _problem(detail: ErrorDetails) -> str:
    """Describe one of pydantic's errors: key, fault and value."""
    loc = detail["loc"]
    if loc[:1] == ("field_angle",):
        loc = (loc[0], *loc[2:])  # pydantic puts the kind between
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")
    match detail["type"]:
        case "missing":
            return f"{key} is missing"
        case "extra_forbidden" | "unexpected_keyword_argument":
            return f"{key} is no known key"
    fault = detail["msg"].removeprefix("Value error, ")
    got = "" if isinstance(detail["input"], dict) else f", got {reprlib.repr(detail['input'])}"
    return f"{key}: {fault}{got}" if key else f"{fault}{got}"
