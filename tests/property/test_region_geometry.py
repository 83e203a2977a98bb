"""A region contains every corner of every detector, wherever it lies, by an oracle in extended precision."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.regions import (
    Camera,
    CameraSet,
    RegionSettings,
    built_in_camera,
    contains,
    decode,
    get_algorithm,
)
from consumer.regions.polygons import encode_quads, hull
from tests.support.skies import Longs, exposure_at, oracle_corners

OUTSIDE_RAD = 2e-15
"""Rounding of a corner to doubles; nothing may lie further outside."""

right_ascensions = st.one_of(
    st.floats(0, 360), st.sampled_from([0.0, 1e-12, 359.9999999999, 360.0, 180.0, 90.0]), st.floats(-1e-6, 1e-6)
)
declinations = st.one_of(
    st.floats(-90, 90),
    st.sampled_from([90.0, -90.0, 0.0, 89.9999999, -89.9999999]),
    st.floats(88, 90),
    st.floats(-90, -88),
)
angles = st.floats(-720, 720)


def furthest_outside(region: bytes, points: Longs) -> float:
    """Radians by which the points lie outside a region at most; negative when all are well inside."""
    start = decode(region).astype(np.longdouble)
    end = np.roll(start, -1, axis=0)
    # (v - start) x (end - start) keeps the small angles that start x end would lose.
    normal = np.cross(start, end - start)
    length = np.sqrt(((end - start) ** 2).sum(axis=-1))
    height = ((points.reshape(-1, 1, 3) - start) * normal).sum(axis=-1) / length
    return float((-height).max())


@pytest.mark.skipif(bool(np.finfo(np.longdouble).eps > 1e-18), reason="the oracle needs a longer float than a double")
@pytest.mark.parametrize("name", ["latiss", "lsstcam"])
def test_regions_contain_every_corner(name: str) -> None:
    camera = built_in_camera(name)
    assert len(camera.detectors) in {1, 205}

    @settings(max_examples=25)
    @given(right_ascensions, declinations, angles, st.sampled_from([0, 250, 4000]), st.booleans())
    def check(ra: float, dec: float, angle: float, padding: int, merge: bool) -> None:
        _check_containment(camera, (ra, dec, angle), padding, merge=merge)

    check()


def _check_containment(camera: Camera, pointing: tuple[float, float, float], padding: int, *, merge: bool) -> None:
    algorithm = get_algorithm(
        "single-raw-wcs", RegionSettings(padding=padding, merge_exposures=merge), [CameraSet((camera,))]
    )
    ra, dec, angle = pointing
    second = (ra + 0.01, max(-90.0, dec - 0.01), angle + 0.1)
    exposures = [exposure_at(*pointing), exposure_at(*second, id_=2)]
    regions = algorithm.compute(exposures, [])
    oracles = [oracle_corners(camera, padding, *pointing)]
    if merge:
        oracles.append(oracle_corners(camera, padding, *second))
    corners = np.concatenate(oracles, axis=1)
    assert len(regions.detector_regions) == len(camera.detectors)
    for region, own in zip(regions.detector_regions, corners, strict=True):
        assert abs(furthest_outside(region, own)) < OUTSIDE_RAD
    assert abs(furthest_outside(regions.visit, corners)) < OUTSIDE_RAD
    # The boresight of both cameras is in the middle of a detector.
    assert contains(regions.visit, ra, dec)


coordinates = st.floats(-0.05, 0.05).map(lambda x: round(x, 4))
quads = st.lists(st.lists(st.tuples(coordinates, coordinates), min_size=4, max_size=4), min_size=1, max_size=5)


@settings(max_examples=200)
@given(quads, right_ascensions, declinations)
def test_quads_are_encoded_as_sphgeom_does(shapes: list[list[tuple[float, float]]], ra: float, dec: float) -> None:
    # Of every shape: convex either way, crossed, with a dent, with repeated corners or three in a line.
    lon, lat = np.radians(ra), np.radians(dec)
    centre = np.array([np.cos(lon) * np.cos(lat), np.sin(lon) * np.cos(lat), np.sin(lat)])
    east = np.array([-np.sin(lon), np.cos(lon), 0.0])
    north = np.cross(centre, east)
    usable = [s for s in shapes if len(set(s)) >= 3 and np.linalg.matrix_rank(np.diff(np.array(s), axis=0)) == 2]
    if not usable:
        return
    plane = np.array(usable)
    corners = centre + plane[..., :1] * east + plane[..., 1:] * north
    assert encode_quads(corners) == [hull(c) for c in corners]
