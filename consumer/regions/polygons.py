"""Convex polygons on the sphere: the one module that imports ``lsst.sphgeom``.

A region travels as its encoding: the letter ``p``, then three little-endian doubles for each vertex. `encode_quads`
writes that encoding for many four-cornered regions at once, with the very bytes that sphgeom would write; a test
holds the two beside each other.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final, cast

import numpy as np
import numpy.typing as npt
from lsst.sphgeom import (
    Angle,
    Circle,
    ConvexPolygon,
    HtmPixelization,
    LonLat,
    UnitVector3d,
)
from pydantic_core import to_json

from consumer.errors import RegionError
from consumer.regions.camera.geometry import Floats

HTM_LEVEL: Final = 7
"""Trixels of about 0.6 degrees: a Rubin visit overlaps some sixty of them."""

Bools = npt.NDArray[np.bool_]

_TYPE_CODE: Final = b"p"
_VERTEX_BYTES: Final = 24
_PIXELIZATION: Final = HtmPixelization(HTM_LEVEL)

_ROUNDING: Final = 4e-15
"""A turn smaller than this, for each radian of side, may be rounding: ten times the error of two normalisations."""

_REVERSED: Final = np.array([1, 0, 3, 2])
"""How sphgeom's incremental hull orders four corners that go around clockwise; it keeps the other order."""


_NEXT: Final = np.array([1, 2, 3, 0])
_PREVIOUS: Final = np.array([3, 0, 1, 2])


def normalised(vectors: Floats) -> Floats:
    """Scale vectors to unit length, rounding exactly as the constructor of sphgeom's ``UnitVector3d``.

    It divides by the largest component first and adds the squares from the smallest up, and so do we: the result
    must not differ in a bit.

    Parameters
    ----------
    vectors
        (..., 3) float64.

    Returns
    -------
    unit
        (..., 3) float64.
    """
    x, y, z = np.moveaxis(vectors, -1, 0)
    largest = np.maximum(np.maximum(np.abs(x), np.abs(y)), np.abs(z))
    components = [c / largest for c in (x, y, z)]
    # One of the squares is 1 and the smallest comes first, whichever they are; sums of two do not depend on order.
    squares = [c * c for c in components]
    smallest = np.minimum(np.minimum(squares[0], squares[1]), squares[2])
    middle = np.maximum(np.minimum(squares[0], squares[1]), np.minimum(np.maximum(squares[0], squares[1]), squares[2]))
    norm = np.sqrt(smallest + middle + 1.0)
    return np.stack([c / norm for c in components], axis=-1)


def encode_quads(corners: Floats) -> list[bytes]:
    """Encode the convex hulls of many quadrilaterals.

    Parameters
    ----------
    corners
        (n, 4, 3) float64, ICRS vectors; the corners of each in the order of a walk around it, either way.

    Returns
    -------
    encodings
        For each, the bytes of ``ConvexPolygon([UnitVector3d(x, y, z) for each corner]).encode()``.

    Raises
    ------
    RegionError
        If corners are not finite, or have no convex hull.
    """
    _refuse_non_finite(corners)
    unit = normalised(corners)
    turns, sides = _turns(unit)
    limit = _ROUNDING * sides
    left: Bools = np.all(turns > limit, axis=-1)
    right: Bools = np.all(turns < -limit, axis=-1)
    # Four turns to one side put each corner on that side of each edge: a convex polygon, and so within a hemisphere.
    ordered = unit if left.all() else np.where(left[:, np.newaxis, np.newaxis], unit, unit[:, _REVERSED])
    encodings = _encode_vertices(ordered)
    for i in np.flatnonzero(~(left | right)):
        encodings[i] = hull(corners[i])
    return encodings


