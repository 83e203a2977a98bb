"""Encodings have the bytes of sphgeom; lookups are exact."""

import lsst.sphgeom
import numpy as np
import pytest

from consumer.errors import RegionError
from consumer.regions import (
    Camera,
    CameraSet,
    Detector,
    DetectorType,
    Pointing,
    RegionSettings,
    built_in_camera,
    built_in_names,
    contains,
    decode,
    detector_corners,
    detector_corners_many,
    get_algorithm,
    htm7_around,
    htm7_ids,
    overlaps_circle,
    s_region,
    vertices_deg,
)
from consumer.regions.camera.geometry import Purpose, RadialFieldAngle
from consumer.regions.hull_order import visit_hull_order
from consumer.regions.polygons import encode_hulls, encode_quads, hull, normalised
from tests.support.exposures import exposure
from tests.support.skies import Floats, unit_vectors

SPECIAL = [(10.0, 90.0), (200.0, -90.0), (77.0, 89.9999), (0.0, 0.0), (359.999999, 12.0), (1e-9, -45.0), (90.0, 0.0)]


def pointings(seed: int, number: int) -> list[Pointing]:
    rng = np.random.default_rng(seed)
    anywhere = zip(rng.uniform(0, 360, number), np.degrees(np.arcsin(rng.uniform(-1, 1, number))), strict=True)
    return [Pointing(float(ra), float(dec), float(rng.uniform(0, 360))) for ra, dec in [*SPECIAL, *anywhere]]


def camera_of_row() -> Camera:
    """Make a camera of three detectors side by side, whose outer corners lie on two lines."""
    kind = DetectorType(bbox_px=((0, 0), (99, 99)), pixel_size_mm=(0.1, 0.1), ref_pixel_px=(49.5, 49.5))
    detectors = tuple(
        Detector(id=n, name=f"D{n}", type=kind, purpose=Purpose.SCIENCE, position_mm=(10.0 * (n - 1), 3.0), yaw_deg=0.0)
        for n in range(3)
    )
    return Camera(
        name="Row",
        version="1",
        digest="row",
        field_angle=RadialFieldAngle(coefficients_rad=(0.0, 1e-4)),
        flip_x=False,
        detectors=detectors,
    )


def sphgeom_hull(points: Floats) -> bytes:
    polygon = lsst.sphgeom.ConvexPolygon([lsst.sphgeom.UnitVector3d(*p) for p in points.reshape(-1, 3)])
    return bytes(polygon.encode())


def square(ra_deg: float, dec_deg: float, half_deg: float = 0.5) -> bytes:
    corners = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    points = unit_vectors(np.array([[ra_deg + half_deg * i, dec_deg + half_deg * j] for i, j in corners]))
    return hull(points)


def test_normalised_rounds_as_sphgeom() -> None:
    rng = np.random.default_rng(3)
    vectors = np.concatenate(
        (rng.normal(size=(3000, 3)), rng.normal(size=(1000, 3)) * [1e-3, 1, 1e-2], [[0, 0, -2], [1, 1, 1], [3, -3, 0]])
    )
    theirs = [lsst.sphgeom.UnitVector3d(*v) for v in vectors]
    np.testing.assert_array_equal(normalised(vectors), [[u.x(), u.y(), u.z()] for u in theirs])


@pytest.mark.parametrize("camera_name", built_in_names())
@pytest.mark.parametrize("padding", [0, 250, 4000])
def test_detector_and_visit_encodings_have_the_bytes_of_sphgeom(camera_name: str, padding: int) -> None:
    camera = built_in_camera(camera_name)
    order = visit_hull_order(camera, padding)
    assert order is not None
    for pointing in pointings(padding, 6):
        corners = detector_corners(camera, padding, pointing)
        assert encode_quads(corners) == [sphgeom_hull(c) for c in corners]
        assert encode_hulls(corners.reshape(1, -1, 3)[:, order]) == [hull(corners)] == [sphgeom_hull(corners)]


