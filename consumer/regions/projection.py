"""Pixels to sky: padded detector corners as unit vectors, for all detectors and any number of pointings at once.

The chain is pixel -> focal plane [mm] -> field angle [rad] -> tangent plane -> ICRS unit vector, as in Rubin's
``afw.cameraGeom`` and ``obs.base.createInitialSkyWcs``. The first half does not depend on the pointing and is kept
for each camera and padding. All arithmetic is elementwise, so that a region does not depend on how many are computed
together.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from consumer.regions.camera.geometry import Camera, Detector, Floats


class Pointing(NamedTuple):
    """Where the boresight points, and how the sky is turned; degrees, ICRS."""

    ra_deg: float
    dec_deg: float
    sky_angle_deg: float


def padded_corners(detector: Detector, padding: int) -> Floats:
    """Corners of a detector's outermost pixels, padded on all four sides.

    Returns
    -------
    corners
        (4, 2) float64, pixels, in the order of a walk around the detector: ``(x_min, y_min), (x_max, y_min),
        (x_max, y_max), (x_min, y_max)``.
    """
    (x0, y0), (x1, y1) = detector.type.bbox_px
    margin = padding + 0.5
    left, right, bottom, top = x0 - margin, x1 + margin, y0 - margin, y1 + margin
    return np.array([[left, bottom], [right, bottom], [right, top], [left, top]], dtype=np.float64)


def focal_plane(detector: Detector, pixels: Floats) -> Floats:
    """Map pixels of a detector to the focal plane.

    Parameters
    ----------
    detector
        The detector.
    pixels
        (..., 2) float64, pixels.

    Returns
    -------
    position_mm
        (..., 2) float64, mm: ``position + R S (pixel - ref_pixel)``, with the rotation of `Detector`'s yaw, pitch
        and roll projected on the focal plane.
    """
    yaw, pitch, roll = (math.radians(a) for a in (detector.yaw_deg, detector.pitch_deg, detector.roll_deg))
    cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (math.cos, math.sin))
    offset = (pixels - np.asarray(detector.type.ref_pixel_px)) * np.asarray(detector.type.pixel_size_mm)
    u, v = offset[..., 0], offset[..., 1]
    x = detector.position_mm[0] + cy * cp * u + (cy * sp * sr - cr * sy) * v
    y = detector.position_mm[1] + cp * sy * u + (cy * cr + sy * sp * sr) * v
    return np.stack((x, y), axis=-1)


def field_angles(camera: Camera, detector: Detector, pixels: Floats) -> Floats:
    """Map pixels of a detector to field angles: (..., 2) pixels to (..., 2) radians, float64."""
    angle = camera.field_angle.field_angle(focal_plane(detector, pixels))
    return angle * np.array([-1.0, 1.0]) if camera.flip_x else angle


@functools.lru_cache(maxsize=64)
def corner_field_angles(camera: Camera, padding: int) -> Floats:
    """Field angles of the padded corners of every detector.

    Returns
    -------
    angles
        (n_detectors, 4, 2) float64, radians, read-only; detectors in ascending order of id.
    """
    angles = np.stack([field_angles(camera, d, padded_corners(d, padding)) for d in camera.detectors])
    angles.flags.writeable = False
    return angles


def boresight_frame(pointing: Pointing) -> Floats:
    """Vectors that carry field angles to the sky.

    Returns
    -------
    frame
        (3, 3) float64; its rows are the boresight ``b`` and the directions ``p`` and ``q`` on the tangent plane that
        ``f_x`` and ``f_y`` point to, so that a field angle lies at ``b + f_x p + f_y q``. With the sky angle ``a``,
        ``p = -cos(a) east + sin(a) north`` and ``q = sin(a) east + cos(a) north``.
    """
    ra, dec, angle = (math.radians(a) for a in pointing)
    sin_ra, cos_ra, sin_dec, cos_dec = math.sin(ra), math.cos(ra), math.sin(dec), math.cos(dec)
    sin_a, cos_a = math.sin(angle), math.cos(angle)
    boresight = np.array([cos_ra * cos_dec, sin_ra * cos_dec, sin_dec])
    east = np.array([-sin_ra, cos_ra, 0.0])
    north = np.array([-sin_dec * cos_ra, -sin_dec * sin_ra, cos_dec])
    return np.stack((boresight, -cos_a * east + sin_a * north, sin_a * east + cos_a * north))


def to_sky(angles: Floats, frame: Floats) -> Floats:
    """Project field angles to the sky.

    Parameters
    ----------
    angles
        (..., 2) float64, radians.
    frame
        (3, 3) or (n_visits, 3, 3) float64, from `boresight_frame`.

    Returns
    -------
    vectors
        (..., 3) or (n_visits, ..., 3) float64, ICRS unit vectors.
    """
    x, y = angles[..., 0], angles[..., 1]
    # One array for each component: contiguous, and several times faster than broadcasting over a last axis of three.
    rows = frame if frame.ndim == 2 else frame[(..., *(np.newaxis,) * x.ndim)]  # noqa: PLR2004 - one matrix
    axis = frame.ndim - 2
    b, p, q = (np.take(rows, i, axis=axis) for i in range(3))
    components = [
        np.take(b, i, axis=axis) + x * np.take(p, i, axis=axis) + y * np.take(q, i, axis=axis) for i in range(3)
    ]
    norm = np.sqrt(components[0] ** 2 + components[1] ** 2 + components[2] ** 2)
    return np.stack([c / norm for c in components], axis=-1)


def detector_corners(camera: Camera, padding: int, pointing: Pointing) -> Floats:
    """Sky positions of the padded corners of every detector.

    Returns
    -------
    corners
        (n_detectors, 4, 3) float64, ICRS unit vectors; detectors in ascending order of id, corners as in
        `padded_corners`.
    """
    return to_sky(corner_field_angles(camera, padding), boresight_frame(pointing))


def detector_corners_many(camera: Camera, padding: int, pointings: Sequence[Pointing]) -> Floats:
    """Do as `detector_corners` for many pointings: (n_visits, n_detectors, 4, 3) float64, ICRS unit vectors."""
    frames = np.stack([boresight_frame(p) for p in pointings])
    return to_sky(corner_field_angles(camera, padding), frames)
