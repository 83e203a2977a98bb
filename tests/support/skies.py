"""What tests of regions share: exposures, the published visits, headers, and geometry from an oracle of their own."""

import json
import warnings
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.coordinates import SkyCoord
from astropy.io.fits import Header
from astropy.wcs import WCS
from astropy.wcs.utils import wcs_to_celestial_frame

from consumer.model import Exposure, RawIngested
from consumer.regions import Camera, Detector, RegionAlgorithm, RegionSettings, camera_set, get_algorithm
from tests.support.define_visits import DATA

Floats = npt.NDArray[np.float64]
Longs = npt.NDArray[np.longdouble]
HEADERS = DATA / "headers"


def exposure_at(
    ra_deg: float | None, dec_deg: float | None, sky_angle_deg: float | None, *, id_: int = 1, begin: int | None = 1
) -> Exposure:
    """Make an exposure of which only the pointing and the time matter."""
    return Exposure(
        instrument="TestCam", id=id_, obs_id=f"T{id_}", day_obs=20260101, group="g", physical_filter=None,
        exposure_time=None, dark_time=None, observation_type=None, observation_reason=None, seq_num=id_, seq_start=id_,
        seq_end=id_, target_name=None, science_program=None, tracking_ra=ra_deg, tracking_dec=dec_deg,
        sky_angle=sky_angle_deg, azimuth=None, zenith_angle=None, has_simulated=None, can_see_sky=None,
        timespan_begin=begin, timespan_end=None if begin is None else begin + 1,
    )  # fmt: skip


def raw_with(cards: str | None, *, detector: int = 0, size: tuple[int, int] | None = None) -> RawIngested:
    """Make a raw of an exposure on sky with a header."""
    naxis1, naxis2 = size or (None, None)
    return RawIngested(exposure=exposure_at(0.0, 0.0, 0.0), detector=detector, wcs=cards, naxis1=naxis1, naxis2=naxis2)


def written(cards: Mapping[str, object]) -> str:
    """Write cards as the event has them; what is None is left out."""
    lines = []
    for key, value in cards.items():
        if value is not None:
            text = f"'{value}'" if isinstance(value, str) else repr(value)
            lines.append(f"{key:8}= {text:>20}".ljust(80))
    return "".join(lines)


def astropy_corners(cards: str, width: int, height: int) -> Floats:
    """Project the outer corners of an image as astropy does, all cards given to it: (4, 3) float64, ICRS."""
    pixels = [[-0.5, -0.5], [width - 0.5, -0.5], [width - 0.5, height - 0.5], [-0.5, height - 0.5]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # astropy speaks of dates and deprecated spellings of real headers
        wcs = WCS(Header.fromstring(cards))
        sky = wcs.all_pix2world(pixels, 0)
        place = SkyCoord(
            sky[:, wcs.wcs.lng], sky[:, wcs.wcs.lat], unit="deg", frame=wcs_to_celestial_frame(wcs)
        ).icrs.cartesian
    return np.stack([place.x.value, place.y.value, place.z.value], axis=-1)


def cards_of(path: Path) -> str:
    """Read a header of one card a line as the event has it: 80 characters each without separators."""
    return "".join(line.ljust(80) for line in path.read_text(encoding="ascii").splitlines())


def published() -> dict[str, Any]:  # JSON
    """Read the visits that were published."""
    text = resources.files("consumer.demo").joinpath("published_visits.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)  # JSON
    return content


def boresight_algorithm(camera: str, **settings: Any) -> RegionAlgorithm:  # settings of every type
    """Make `single-raw-wcs` for a built-in camera."""
    return get_algorithm("single-raw-wcs", RegionSettings(**settings), [camera_set([camera])])


def angular_distance(one: Floats, other: Floats) -> Floats:
    """Radians between unit vectors, exact for small angles."""
    distance: Floats = 2 * np.arcsin(np.linalg.norm(one - other, axis=-1) / 2)
    return distance


def unit_vectors(ra_dec_deg: Floats) -> Floats:
    """(n, 2) degrees to (n, 3)."""
    ra, dec = np.radians(ra_dec_deg).T
    return np.stack((np.cos(ra) * np.cos(dec), np.sin(ra) * np.cos(dec), np.sin(dec)), axis=-1)


def oracle_corners(camera: Camera, padding: int, ra_deg: float, dec_deg: float, sky_angle_deg: float) -> Longs:
    """Project padded corners in extended precision, one detector after the other, from the formulas alone.

    Returns
    -------
    corners
        (n_detectors, 4, 3) longdouble.
    """
    ra, dec, a = (np.radians(np.longdouble(angle)) for angle in (ra_deg, dec_deg, sky_angle_deg))
    boresight = np.array([np.cos(ra) * np.cos(dec), np.sin(ra) * np.cos(dec), np.sin(dec)])
    east = np.array([-np.sin(ra), np.cos(ra), np.longdouble(0)])
    north = np.array([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)])
    result = []
    for detector in camera.detectors:
        fx, fy = _oracle_field_angle(camera, detector, padding)
        xi = -np.cos(a) * fx + np.sin(a) * fy
        eta = np.sin(a) * fx + np.cos(a) * fy
        vectors = boresight + np.outer(xi, east) + np.outer(eta, north)
        result.append(vectors / np.sqrt((vectors**2).sum(axis=1, keepdims=True)))
    return np.stack(result)


def _oracle_field_angle(camera: Camera, detector: Detector, padding: int) -> tuple[Longs, Longs]:
    assert detector.pitch_deg == detector.roll_deg == 0
    (x0, y0), (x1, y1) = detector.type.bbox_px
    margin = np.longdouble(padding) + np.longdouble("0.5")
    corners = [
        (x0 - margin, y0 - margin),
        (x1 + margin, y0 - margin),
        (x1 + margin, y1 + margin),
        (x0 - margin, y1 + margin),
    ]
    yaw = np.radians(np.longdouble(detector.yaw_deg))
    xs, ys = [], []
    for x, y in corners:
        u = (x - detector.type.ref_pixel_px[0]) * detector.type.pixel_size_mm[0]
        v = (y - detector.type.ref_pixel_px[1]) * detector.type.pixel_size_mm[1]
        xs.append(detector.position_mm[0] + np.cos(yaw) * u - np.sin(yaw) * v)
        ys.append(detector.position_mm[1] + np.sin(yaw) * u + np.cos(yaw) * v)
    px, py = np.array(xs), np.array(ys)
    radius = np.sqrt(px**2 + py**2)
    coefficients = getattr(camera.field_angle, "coefficients_rad")  # noqa: B009 - the oracle is for radial cameras
    theta = sum(np.longdouble(c) * radius**k for k, c in enumerate(coefficients))
    fx, fy = px * theta / radius, py * theta / radius
    return (-fx if camera.flip_x else fx), fy