def test_quads_that_are_not_plain_are_left_to_sphgeom() -> None:
    inside = [[0, 0], [2, 0], [1, 0.5], [1, 2]]
    crossed = [[0, 0], [1, 1], [1, 0], [0, 1]]
    clockwise = [[0, 0], [0, 1], [1, 1], [1, 0]]
    doubled = [[0, 0], [1, 0], [1, 0], [0, 1]]
    straight = [[0, 0], [1, 0], [2, 0], [1, 1]]
    tiny = [[0, 0], [1e-13, 0], [1e-13, 1e-13], [0, 1e-13]]
    quads = np.stack(
        [unit_vectors(np.array(q, dtype=np.float64)) for q in (inside, crossed, clockwise, doubled, straight, tiny)]
    )
    encodings = encode_quads(quads)
    assert encodings == [sphgeom_hull(q) for q in quads]
    assert len(encodings[0]) == 1 + 3 * 24


@pytest.mark.parametrize(
    "points",
    [
        [[1.0, 0.0, 0.0]] * 4,
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]],
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [np.nan, 0.0, 0.0], [0.0, 0.0, 1.0]],
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [np.inf, 0.0, 0.0], [0.0, 0.0, 1.0]],
    ],
)
def test_points_without_a_hull_are_a_region_error(points: list[list[float]]) -> None:
    for compute in (hull, lambda p: encode_quads(p[np.newaxis])):
        with pytest.raises(RegionError, match=r"convex hull|not finite"):
            compute(np.array(points))


@pytest.mark.parametrize(
    "encoding", [b"", b"p", b"p" + bytes(23), b"p" + bytes(48), b"q" + bytes(72), b"p" + bytes(73)]
)
def test_what_is_no_polygon_cannot_be_decoded(encoding: bytes) -> None:
    with pytest.raises(RegionError, match="not an encoded convex polygon"):
        decode(encoding)
    with pytest.raises(RegionError, match="not an encoded convex polygon"):
        contains(encoding, 0.0, 0.0)


def test_many_pointings_give_the_bits_of_one() -> None:
    camera = built_in_camera("lsstcam")
    several = pointings(1, 3)
    together = detector_corners_many(camera, 250, several)
    assert together.shape == (len(several), 205, 4, 3)
    for pointing, corners in zip(several, together, strict=True):
        np.testing.assert_array_equal(corners, detector_corners(camera, 250, pointing))


@pytest.mark.parametrize("ra", [0.0, 123.0])
def test_contains_and_circles(ra: float) -> None:
    region = square(ra, 20.0)
    assert contains(region, ra, 20.0)
    assert contains(region, ra - 0.4, 20.4)
    assert not contains(region, ra + 0.6, 20.0)
    assert overlaps_circle(region, ra, 20.0, 0.0)
    edge_distance = 0.5 * np.cos(np.radians(20.0))
    assert not overlaps_circle(region, ra + 1.0, 20.0, edge_distance - 0.001)
    assert overlaps_circle(region, ra + 1.0, 20.0, edge_distance + 0.001)
    corner = np.hypot(1.0, np.cos(np.radians(21.0)))
    assert not overlaps_circle(region, ra + 1.5, 21.5, corner - 0.01)
    assert overlaps_circle(region, ra + 1.5, 21.5, corner + 0.01)
    assert not overlaps_circle(region, ra + 180.0, -20.0, 100.0)
    assert overlaps_circle(region, ra + 180.0, -20.0, 179.5)


def test_htm_ids_cover_every_point_of_a_region() -> None:
    camera = built_in_camera("lsstcam")
    for pointing in pointings(5, 5):
        region = hull(detector_corners(camera, 250, pointing))
        ids = htm7_ids(region)
        assert list(ids) == sorted(set(ids))
        assert 40 < len(ids) < 120
        for ra, dec in vertices_deg(region)[::7].tolist():
            assert set(htm7_around(ra, dec)) <= set(ids)
            assert set(htm7_around(ra, dec)) <= set(htm7_around(ra, dec, 0.1))
        assert set(htm7_around(pointing.ra_deg, pointing.dec_deg)) <= set(ids)


