"""Camera files: JSON to `Camera`, with errors that name file and key.

The format is documented in ``data/README.md`` beside this module. The package's own cameras are found by name,
any other by its path.
"""

import functools
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Final

import numpy as np

from consumer.errors import CameraError
from consumer.regions.camera.checked_json import Checked
from consumer.regions.camera.geometry import (
    ARCSEC,
    Camera,
    CameraSet,
    Detector,
    DetectorType,
    FieldAngle,
    PolynomialFieldAngle,
    Purpose,
    RadialFieldAngle,
)

FORMAT: Final = "visit-consumer-camera/1"
_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?")
_NEUTRAL_KEYS: Final = ("name", "version", "valid_from_tai", "valid_until_tai", "note", "format")
"""Keys that change no region, and so stay out of the digest."""


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
        data = json.loads(text)
    except ValueError as error:
        raise CameraError(f"camera file {source}: not JSON: {error}") from error
    top = Checked(data, source)
    top.refuse_unknown(
        "format", "name", "version", "note", "flip_x", "field_angle", "detector_types", "detectors",
        "valid_from_tai", "valid_until_tai",
    )  # fmt: skip
    if (found := top.text("format")) != FORMAT:
        raise top.error("format", f"is {found!r}; this release reads {FORMAT!r}")
    types = {key: _detector_type(item) for key, item in top.mapping("detector_types").items()}
    detectors = tuple(sorted((_detector(d, types) for d in top.sequence("detectors")), key=lambda d: d.id))
    _refuse_repeats(top, "id", [str(d.id) for d in detectors])
    _refuse_repeats(top, "name", [d.name for d in detectors])
    valid_from, valid_until = _instant(top, "valid_from_tai"), _instant(top, "valid_until_tai")
    if valid_from is not None and valid_until is not None and valid_from >= valid_until:
        raise top.error("valid_until_tai", "is not after valid_from_tai")
    return Camera(
        name=top.text("name"),
        version=top.text("version"),
        digest=_digest(data),
        field_angle=_field_angle(top.child("field_angle")),
        flip_x=top.boolean("flip_x"),
        detectors=detectors,
        valid_from_tai_ns=valid_from,
        valid_until_tai_ns=valid_until,
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


def _instant(top: Checked, key: str) -> int | None:
    """Read an ISO instant, TAI, as nanoseconds since 1970-01-01T00:00:00 TAI (a scale without leap seconds)."""
    if not top.has(key):
        return None
    value = top.text(key)
    if not _INSTANT.fullmatch(value):
        raise top.error(key, f"is {value!r}; write an instant in TAI as 2025-04-15T12:00:00")
    try:
        return int(np.datetime64(value, "ns").astype(np.int64))
    except ValueError as error:
        raise top.error(key, f"is {value!r}, which no calendar has") from error


def _detector_type(item: Checked) -> DetectorType:
    item.refuse_unknown("bbox_px", "pixel_size_mm", "ref_pixel_px")
    corners = item.pairs("bbox_px", 2)
    bounds = tuple((int(x), int(y)) for x, y in corners)
    if bounds != corners:
        raise item.error("bbox_px", "needs integers: the inclusive pixel bounds [[x_min, y_min], [x_max, y_max]]")
    low, high = bounds
    if low[0] > high[0] or low[1] > high[1]:
        raise item.error("bbox_px", f"is empty: {low} to {high}")
    pixel_size = item.pair("pixel_size_mm")
    if min(pixel_size) <= 0:
        raise item.error("pixel_size_mm", "needs two numbers above zero")
    return DetectorType(bbox_px=(low, high), pixel_size_mm=pixel_size, ref_pixel_px=item.pair("ref_pixel_px"))


def _detector(item: Checked, types: Mapping[str, DetectorType]) -> Detector:
    item.refuse_unknown("id", "name", "type", "purpose", "position_mm", "yaw_deg", "pitch_deg", "roll_deg")
    type_name = item.text("type")
    if type_name not in types:
        raise item.error("type", f"is {type_name!r}, which detector_types does not have")
    purpose = item.text("purpose", default="science")
    if purpose not in set(Purpose):
        raise item.error("purpose", f"is {purpose!r}; known are {', '.join(Purpose)}")
    return Detector(
        id=item.index("id"),
        name=item.text("name"),
        type=types[type_name],
        purpose=Purpose(purpose),
        position_mm=item.pair("position_mm"),
        yaw_deg=item.number("yaw_deg", default=0.0),
        pitch_deg=item.number("pitch_deg", default=0.0),
        roll_deg=item.number("roll_deg", default=0.0),
    )


def _field_angle(item: Checked) -> FieldAngle:
    kind = item.text("kind")
    if kind == "radial":
        return _radial(item)
    if kind == "polynomial2d":
        return _polynomial(item)
    raise item.error("kind", f"is {kind!r}; known are radial and polynomial2d")


def _radial(item: Checked) -> RadialFieldAngle:
    if item.has("coefficients_rad"):
        item.refuse_unknown("kind", "coefficients_rad")
        key, scale = "coefficients_rad", 1.0
    else:
        item.refuse_unknown("kind", "plate_scale_arcsec_per_mm", "relative_coefficients")
        key, scale = "relative_coefficients", item.number("plate_scale_arcsec_per_mm") * ARCSEC
    coefficients = item.numbers(key)
    if len(coefficients) < 2 or coefficients[0] != 0:  # noqa: PLR2004 - a constant and a linear term
        raise item.error(key, "needs a first coefficient of zero and at least a second one")
    return RadialFieldAngle(coefficients_rad=tuple(scale * c for c in coefficients))


def _polynomial(item: Checked) -> PolynomialFieldAngle:
    item.refuse_unknown("kind", "order", "unit_mm", "scale_arcsec", "x_coefficients", "y_coefficients")
    order = item.index("order")
    terms = math.comb(order + 2, 2)
    axes = {key: item.numbers(key) for key in ("x_coefficients", "y_coefficients")}
    for key, coefficients in axes.items():
        if len(coefficients) != terms:
            raise item.error(key, f"has {len(coefficients)} numbers; order {order} needs {terms}")
    unit_mm = item.number("unit_mm")
    if unit_mm <= 0:
        raise item.error("unit_mm", "needs a number above zero")
    return PolynomialFieldAngle(order=order, unit_mm=unit_mm, scale_arcsec=item.number("scale_arcsec"), **axes)


def _refuse_repeats(top: Checked, key: str, values: Sequence[str]) -> None:
    repeated = sorted({v for v in values if values.count(v) > 1})
    if repeated:
        raise top.error("detectors", f"two detectors have the same {key}: {', '.join(repeated)}")
    if not values:
        raise top.error("detectors", "is empty; a camera has at least one detector")
