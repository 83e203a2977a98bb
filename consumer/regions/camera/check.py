"""What is wrong, or odd, about a camera file: the checks that loading it does not need."""

import itertools
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from consumer.errors import CameraError
from consumer.regions.camera.files import load_camera
from consumer.regions.camera.geometry import Camera, Floats, RadialFieldAngle
from consumer.regions.projection import corner_field_angles, focal_plane, padded_corners

_SAMPLES: Final = 200
_STEP_MM: Final = 1e-3
_WIDE_FIELD_DEG: Final = 10.0
"""No camera that this service is for sees so far from its axis; a unit is wrong."""
_OVERLAP_MM: Final = 1e-6


class Severity(StrEnum):
    """How bad a problem is."""

    ERROR = "error"
    """The file cannot be used, or its regions would be wrong."""
    WARNING = "warning"
    """It can be used, but should be looked at."""


class Problem(NamedTuple):
    """One finding."""

    severity: Severity
    text: str


def check_camera(path: Path) -> list[Problem]:
    """Check a camera file.

    Parameters
    ----------
    path
        A file in the format of ``consumer/regions/camera/data/README.md``.

    Returns
    -------
    problems
        Empty for a good file. Of a file that cannot be loaded, what keeps it from that; its geometry is not looked at.
    """
    try:
        camera = load_camera(path)
    except CameraError as error:
        return [Problem(Severity.ERROR, text) for text in (str(error), *error.further)]
    return list(camera_problems(camera))


def camera_problems(camera: Camera) -> Iterator[Problem]:
    """Check the geometry of a camera that could be loaded."""
    yield from _distortion(camera)
    yield from _field_of_view(camera)
    yield from _reference_pixels(camera)
    yield from _overlaps(camera)


def _distortion(camera: Camera) -> Iterator[Problem]:
    """Two places of the focal plane must not see the same piece of sky."""
    outlines = np.stack([focal_plane(d, padded_corners(d, 0)) for d in camera.detectors])
    if isinstance(camera.field_angle, RadialFieldAngle):
        radius = np.linspace(0.0, np.linalg.norm(outlines, axis=-1).max(), _SAMPLES)
        falling = np.flatnonzero(np.diff(camera.field_angle.radial_angle(radius)) <= 0)
        if falling.size:
            at = radius[falling[0]]
            yield Problem(Severity.ERROR, f"field_angle does not grow with the radius beyond {at:.1f} mm")
        return
    centres = outlines.mean(axis=1, keepdims=True)
    points = np.concatenate((outlines, centres), axis=1).reshape(-1, 2)
    steps = [np.array([_STEP_MM, 0.0]), np.array([0.0, _STEP_MM])]
    along_x, along_y = (
        camera.field_angle.field_angle(points + s) - camera.field_angle.field_angle(points) for s in steps
    )
    area = along_x[:, 0] * along_y[:, 1] - along_x[:, 1] * along_y[:, 0]
    folded = np.flatnonzero(area * np.median(area) <= 0)
    if folded.size:
        x, y = points[folded[0]]
        yield Problem(Severity.ERROR, f"field_angle folds the focal plane at ({x:.1f}, {y:.1f}) mm")


def _field_of_view(camera: Camera) -> Iterator[Problem]:
    angles = np.degrees(np.linalg.norm(corner_field_angles(camera, 0), axis=-1).max(axis=-1))
    widest = int(np.argmax(angles))
    if not angles[widest] < _WIDE_FIELD_DEG:
        name = camera.detectors[widest].name
        yield Problem(
            Severity.ERROR,
            f"detector {name} lies {angles[widest]:.1f} degrees off the axis: positions and pixel sizes are mm, "
            "coefficients give radians or come with plate_scale_arcsec_per_mm",
        )


def _reference_pixels(camera: Camera) -> Iterator[Problem]:
    for detector in camera.detectors:
        (x0, y0), (x1, y1) = detector.type.bbox_px
        x, y = detector.type.ref_pixel_px
        if not (x0 - 0.5 <= x <= x1 + 0.5 and y0 - 0.5 <= y <= y1 + 0.5):
            text = f"detector {detector.name}: ref_pixel_px {x, y} lies outside its bbox_px; is its position_mm right?"
            yield Problem(Severity.WARNING, text)


def _overlaps(camera: Camera) -> Iterator[Problem]:
    outlines = [focal_plane(d, padded_corners(d, 0)) for d in camera.detectors]
    centres = np.stack([o.mean(axis=0) for o in outlines])
    reach = np.array([np.linalg.norm(o - c, axis=-1).max() for o, c in zip(outlines, centres, strict=True)])
    for i, j in itertools.combinations(range(len(outlines)), 2):
        near = np.hypot(*(centres[i] - centres[j])) < reach[i] + reach[j]
        if near and (depth := _overlap_mm(outlines[i], outlines[j])) > _OVERLAP_MM:
            names = f"{camera.detectors[i].name} and {camera.detectors[j].name}"
            yield Problem(Severity.WARNING, f"detectors {names} overlap by {depth:.3f} mm in the focal plane")


def _overlap_mm(one: Floats, other: Floats) -> float:
    """Depth to which two convex outlines, (4, 2) mm each, overlap along the axis where they do least; 0 if apart."""
    depth = np.inf
    for outline in (one, other):
        for edge in np.roll(outline, -1, axis=0)[:2] - outline[:2]:
            normal = np.array([-edge[1], edge[0]]) / np.hypot(*edge)
            a, b = one @ normal, other @ normal
            depth = min(depth, a.max() - b.min(), b.max() - a.min())
    return max(float(depth), 0.0)
