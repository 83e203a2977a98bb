"""Camera files: what ships, what is refused, and what a check finds."""

import copy
import json
import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from consumer.errors import CameraError
from consumer.regions import (
    CameraSet,
    RegionSettings,
    built_in_camera,
    built_in_names,
    camera_set,
    find_or_load,
    get_algorithm,
    load_camera,
    parse_camera,
)
from consumer.regions.camera.check import Severity, check_camera
from consumer.regions.camera.geometry import Purpose
from tests.support.skies import exposure_at

README = resources.files("consumer.regions.camera").joinpath("data", "README.md").read_text(encoding="utf-8")
NOMINAL: dict[str, Any] = json.loads(re.findall(r"```json\n(.*?)```", README, re.DOTALL)[0])  # JSON
EXAMPLE = {**NOMINAL, "valid_from_tai": "2026-01-01T00:00:00", "valid_until_tai": "2026-07-01T00:00:00"}

POLYNOMIAL: dict[str, Any] = {  # JSON
    "kind": "polynomial2d",
    "order": 1,
    "unit_mm": 1.0,
    "scale_arcsec": 20.0,
    "x_coefficients": [0.0, 0.0, 1.0],
    "y_coefficients": [0.0, 1.0, 0.0],
}


def changed(*path: str | int, to: object) -> str:
    """Return the example with one value replaced, or left out where ``to`` is Ellipsis."""
    content: Any = copy.deepcopy(EXAMPLE)  # JSON
    *parents, last = path
    inner = content
    for key in parents:
        inner = inner[key]
    if to is ...:
        del inner[last]
    else:
        inner[last] = to
    return json.dumps(content)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_the_readme_example_is_a_camera_that_works(tmp_path: Path) -> None:
    path = write(tmp_path / "twincam.json", json.dumps(EXAMPLE))
    assert check_camera(path) == []
    assert check_camera(write(tmp_path / "nominal.json", json.dumps(NOMINAL))) == []
    algorithm = get_algorithm(
        "single-raw-wcs", RegionSettings(require_versioned_camera=True), [camera_set([str(path)])]
    )
    in_march = exposure_at(10.0, 20.0, 30.0, begin=1772800000 * 10**9)
    regions = algorithm.compute([in_march], [])
    assert regions.detectors == (0, 1)
    assert regions.camera_version == "TwinCam 2026A"


def test_the_readme_names_every_camera_and_key() -> None:
    for name in built_in_names():
        assert f"| `{name}` | {len(built_in_camera(name).detectors)}" in README
    for key in (*EXAMPLE, *EXAMPLE["detectors"][0], *EXAMPLE["detector_types"]["ccd"], *POLYNOMIAL):
        assert re.search(rf"\b{key}\b", README), key


@pytest.mark.parametrize(
    ("name", "count", "others"),
    [
        ("lsstcam", 205, {Purpose.GUIDER: 8, Purpose.WAVEFRONT: 8}),
        ("lsstcomcam", 9, {}),
        ("latiss", 1, {}),
        ("decam", 62, {}),
        ("hsc", 112, {Purpose.FOCUS: 8}),
    ],
)
def test_cameras_that_ship(name: str, count: int, others: dict[Purpose, int]) -> None:
    camera = built_in_camera(name)
    assert len(camera.detectors) == count
    assert list(camera.detector_ids) == sorted(set(camera.detector_ids))
    purposes = [d.purpose for d in camera.detectors]
    assert {p: purposes.count(p) for p in set(purposes)} == {Purpose.SCIENCE: count - sum(others.values()), **others}
    with resources.as_file(resources.files("consumer.regions.camera").joinpath("data", f"{name}.json")) as path:
        assert check_camera(path) == []
    assert built_in_camera(name.upper()).name.lower() == name