def hull(points: Floats) -> bytes:
    """Encode the convex hull of points, computed by sphgeom.

    Parameters
    ----------
    points
        (..., 3) float64, ICRS vectors.

    Raises
    ------
    RegionError
        If points are not finite, fewer than three are distinct, or they span more than a hemisphere.
    """
    _refuse_non_finite(points)
    try:
        return bytes(ConvexPolygon([UnitVector3d(*p) for p in points.reshape(-1, 3).tolist()]).encode())
    except (ValueError, RuntimeError) as error:
        raise RegionError(f"the corners of a region have no convex hull: {error}") from error


def encode_hulls(vertices: Floats) -> list[bytes]:
    """Encode vertices that are known to be convex hulls, in sphgeom's order: (n, m, 3) float64, ICRS vectors."""
    _refuse_non_finite(vertices)
    return _encode_vertices(normalised(vertices))


def decode(encoding: bytes) -> Floats:
    """Return the vertices of an encoded polygon: (n, 3) float64, ICRS unit vectors, counter-clockwise from outside.

    Raises
    ------
    RegionError
        If the bytes are not the encoding of a convex polygon.
    """
    body = encoding[1:]
    if encoding[:1] != _TYPE_CODE or len(body) < 3 * _VERTEX_BYTES or len(body) % _VERTEX_BYTES:
        raise RegionError(f"{len(encoding)} bytes that begin with {encoding[:1]!r} are not an encoded convex polygon")
    return np.frombuffer(body, dtype="<f8").astype(np.float64).reshape(-1, 3)


REGION_TOLERANCE_RAD = 1e-12
"""Corners that differ by less are the same: another numpy, and Rubin's own code, differ in the last bits."""


def same_region(one: bytes, other: bytes) -> bool:
    """Return whether two encoded regions are the same polygon, corner by corner; another kind of region is not."""
    if one == other:
        return True
    try:
        first, second = decode(one), decode(other)
    except RegionError:
        return False
    return first.shape == second.shape and bool(np.all(np.abs(first - second) <= REGION_TOLERANCE_RAD))


def vertices_deg(encoding: bytes) -> Floats:
    """Return the vertices of an encoded polygon: (n, 2) float64, right ascension [0, 360) and declination, degrees."""
    x, y, z = decode(encoding).T
    ra = np.degrees(np.arctan2(y, x)) % 360.0
    # The remainder of a tiny negative angle rounds to 360 itself.
    return np.stack((np.where(ra == 360.0, 0.0, ra), np.degrees(np.arctan2(z, np.hypot(x, y)))), axis=-1)  # noqa: PLR2004


def s_region(encoding: bytes) -> str:
    """Return a polygon as IVOA STC-S text: ``POLYGON ICRS ra dec ra dec ...``, degrees.

    DALI 1.1 wants the vertices counter-clockwise as seen from the origin; sphgeom has them so from outside.
    """
    # The shortest digits that read back exactly, as `repr` writes them, in an eighth of its time.
    numbers = to_json(vertices_deg(encoding)[::-1].ravel().tolist())
    return "POLYGON ICRS " + numbers[1:-1].decode().replace(",", " ")


def bounding_circle_deg(encoding: bytes) -> tuple[float, float, float]:
    """Return the circle around an encoded polygon: right ascension [0, 360), declination, radius; degrees."""
    circle = _polygon(encoding).getBoundingCircle()
    x, y, z = circle.getCenter()
    ra = math.degrees(math.atan2(y, x)) % 360.0
    dec = math.degrees(math.atan2(z, math.hypot(x, y)))
    return 0.0 if ra == 360.0 else ra, dec, circle.getOpeningAngle().asDegrees()  # noqa: PLR2004


def contains(encoding: bytes, ra_deg: float, dec_deg: float) -> bool:
    """Whether a point (degrees, ICRS) lies in an encoded polygon or on its edge."""
    return bool(_polygon(encoding).contains(UnitVector3d(LonLat.fromDegrees(ra_deg, dec_deg))))


