"""The algorithm that needs one pointing: its settings, its errors, and what decides its regions."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from astropy.wcs import WCS

from consumer.errors import BadMessageError, ConfigurationError, RegionError
from consumer.regions import (
    Camera,
    CameraSet,
    Detector,
    Pointing,
    RegionSettings,
    WcsSource,
    built_in_camera,
    camera_set,
    decode,
    detector_corners,
    get_algorithm,
    projection,
)
from consumer.regions.camera.files import load_camera
from consumer.regions.camera.geometry import RadialFieldAngle
from consumer.regions.polygons import hull
from consumer.regions.projection import boresight_frame, field_angles, to_sky
from consumer.regions.wcs.pointing import _fit_frame, _pointing_of_frame
from tests.support.skies import boresight_algorithm, exposure_at, raw_with

HEADER = WcsSource.HEADER
TARGETS = [
    (123.4, 5.6, 78.9),
    (0.0001, -60.0, 359.0),
    (359.99, 89.5, 10.0),
    (50.0, -89.99, 200.0),
    (200.0, 45.0, 180.0),
]


def sip_header(camera: Camera, detector: Detector, pointing: Pointing) -> str:
    """Write the model of one detector as a FITS WCS, exactly.

    A radial distortion of odd powers is a SIP polynomial about the pixel that looks along the boresight.
    """
    assert isinstance(camera.field_angle, RadialFieldAngle)
    scale, *higher = camera.field_angle.coefficients_rad[1::2]
    pixel_mm = detector.type.pixel_size_mm[0]
    yaw, a = np.radians([detector.yaw_deg, pointing.sky_angle_deg])
    turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]) * pixel_mm
    boresight_px = np.asarray(detector.type.ref_pixel_px) - np.linalg.solve(turn, detector.position_mm)
    sky = np.array([[-np.cos(a), np.sin(a)], [np.sin(a), np.cos(a)]])
    flip = np.diag([-1.0 if camera.flip_x else 1.0, 1.0])
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN-SIP", "DEC--TAN-SIP"]
    wcs.wcs.crval = [pointing.ra_deg, pointing.dec_deg]
    wcs.wcs.crpix = boresight_px + 1
    wcs.wcs.cd = np.degrees(scale * sky @ flip @ turn)
    cards = wcs.to_header()
    cards.remove("LATPOLE")
    for power, coefficient in enumerate(higher, start=1):
        factor = coefficient / scale * pixel_mm ** (2 * power)
        for i in range(power + 1):
            value = factor * {1: [1, 1], 2: [1, 2, 1]}[power][i]
            cards[f"A_{1 + 2 * (power - i)}_{2 * i}"] = value
            cards[f"B_{2 * i}_{1 + 2 * (power - i)}"] = value
    cards["A_ORDER"] = cards["B_ORDER"] = 5
    # to_header() speaks of PC and CDELT; SIP is defined for both.
    return str(cards.tostring(endcard=False))


@pytest.mark.parametrize("name", ["lsstcam", "lsstcomcam", "latiss", "decam"])
def test_header_gives_back_the_pointing_from_any_detector(name: str) -> None:
    camera = built_in_camera(name)
    rng = np.random.default_rng(8)
    chosen = rng.permutation(len(camera.detectors))
    for number, index in enumerate(chosen):
        detector = camera.detectors[index]
        wanted = Pointing(*TARGETS[number % len(TARGETS)])
        algorithm = get_algorithm(
            "single-raw-wcs", RegionSettings(wcs_source=HEADER, detector_id=detector.id), [camera_set([name])]
        )
        observed = algorithm.observe(raw_with(sip_header(camera, detector, wanted), detector=detector.id))
        assert observed is not None
        assert observed.pointing is not None
        found = Pointing(*observed.pointing)
        assert np.abs(boresight_frame(found) - boresight_frame(wanted)).max() < 1e-9
        regions = algorithm.compute([exposure_at(None, None, None)], [observed])
        direct = boresight_algorithm(name).compute([exposure_at(*wanted)], [])
        for ours, theirs in zip(regions.detector_regions, direct.detector_regions, strict=True):
            assert np.abs(decode(ours) - decode(theirs)).max() < 1e-9


@pytest.mark.parametrize("target", [*TARGETS, (10.0, 90.0, 33.0), (10.0, -90.0, 33.0)])
def test_pointing_of_a_polynomial_camera(target: tuple[float, float, float]) -> None:
    camera = built_in_camera("hsc")
    wanted = Pointing(*target)
    for detector in camera.detectors[::17]:
        pixels = np.array([[x, y] for x in (0.0, 700.0, 2047.0) for y in (0.0, 1500.0, 4175.0)])
        angles = field_angles(camera, detector, pixels)
        found = Pointing(*_pointing_of_frame(_fit_frame(angles, to_sky(angles, boresight_frame(wanted)))))
        assert np.abs(boresight_frame(found) - boresight_frame(wanted)).max() < 1e-11
        assert 0 <= found.ra_deg < 360
        assert 0 <= found.sky_angle_deg < 360


def test_observe_keeps_only_what_matters() -> None:
    camera = built_in_camera("latiss")
    cards = sip_header(camera, camera.detectors[0], Pointing(1.0, 2.0, 3.0))
    boresight = boresight_algorithm("lsstcam")
    assert not boresight.needs_headers
    assert boresight.required_detectors == frozenset()
    assert boresight.observe(raw_with(cards)) is None
    header = boresight_algorithm("lsstcam", wcs_source=HEADER, detector_id=94)
    assert header.needs_headers
    assert header.required_detectors == frozenset({94})
    assert header.observe(raw_with(cards, detector=93)) is None
    assert header.observe(raw_with(None, detector=94)) is None
    off_sky = dataclasses.replace(raw_with("broken", detector=94), exposure=exposure_at(None, None, None))
    assert header.observe(off_sky) is None
    with pytest.raises(BadMessageError, match=r"exposure 1, detector 94.*CTYPE"):
        header.observe(raw_with("broken", detector=94))


def test_pointing_missing() -> None:
    for exposure in (exposure_at(None, 0.0, 0.0), exposure_at(0.0, None, 0.0), exposure_at(0.0, 0.0, None)):
        with pytest.raises(RegionError, match="exposure 1 of TestCam has no pointing"):
            boresight_algorithm("latiss").compute([exposure], [])
    with pytest.raises(RegionError, match="exposure 1 of TestCam has no WCS from detector 0"):
        boresight_algorithm("latiss", wcs_source=HEADER, detector_id=0).compute([exposure_at(0.0, 0.0, 0.0)], [])
    with pytest.raises(RegionError, match="not finite"):
        boresight_algorithm("latiss").compute([exposure_at(float("nan"), 0.0, 0.0)], [])


def test_merging_exposures_covers_both_and_one_uses_the_first() -> None:
    exposures = [exposure_at(10.0, 20.0, 30.0), exposure_at(10.02, 20.01, 30.0, id_=2)]
    alone = boresight_algorithm("lsstcomcam").compute(exposures, [])
    assert alone == boresight_algorithm("lsstcomcam").compute(exposures[:1], [])
    merged = boresight_algorithm("lsstcomcam", merge_exposures=True).compute(exposures, [])
    camera = built_in_camera("lsstcomcam")
    corners = [detector_corners(camera, 250, Pointing(*p)) for p in ((10.0, 20.0, 30.0), (10.02, 20.01, 30.0))]
    together = np.concatenate(corners, axis=1)
    assert merged.detector_regions == tuple(hull(c) for c in together)
    assert merged.visit == hull(together)
    assert set(merged.htm7) >= set(alone.htm7)


def versions(tmp_path: Path, *ranges: tuple[str | None, str | None]) -> CameraSet:
    """Make versions of LATISS whose plate scale tells them apart."""
    source = json.loads(Path("consumer/regions/camera/data/latiss.json").read_text())
    cameras = []
    for number, (start, end) in enumerate(ranges):
        content = source | {"version": f"v{number}", "valid_from_tai": start, "valid_until_tai": end}
        content["field_angle"] = source["field_angle"] | {"plate_scale_arcsec_per_mm": 9.5 + number}
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
        cameras.append(load_camera(path))
    return CameraSet(tuple(cameras))


def test_versions_of_a_camera(tmp_path: Path) -> None:
    cameras = versions(
        tmp_path, (None, None), ("2025-01-01T00:00:00", "2026-01-01T00:00:00"), ("2026-01-01T00:00:00", None)
    )
    start_2026 = 1767225600 * 10**9
    settings = RegionSettings()
    algorithm = get_algorithm("single-raw-wcs", settings, [cameras])
    expected = {start_2026: "v2", start_2026 - 1: "v1", start_2026 - 367 * 86400 * 10**9: "v0", None: "v0"}
    prints = set()
    for begin, version in expected.items():
        exposure = exposure_at(1.0, 2.0, 3.0, begin=begin)
        assert algorithm.compute([exposure], []).camera_version == f"LATISS {version}"
        prints.add(algorithm.fingerprint([exposure]))
    assert len(prints) == 3
    strict = get_algorithm("single-raw-wcs", RegionSettings(require_versioned_camera=True), [cameras])
    assert strict.compute([exposure_at(1.0, 2.0, 3.0, begin=start_2026)], []).camera_version == "LATISS v2"
    for begin in (None, 1):
        with pytest.raises(RegionError, match="no version of the camera is valid for exposure 1"):
            strict.compute([exposure_at(1.0, 2.0, 3.0, begin=begin)], [])


def test_collections_are_searched_in_order(tmp_path: Path) -> None:
    own = versions(tmp_path, ("2025-01-01T00:00:00", "2026-01-01T00:00:00"))
    algorithm = get_algorithm("single-raw-wcs", RegionSettings(), [own, camera_set(["latiss"])])
    in_2025 = exposure_at(1.0, 2.0, 3.0, begin=1750000000 * 10**9)
    assert algorithm.compute([in_2025], []).camera_version == "LATISS v0"
    assert algorithm.compute([exposure_at(1.0, 2.0, 3.0)], []).camera_version == "LATISS nominal"
    reverse = get_algorithm("single-raw-wcs", RegionSettings(), [camera_set(["latiss"]), own])
    # A version that is valid comes before any nominal camera.
    assert reverse.compute([in_2025], []).camera_version == "LATISS v0"
    only = get_algorithm("single-raw-wcs", RegionSettings(), [own])
    with pytest.raises(RegionError, match="no camera is valid"):
        only.compute([exposure_at(1.0, 2.0, 3.0)], [])


def test_fingerprint_ignores_the_last_bits_of_the_projection(monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm = boresight_algorithm("lsstcomcam")
    exposures = [exposure_at(1.0, 2.0, 3.0)]
    before = (algorithm.fingerprint(exposures), algorithm.compute(exposures, []).visit)
    frame = projection.boresight_frame
    monkeypatch.setattr(projection, "boresight_frame", lambda p: frame(p) * (1 + 1e-15) + 1e-15)
    after = (algorithm.fingerprint(exposures), algorithm.compute(exposures, []).visit)
    assert before[0] == after[0]
    assert before[1] != after[1]


def test_fingerprint_tells_settings_and_cameras_apart() -> None:
    exposures = [exposure_at(1.0, 2.0, 3.0)]
    algorithms = [
        boresight_algorithm("lsstcam"),
        boresight_algorithm("lsstcomcam"),
        boresight_algorithm("lsstcam", padding=251),
        boresight_algorithm("lsstcam", merge_exposures=True),
        boresight_algorithm("lsstcam", wcs_source=HEADER, detector_id=0),
        boresight_algorithm("lsstcam", wcs_source=HEADER, detector_id=1),
        get_algorithm("full-raw-wcs", RegionSettings()),
        get_algorithm("full-raw-wcs", RegionSettings(detectors=(1,))),
    ]
    assert len({a.fingerprint(exposures) for a in algorithms}) == len(algorithms)
    assert algorithms[0].fingerprint(exposures) == boresight_algorithm("LSSTCam", detector_id=3).fingerprint(exposures)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"padding": -1}, "regions.padding"),
        ({"wcs_source": HEADER}, "regions.detector_id is missing"),
        ({"detectors": ()}, "regions.detectors is empty"),
        ({"wcs_source": HEADER, "detector_id": 205}, "regions.detector_id is 205"),
    ],
)
def test_settings_that_cannot_work(settings: dict[str, int], names: str) -> None:
    with pytest.raises(ConfigurationError, match=names):
        boresight_algorithm("lsstcam", **settings)
    with pytest.raises(ConfigurationError, match="needs a camera"):
        get_algorithm("single-raw-wcs", RegionSettings())


def test_the_regions_of_too_many_exposures_are_not_merged() -> None:
    exposures = [exposure_at(10.0, -20.0, 0.0, id_=n) for n in range(501)]
    merging = boresight_algorithm("lsstcomcam", merge_exposures=True)
    assert merging.compute(exposures[:500], []).visit
    with pytest.raises(RegionError, match=r"of TestCam has 501 exposures on sky; .* more than 500"):
        merging.compute(exposures, [])
    assert boresight_algorithm("lsstcomcam").compute(exposures, []).visit