def test_names_and_paths(tmp_path: Path) -> None:
    path = write(tmp_path / "own.json", json.dumps(EXAMPLE))
    assert find_or_load(str(path)).name == "TwinCam"
    assert find_or_load("LSSTCam") is built_in_camera("lsstcam") or find_or_load("LSSTCam").name == "LSSTCam"
    with pytest.raises(CameraError, match=r"no built-in camera is called 'nocam'; there are decam, hsc"):
        find_or_load("nocam")
    with pytest.raises(CameraError, match=r"missing\.json: cannot be read"):
        find_or_load(str(tmp_path / "missing.json"))
    broken = tmp_path / "broken.json"
    broken.write_bytes(b"\xff\xfe{")
    with pytest.raises(CameraError, match=r"broken\.json: cannot be read"):
        load_camera(broken)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format",), "other/1", "format: Input should be 'visit-consumer-camera/1', got 'other/1'"),
        (("name",), ..., "name is missing"),
        (("name",), " ", "name: String should have at least 1 character, got ' '"),
        (("version",), 3, "version: Input should be a valid string, got 3"),
        (("flip_x",), "no", "flip_x: Input should be a valid boolean, got 'no'"),
        (("surprise",), 1, "surprise is no known key"),
        (("detectors", 1, "yaw"), 1, r"detectors\[1\]\.yaw is no known key"),
        (("field_angle", "order"), 1, r"field_angle\.order is no known key"),
        (("field_angle", "kind"), "cubic", "field_angle: Input tag 'cubic' .*: 'radial', 'polynomial2d'"),
        (("field_angle", "relative_coefficients"), [1.0, 1.0], "first coefficient of zero"),
        (("field_angle", "relative_coefficients"), [0.0], "at least a second"),
        (
            ("field_angle", "relative_coefficients"),
            [0.0, "a"],
            r"field_angle\.relative_coefficients\[1\]: Input should be a valid number, got 'a'",
        ),
        (("field_angle", "relative_coefficients"), ..., "needs either coefficients_rad, or plate_scale_arcsec_per_mm"),
        (
            ("field_angle", "coefficients_rad"),
            [0.0, 1.0],
            "needs either coefficients_rad, or plate_scale_arcsec_per_mm",
        ),
        (("field_angle", "plate_scale_arcsec_per_mm"), float("nan"), "finite number, got nan"),
        (("field_angle",), {**POLYNOMIAL, "order": 2}, "x_coefficients has 3 numbers; order 2 needs 6"),
        (("field_angle",), {**POLYNOMIAL, "unit_mm": 0.0}, "unit_mm: Input should be greater than 0, got 0.0"),
        (("detector_types",), [], r"detector_types: Input should be an object, got \[\]"),
        (("detector_types", "ccd", "bbox_px"), [[0, 0]], r"detector_types\.ccd\.bbox_px\[1\] is missing"),
        (("detector_types", "ccd", "bbox_px"), [[0, 0], [10, -1]], "bbox_px is empty"),
        (
            ("detector_types", "ccd", "bbox_px"),
            [[0, 0], [10.5, 9]],
            r"bbox_px\[1\]\[0\]: Input should be a valid integer, got 10\.5",
        ),
        (
            ("detector_types", "ccd", "pixel_size_mm"),
            [0.01, 0.0],
            r"pixel_size_mm\[1\]: Input should be greater than 0, got 0\.0",
        ),
        (("detector_types", "ccd", "ref_pixel_px"), [1], r"ref_pixel_px\[1\] is missing"),
        (("detectors",), [], "detectors: List should have at least 1 item"),
        (("detectors",), {}, "detectors: Input should be a valid array"),
        (("detectors", 0), 7, r"detectors\[0\]: Input should be an object, got 7"),
        (("detectors", 0, "id"), 1, "detectors: several have the same id: 1"),
        (("detectors", 0, "id"), -1, r"detectors\[0\]\.id: Input should be greater than or equal to 0, got -1"),
        (("detectors", 0, "id"), True, r"detectors\[0\]\.id: Input should be a valid integer, got True"),
        (("detectors", 0, "name"), "WEST", "detectors: several have the same name: WEST"),
        (("detectors", 0, "type"), "cmos", "type is 'cmos'"),
        (("detectors", 0, "purpose"), "fun", "purpose: Input should be 'science', .* got 'fun'"),
        (("detectors", 0, "position_mm"), [0, float("inf")], "finite number, got inf"),
        (("valid_from_tai",), "yesterday", "valid_from_tai: write an instant in TAI as .*, got 'yesterday'"),
        (("valid_from_tai",), "2026-02-30T00:00:00", "no calendar"),
        (("valid_until_tai",), "2025-01-01T00:00:00", "is not after valid_from_tai"),
    ],
)
def test_what_is_wrong_is_named(path: tuple[str | int, ...], value: object, message: str) -> None:
    with pytest.raises(CameraError, match=f"camera file cam.json: .*{message}"):
        parse_camera(changed(*path, to=value), "cam.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(CameraError, match=r"camera file cam\.json: "):
        parse_camera(text, "cam.json")


def test_digest_holds_the_numbers_and_nothing_else() -> None:
    example = parse_camera(json.dumps(EXAMPLE), "a")
    for same in (json.dumps(EXAMPLE, indent=3, sort_keys=True), changed("version", to="x"), changed("note", to="n")):
        assert parse_camera(same, "b").digest == example.digest
    for other in (changed("flip_x", to=True), changed("detectors", 0, "yaw_deg", to=1e-9)):
        assert parse_camera(other, "b").digest != example.digest


def _with_range(start: str | None, end: str | None) -> str:
    content = {**EXAMPLE, "valid_from_tai": start, "valid_until_tai": end}
    return json.dumps({k: v for k, v in content.items() if v is not None})


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ([(None, None), (None, None)], "both are nominal"),
        ([("2025-01-01T00:00:00", "2026-01-01T00:00:01"), ("2026-01-01T00:00:00", None)], "overlap"),
        ([("2025-01-01T00:00:00", None), ("2026-01-01T00:00:00", None)], "overlap"),
        ([("2025-01-01T00:00:00", "2025-02-01T00:00:00"), (None, "2025-01-15T00:00:00")], "overlap"),
        ([(None, "2025-02-01T00:00:00"), (None, "2025-01-15T00:00:00")], "overlap"),
        ([], "at least one file"),
    ],
)
def test_files_that_do_not_make_one_camera(ranges: list[tuple[str | None, str | None]], message: str) -> None:
    cameras = tuple(parse_camera(_with_range(*r), "cam.json") for r in ranges)
    with pytest.raises(CameraError, match=message):
        CameraSet(cameras)


