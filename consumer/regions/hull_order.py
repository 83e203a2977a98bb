"""Which corners of a camera make up a visit's hull, found once for each camera and padding.

A pointing turns the sphere, and moves no corner against another. So the vertices of the hull are the same corners for
all pointings, unless a corner lies so close to an edge that rounding decides: then sphgeom computes each hull.
"""

import functools
from typing import Final

import numpy as np
import numpy.typing as npt

from consumer.regions.camera.geometry import Camera
from consumer.regions.polygons import decode, hull, normalised
from consumer.regions.projection import Pointing, detector_corners

_CLEAR_RAD: Final = 1e-12
"""A corner that lies this far inside of an edge lies inside at every pointing: rounding moves it a thousandth."""

_ANY_POINTING: Final = Pointing(40.0, 20.0, 30.0)


@functools.lru_cache(maxsize=64)
def visit_hull_order(camera: Camera, padding: int) -> npt.NDArray[np.intp] | None:
    """Find the vertices of a visit's hull among the corners of all detectors.

    Returns
    -------
    order
        (n_vertices,) indices into the (n_detectors * 4) corners of `consumer.regions.projection.detector_corners`,
        in the order in which sphgeom encodes them, for every pointing; None where rounding decides.
    """
    corners = detector_corners(camera, padding, _ANY_POINTING).reshape(-1, 3)
    start = decode(hull(corners))
    order = (normalised(corners) == start[:, np.newaxis]).all(axis=-1).argmax(axis=-1)
    # Differences of neighbours keep the small angles that products of whole unit vectors lose.
    edges = np.cross(start, np.roll(start, -1, axis=0) - start)
    inside = corners @ edges.T / np.linalg.norm(edges, axis=-1)
    inside[[order, np.roll(order, -1)], np.arange(len(order))] = np.inf  # its own two ends
    return order if inside.min() > _CLEAR_RAD else None
