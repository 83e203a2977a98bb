"""Which corners of a camera make up a visit's hull, found once for each camera and padding.

A pointing maps field angles to a tangent plane by a rotation and a reflection, and the tangent plane to the sphere
so that lines become great circles. Neither changes on which side of a line a point lies. So every decision of
sphgeom's hull, and with them the vertices and their order, is the same for all pointings, unless a decision is so
close that rounding takes it. `visit_hull_order` replays sphgeom's incremental algorithm and watches how close its
decisions are; where one is too close, the caller leaves the hull to sphgeom itself.
"""

import functools
from typing import Final

import numpy as np
import numpy.typing as npt

from consumer.regions.camera.geometry import Camera, Floats
from consumer.regions.polygons import normalised
from consumer.regions.projection import Pointing, detector_corners

_ROUNDING: Final = 2e-14
"""A turn below this, for each radian of the longest side, may come out otherwise at another pointing."""

_ANY_POINTING: Final = Pointing(40.0, 20.0, 30.0)


class _TooCloseError(Exception):
    """A decision of the hull is within rounding."""


@functools.lru_cache(maxsize=64)
def visit_hull_order(camera: Camera, padding: int) -> npt.NDArray[np.intp] | None:
    """Find the vertices of a visit's hull among the corners of all detectors.

    Returns
    -------
    order
        (n_vertices,) indices into the (n_detectors * 4) corners of `consumer.regions.projection.detector_corners`,
        in the order in which sphgeom encodes them, for every pointing; None where rounding decides.
    """
    points = normalised(detector_corners(camera, padding, _ANY_POINTING).reshape(-1, 3))
    try:
        return np.array(_incremental_hull(points), dtype=np.intp)
    except _TooCloseError:
        return None


def _incremental_hull(points: Floats) -> list[int]:
    """Replay the hull of sphgeom's ``ConvexPolygon``: start with a triangle, then insert point by point."""
    ordering = [0, 1, 2] if _clear_turns(points, points[0], np.array([1]), np.array([2]))[0] else [1, 0, 2]
    for v in range(3, len(points)):
        ends = np.array(ordering)
        # Whether the edge that ends at each vertex, seen from v, goes counter-clockwise.
        ccw = _clear_turns(points, points[v], np.roll(ends, 1), ends)
        if ccw.all():
            continue
        if not ccw.any():
            raise _TooCloseError
        ordering = _insert(ordering, ccw, v)
    return ordering


def _insert(ordering: list[int], ccw: npt.NDArray[np.bool_], v: int) -> list[int]:
    """Put a vertex in place of those that it hides: before the first of a run of hidden edges, all but its last."""
    previous = np.roll(ccw, 1)
    from_ccw = int(np.flatnonzero(previous & ~ccw)[0])
    # The edge before the first visible one ends at the last hidden vertex, which stays.
    to_ccw = (int(np.flatnonzero(ccw & ~previous)[0]) - 1) % len(ordering)
    if to_ccw < from_ccw:
        return [*ordering[to_ccw:from_ccw], v]
    if to_ccw > from_ccw or from_ccw > 0:
        return [*ordering[:from_ccw], v, *ordering[to_ccw:]]
    return [*ordering, v]


def _clear_turns(points: Floats, v: Floats, i: npt.NDArray[np.intp], j: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
    """Whether v, i, j turn counter-clockwise seen from outside; raise where rounding could say otherwise."""
    a, b = points[i] - v, points[j] - v
    turns = np.cross(a, b) @ v
    sides = np.maximum(np.linalg.norm(a, axis=-1), np.linalg.norm(b, axis=-1))
    if (np.abs(turns) <= _ROUNDING * sides).any():
        raise _TooCloseError
    return turns > 0