Change = Callable[[dict[str, Any]], object]  # JSON


@pytest.mark.parametrize(
    ("severity", "message", "change"),
    [
        (
            Severity.ERROR,
            "does not grow with the radius beyond",
            lambda c: c["field_angle"].update(relative_coefficients=[0, 1, 0, -1e-3]),
        ),
        (
            Severity.ERROR,
            "folds the focal plane",
            lambda c: c.update(field_angle={**POLYNOMIAL, "order": 2, "x_coefficients": [0, 0, 0, 1, 0, 0.05],
                                            "y_coefficients": [0, 1, 0, 0, 0, 0]}),
        ),
        (Severity.ERROR, "degrees off the axis", lambda c: c["field_angle"].update(plate_scale_arcsec_per_mm=20000.0)),
        (Severity.WARNING, "EAST: ref_pixel_px", lambda c: c["detector_types"]["ccd"].update(ref_pixel_px=[-9, 0])),
        (Severity.WARNING, r"and WEST overlap by 0\.960 mm", lambda c: c["detectors"][1].update(position_mm=[19, 0])),
        (Severity.ERROR, "cam.json: name is missing", lambda c: c.pop("name")),
    ],
)  # fmt: skip
def test_check_finds(tmp_path: Path, severity: Severity, message: str, change: Change) -> None:
    content = copy.deepcopy(EXAMPLE)
    change(content)
    problems = check_camera(write(tmp_path / "cam.json", json.dumps(content)))
    assert {p.severity for p in problems if re.search(message, p.text)} == {severity}, problems


def test_a_good_polynomial_has_no_problem(tmp_path: Path) -> None:
    assert check_camera(write(tmp_path / "cam.json", changed("field_angle", to=POLYNOMIAL))) == []
