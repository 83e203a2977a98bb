"""Footprints of 5,000 visits of every camera, read by programs that share no code with ours."""

import random
from dataclasses import replace

import numpy as np
import pytest
from mocpy import MOC
from spherical_geometry.polygon import SingleSphericalPolygon

from consumer.domain.obscore import Obscore, PublishedVisit
from consumer.domain.visit_records import aggregate
from consumer.errors import GroupError
from consumer.model import Exposure
from consumer.regions import bounding_circle_deg, compute_each, contains, decode, s_region
from consumer.regions.camera.geometry import Floats
from tests.support.exposures import exposure
from tests.support.skies import angular_distance, boresight_algorithm, unit_vectors

CAMERAS = ("LSSTCam", "LSSTComCam", "LATISS", "HSC", "DECam")
EACH = 1000
MOC_DEPTH = 9
OBSCORE = Obscore(instruments={}, collection="c", publisher_did="ivo://x/{obs_id}")


def pointings(seed: int) -> list[Exposure]:
    """Draw exposures over the whole sky, many at the poles and at RA 0."""
    draw = random.Random(seed)  # noqa: S311 -- a test draws its sky
    plain = exposure(1)
    drawn = []
    for number in range(EACH):
        ra, dec = draw.uniform(0, 360), np.degrees(np.arcsin(draw.uniform(-1, 1)))
        if number % 5 == 0:
            dec = draw.choice([-1, 1]) * (90 - draw.choice([0.0, 1e-9, draw.uniform(0, 2)]))
        elif number % 5 == 1:
            ra = draw.choice([0.0, 1e-12, 360 - 1e-12, draw.uniform(-1, 1)]) % 360
        drawn.append(replace(plain, tracking_ra=ra, tracking_dec=float(dec), sky_angle=draw.uniform(0, 360)))
    return drawn


@pytest.mark.parametrize(
    "camera",
    [pytest.param(each, marks=() if each in {"LATISS", "LSSTComCam"} else pytest.mark.long) for each in CAMERAS],
)
def test_every_footprint_is_that_of_its_visit_for_independent_readers(camera: str) -> None:
    exposures = pointings(CAMERAS.index(camera))
    algorithm = boresight_algorithm(camera, padding=250)
    regions = compute_each(algorithm, [((each,), ()) for each in exposures])
    polygons = []
    for each, made in zip(exposures, regions, strict=True):
        assert not isinstance(made, GroupError)
        ra, dec = _read(s_region(made.visit))
        polygon = SingleSphericalPolygon.from_lonlat(ra, dec)
        # It keeps the order of vertices only where they go around as DALI wants, and turns the others.
        assert np.allclose(polygon._points[1], unit_vectors(np.array([[ra[1], dec[1]]]))[0], atol=1e-12)
        assert abs(abs(polygon.area()) - _area_sr(decode(made.visit))) < 1e-9
        centre_ra, centre_dec, radius = bounding_circle_deg(made.visit)
        assert polygon.contains_lonlat(centre_ra, centre_dec)
        assert contains(made.visit, centre_ra, centre_dec)
        away = angular_distance(decode(made.visit), unit_vectors(np.array([[centre_ra, centre_dec]])))
        assert np.degrees(away.max()) <= radius + 1e-9
        assert np.degrees(away.max()) > 0.9 * radius
        polygons.append((ra, dec, centre_ra, centre_dec, radius, each))
    mocs = MOC.from_polygons([axis for ra, dec, *_ in polygons for axis in (ra, dec)], max_depth=MOC_DEPTH)
    for moc, (_, _, centre_ra, centre_dec, radius, _) in zip(mocs, polygons, strict=True):
        far = [centre_dec - 2 * radius - 1, centre_dec + 2 * radius + 1]
        inside = moc.contains_lonlat(*(_deg(x) for x in ([centre_ra] * 2, [centre_dec] * 2)))
        assert inside.all()
        outside = moc.contains_lonlat(_deg([centre_ra] * 2), _deg(np.clip(far, -90, 90)))
        beyond = np.abs(far) < 90
        assert not outside[beyond].any()
        assert moc.sky_fraction < 0.002


def test_the_order_of_vertices_is_what_the_reader_tells_apart() -> None:
    (made,) = compute_each(boresight_algorithm("LATISS", padding=4000), [((exposure(1),), ())])
    assert not isinstance(made, GroupError)
    ra, dec = _read(s_region(made.visit))
    turned = SingleSphericalPolygon.from_lonlat(ra[::-1], dec[::-1])
    assert not np.allclose(turned._points[1], unit_vectors(np.array([[ra[-2], dec[-2]]]))[0], atol=1e-9)


def test_a_row_has_the_footprint_of_the_announcement() -> None:
    one = exposure(1)
    (made,) = compute_each(boresight_algorithm("LSSTCam", padding=250), [((one,), ())])
    assert not isinstance(made, GroupError)
    row = OBSCORE.row(PublishedVisit("LSSTCam", 1, "n", 1, made.visit, aggregate([one])))
    assert s_region(made.visit) in row


def _read(text: str) -> tuple[Floats, Floats]:
    kind, frame, *numbers = text.split()
    assert (kind, frame) == ("POLYGON", "ICRS")
    values = np.array(numbers, dtype=np.float64)
    ra, dec = values[::2], values[1::2]
    assert ((ra >= 0) & (ra < 360)).all()
    assert (np.abs(dec) <= 90).all()
    return ra, dec


def _deg(values: object) -> object:
    from astropy import units  # noqa: PLC0415 -- slow to import, and not needed to collect

    return np.asarray(values, dtype=np.float64) * units.deg


def _area_sr(vertices: Floats) -> float:
    """Sum the triangles of a fan (van Oosterom and Strackee 1983), from sphgeom's vertices."""
    first, second, third = vertices[0], vertices[1:-1], vertices[2:]
    triple = np.einsum("j,ij->i", first, np.cross(second, third))
    below = 1 + second @ first + np.einsum("ij,ij->i", second, third) + third @ first
    return float(2 * np.arctan2(triple, below).sum())