def overlaps_circle(encoding: bytes, ra_deg: float, dec_deg: float, radius_deg: float) -> bool:
    """Whether an encoded polygon and a circle (degrees, ICRS) have a point in common.

    Exact: the centre lies inside, or an edge comes as near as the radius.
    """
    if contains(encoding, ra_deg, dec_deg):
        return True
    start = decode(encoding)
    end = np.roll(start, -1, axis=0)
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    centre = np.array([np.cos(ra) * np.cos(dec), np.sin(ra) * np.cos(dec), np.sin(dec)])
    normal = np.cross(start, end)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    height = normal @ centre
    foot = centre - height[:, np.newaxis] * normal
    beside = (np.einsum("ij,ij->i", np.cross(normal, start), foot) >= 0) & (
        np.einsum("ij,ij->i", np.cross(end, normal), foot) >= 0
    )
    to_vertex = 2 * np.arcsin(np.minimum(np.linalg.norm(start - centre, axis=-1) / 2, 1.0))
    distance = np.minimum(to_vertex, np.where(beside, np.arcsin(np.minimum(np.abs(height), 1.0)), np.pi))
    return bool(distance.min() <= np.radians(radius_deg))


def htm7_ids(encoding: bytes) -> tuple[int, ...]:
    """Ids of the level-7 HTM trixels that an encoded polygon may overlap, ascending."""
    return _ids(_PIXELIZATION.envelope(_polygon(encoding)))


def htm7_around(ra_deg: float, dec_deg: float, radius_deg: float = 0.0) -> tuple[int, ...]:
    """Ids of the level-7 HTM trixels that a point, or a circle, may overlap (degrees, ICRS), ascending."""
    centre = UnitVector3d(LonLat.fromDegrees(ra_deg, dec_deg))
    if radius_deg == 0:
        return (int(_PIXELIZATION.index(centre)),)
    return _ids(_PIXELIZATION.envelope(Circle(centre, Angle.fromDegrees(radius_deg))))


def _ids(ranges: Iterable[tuple[int, int]]) -> tuple[int, ...]:
    return tuple(i for begin, end in ranges for i in range(begin, end))


def _polygon(encoding: bytes) -> ConvexPolygon:
    try:
        return cast("ConvexPolygon", ConvexPolygon.decode(encoding))
    except RuntimeError as error:
        raise RegionError(f"{len(encoding)} bytes are not an encoded convex polygon: {error}") from error


def _turns(unit: Floats) -> tuple[Floats, Floats]:
    """Orientation of each corner of quadrilaterals, and the longest side that its error scales with: (n, 4) each.

    Differences of corners are exact to rounding; products of whole unit vectors would lose the small angles.
    """
    forward = unit[:, _NEXT] - unit
    length = np.sqrt(np.einsum("nij,nij->ni", forward, forward))
    backward = -forward[:, _PREVIOUS]
    # The triple product, component by component: np.cross takes three times as long.
    (fx, fy, fz), (bx, by, bz), (x, y, z) = (np.moveaxis(v, -1, 0) for v in (forward, backward, unit))
    turns = (fy * bz - fz * by) * x + (fz * bx - fx * bz) * y + (fx * by - fy * bx) * z
    return turns, np.maximum(length, length[:, _PREVIOUS])


def _encode_vertices(vertices: Floats) -> list[bytes]:
    """Encode (n, m, 3) ordered unit vectors: n polygons of m vertices."""
    count, length = len(vertices), 1 + vertices[0].size * 8 if len(vertices) else 1
    buffer = np.empty((count, length), dtype=np.uint8)
    buffer[:, 0] = _TYPE_CODE[0]
    buffer[:, 1:] = np.ascontiguousarray(vertices, dtype="<f8").reshape(count, -1).view(np.uint8)
    everything = buffer.tobytes()
    return [everything[i : i + length] for i in range(0, count * length, length)]


def _refuse_non_finite(points: Floats | Sequence[float]) -> None:
    if not np.isfinite(points).all():
        raise RegionError("a corner of a region is not finite: the position on the sky cannot be computed")