def test_s_region_goes_around_as_dali_wants() -> None:
    text = s_region(square(0.0, 10.0))
    prefix, frame, *numbers = text.split()
    assert (prefix, frame) == ("POLYGON", "ICRS")
    vertices = np.array(numbers, dtype=np.float64).reshape(-1, 2)
    assert np.all((vertices[:, 0] >= 0) & (vertices[:, 0] < 360))
    np.testing.assert_allclose(np.sort(vertices[:, 0]), [0.5, 0.5, 359.5, 359.5], atol=1e-12)
    # Seen from the origin, east is left of north: counter-clockwise turns have the opposite sign of a map's.
    x, y = (vertices[:, 0] + 180) % 360 - 180, vertices[:, 1]
    area = np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)
    assert area < 0
    np.testing.assert_allclose(vertices_deg(square(0.0, 10.0)), vertices[::-1], atol=0)


def encoded(corners: Floats) -> list[bytes] | None:
    try:
        return encode_quads(corners[np.newaxis])
    except RegionError:
        return None


def test_quadrilaterals_wider_than_a_right_angle_have_sphgeoms_answer() -> None:
    wide = 0
    for corners in normalised(np.random.default_rng(1).normal(size=(2000, 4, 3))):
        wide += (corners @ corners[0]).min() <= 0
        try:
            expected = [hull(corners)]
        except RegionError:
            expected = None
        assert encoded(corners) == expected
    assert wide > 1000


# Rounding makes all four turns of these go to one side; sphgeom sees that the second corner lies on an edge.
ON_ONE_GREAT_CIRCLE = [
    [
        [0.009449454380345373, 0.9998608137430554, 0.01374994374494098],
        [0.02921569457507856, 0.999538883523905, 0.008274268202143964],
        [0.10123552009707346, 0.9947932716312372, -0.01173525406178293],
        [-0.14743540500490135, 0.9890502821916817, 0.006506969155887471],
    ],
    [
        [0.8000599720415877, 0.5053402453084975, 0.323319157502863],
        [0.8020335842307096, 0.5032865278331043, 0.32162835799683365],
        [0.8040275449653264, 0.5011966281457075, 0.31990881024505013],
        [0.8006203491146682, 0.5046757051669056, 0.3229697961076135],
    ],
    [
        [-0.13145362905750868, -0.9830727328551983, 0.1276242348624385],
        [-0.05274281473138074, -0.99836243287448, 0.022150578303077557],
        [-0.007218165629655586, -0.9992337010385826, -0.03846958270737331],
        [-0.16216697989060438, -0.98407076198173, 0.07284645527311326],
    ],
]


@pytest.mark.parametrize("corners", ON_ONE_GREAT_CIRCLE)
def test_three_corners_on_one_great_circle_have_sphgeoms_answer(corners: list[list[float]]) -> None:
    given = np.array(corners)
    expected = sphgeom_hull(given)
    assert len(decode(expected)) == 3
    assert encode_quads(given[np.newaxis]) == [expected]


def test_a_camera_whose_outer_corners_lie_on_lines_has_no_hull_order_of_its_own() -> None:
    row = camera_of_row()
    assert visit_hull_order(row, 0) is None
    algorithm = get_algorithm("single-raw-wcs", RegionSettings(padding=0), [CameraSet((row,))])
    for each in pointings(12, 20):
        one = exposure(1, tracking_ra=each.ra_deg, tracking_dec=each.dec_deg, sky_angle=each.sky_angle_deg)
        assert algorithm.compute([one], []).visit == sphgeom_hull(detector_corners(row, 0, each))
