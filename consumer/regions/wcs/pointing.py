"""The pointing that a raw's own WCS implies, through the camera's model of its detector."""

import math

import numpy as np

from consumer.errors import BadMessageError, DeadLetterReason
from consumer.model import RawIngested
from consumer.regions.camera.geometry import Camera, Detector, Floats
from consumer.regions.projection import field_angles
from consumer.regions.wcs.cards import read_wcs

_GRID = 5
"""Points along each side of the detector; more change nothing for a smooth WCS."""


def pointing_from_header(raw: RawIngested, camera: Camera, detector: Detector) -> tuple[float, float, float]:
    """Find the boresight and the sky angle at which the camera's model fits a raw's WCS best.

    A grid of pixels has a place on the sky by the WCS, and a field angle by the camera. The rotation between the two
    sets of directions is Wahba's problem, solved by singular value decomposition (Markley 1988, J. Astronaut. Sci. 36).

    Parameters
    ----------
    raw
        With ``wcs`` set.
    camera, detector
        The geometry of the raw's detector.

    Returns
    -------
    pointing
        Right ascension [0, 360), declination and sky angle [0, 360), degrees, ICRS.

    Raises
    ------
    BadMessageError
        If the header cannot be used.
    """
    (x0, y0), (x1, y1) = detector.type.bbox_px
    grid = np.meshgrid(np.linspace(x0, x1, _GRID), np.linspace(y0, y1, _GRID))
    pixels = np.stack([axis.ravel() for axis in grid], axis=-1)
    sky = read_wcs(raw).to_sky(pixels - np.array([x0, y0], dtype=np.float64))
    if not np.isfinite(sky).all():
        where = f"wcs of exposure {raw.exposure.id}, detector {raw.detector}"
        raise BadMessageError(
            DeadLetterReason.INVALID_FIELD,
            f"{where}: pixels of the detector have no place on the sky",
            instrument=raw.exposure.instrument,
        )
    return _pointing_of_frame(_fit_frame(field_angles(camera, detector, pixels), sky))


def _fit_frame(angles: Floats, sky: Floats) -> Floats:
    """Fit the rows (boresight, f_x, f_y) of `consumer.regions.projection.boresight_frame`.

    Parameters
    ----------
    angles
        (n, 2) float64, field angles, radians.
    sky
        (n, 3) float64, ICRS unit vectors.

    Returns
    -------
    frame
        (3, 3) float64, orthogonal; its determinant is -1, because the sky is seen from inside.
    """
    local = np.concatenate((np.ones((len(angles), 1)), angles), axis=-1)
    local /= np.linalg.norm(local, axis=-1, keepdims=True)
    left, _, right = np.linalg.svd(local.T @ sky)
    handedness = -np.linalg.det(left) * np.linalg.det(right)
    frame: Floats = left @ np.diag([1.0, 1.0, round(float(handedness))]) @ right
    # A detector is a small patch, so that the squares which the decomposition works on have lost half the digits of
    # the rotation about it. One step of least squares on the differences themselves brings them back.
    return _rotated(frame, _residual_rotation(local @ frame, sky))


def _residual_rotation(fitted: Floats, sky: Floats) -> Floats:
    """Solve ``sky - fitted = rotation x fitted`` for a small rotation vector, radians; both are (n, 3) float64."""
    x, y, z = fitted.T
    zero = np.zeros_like(x)
    rows = np.stack((np.stack((zero, z, -y), -1), np.stack((-z, zero, x), -1), np.stack((y, -x, zero), -1)), axis=1)
    rotation: Floats = np.linalg.lstsq(rows.reshape(-1, 3), (sky - fitted).ravel(), rcond=None)[0]
    return rotation


def _rotated(frame: Floats, rotation: Floats) -> Floats:
    """Turn the rows of a frame by a small rotation vector, and make them orthogonal to the last bit again."""
    left, _, right = np.linalg.svd(frame + np.cross(rotation, frame))
    turned: Floats = left @ right
    return turned


def _pointing_of_frame(frame: Floats) -> tuple[float, float, float]:
    """Read right ascension, declination and sky angle off a frame."""
    boresight, _, along_y = frame.tolist()
    ra, dec = math.atan2(boresight[1], boresight[0]), math.atan2(boresight[2], math.hypot(boresight[0], boresight[1]))
    east = (-math.sin(ra), math.cos(ra), 0.0)
    north = (-math.sin(dec) * math.cos(ra), -math.sin(dec) * math.sin(ra), math.cos(dec))
    # along_y = sin(a) east + cos(a) north
    sky_angle = math.atan2(_dot(along_y, east), _dot(along_y, north))
    return _positive_degrees(ra), math.degrees(dec), _positive_degrees(sky_angle)


def _dot(a: tuple[float, ...] | list[float], b: tuple[float, ...]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def _positive_degrees(angle: float) -> float:
    """Bring an angle from radians to degrees in [0, 360)."""
    degrees = math.degrees(angle) % 360.0
    return 0.0 if degrees == 360.0 else degrees  # noqa: PLR2004 - a tiny negative angle rounds to the full circle
