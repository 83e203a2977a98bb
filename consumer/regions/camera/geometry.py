"""The geometry of a camera: frozen types, and which version of a camera is valid when.

A camera is a list of files (see ``data/README.md``). A file with a validity range is a *version*; a file without one is
the *nominal* camera, used where no version is valid. Reading files is the job of `consumer.regions.camera.files`.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import NonNegativeInt, PositiveFloat

from consumer.errors import CameraError

Floats = npt.NDArray[np.float64]

ARCSEC: Final = np.pi / (180.0 * 3600.0)
"""One second of arc in radians."""


class Purpose(StrEnum):
    """What a detector is for; every one of them has a region."""

    SCIENCE = "science"
    GUIDER = "guider"
    WAVEFRONT = "wavefront"
    FOCUS = "focus"


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorType:
    """What detectors of one make have in common.

    Raises
    ------
    ValueError
        If the bounds are empty.
    """

    bbox_px: tuple[tuple[int, int], tuple[int, int]]
    """Inclusive pixel bounds ``((x_min, y_min), (x_max, y_max))``; the centre of a pixel has integer coordinates."""
    pixel_size_mm: tuple[PositiveFloat, PositiveFloat]
    ref_pixel_px: tuple[float, float]
    """The pixel coordinates that lie at the detector's position."""

    def __post_init__(self) -> None:
        (x_min, y_min), (x_max, y_max) = self.bbox_px
        if x_min > x_max or y_min > y_max:
            raise ValueError("bbox_px is empty; write inclusive bounds [[x_min, y_min], [x_max, y_max]]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector:
    """One detector and where it sits in the focal plane."""

    id: int
    name: str
    type: DetectorType
    purpose: Purpose
    position_mm: tuple[float, float]
    """Of the reference pixel, in focal plane coordinates."""
    yaw_deg: float
    pitch_deg: float = 0.0
    roll_deg: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RadialFieldAngle:
    """``theta = sum(c_k r_mm**k)`` radians along the radius; ``c_0`` is zero.

    Raises
    ------
    ValueError
        If the first coefficient is not zero, or is the only one.
    """

    coefficients_rad: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.coefficients_rad) < 2 or self.coefficients_rad[0] != 0:  # noqa: PLR2004 - a constant and a linear term
            raise ValueError("needs a first coefficient of zero and at least a second one")

    def field_angle(self, position_mm: Floats) -> Floats:
        """Map focal plane positions to field angles.

        Parameters
        ----------
        position_mm
            (..., 2) float64, focal plane, mm.

        Returns
        -------
        field_angle
            (..., 2) float64, radians.
        """
        radius = np.hypot(position_mm[..., 0], position_mm[..., 1])
        # theta / r, which is finite at the centre because c_0 is zero.
        return position_mm * _horner(self.coefficients_rad[1:], radius)[..., np.newaxis]

    def radial_angle(self, radius_mm: Floats) -> Floats:
        """Angle from the optical axis, radians, at a radius in mm."""
        return radius_mm * _horner(self.coefficients_rad[1:], radius_mm)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolynomialFieldAngle:
    """A polynomial in both coordinates for each axis.

    ``axis = scale * sum over i in 0..order, j in 0..order-i of c[k] u**i v**j`` with ``u = x_mm / unit_mm``,
    ``v = y_mm / unit_mm``; ``k`` counts in that order, ``j`` fastest.

    Raises
    ------
    ValueError
        If an axis has another number of coefficients than its order needs.
    """

    kind: Literal["polynomial2d"] = "polynomial2d"
    order: NonNegativeInt
    unit_mm: PositiveFloat
    scale_arcsec: float
    x_coefficients: tuple[float, ...]
    y_coefficients: tuple[float, ...]

    def __post_init__(self) -> None:
        terms = math.comb(self.order + 2, 2)
        for axis, found in (("x", self.x_coefficients), ("y", self.y_coefficients)):
            if len(found) != terms:
                raise ValueError(f"{axis}_coefficients has {len(found)} numbers; order {self.order} needs {terms}")

    def field_angle(self, position_mm: Floats) -> Floats:
        """Map focal plane positions to field angles; shapes and units as in `RadialFieldAngle.field_angle`."""
        scaled = position_mm / self.unit_mm
        u, v = scaled[..., 0], scaled[..., 1]
        axes = [self._evaluate(c, u, v) for c in (self.x_coefficients, self.y_coefficients)]
        return np.stack(axes, axis=-1) * (self.scale_arcsec * ARCSEC)

    def _evaluate(self, coefficients: tuple[float, ...], u: Floats, v: Floats) -> Floats:
        """Sum the triangle of terms by Horner's scheme in ``v``, then in ``u``."""
        rows = []
        start = 0
        for i in range(self.order + 1):
            rows.append(_horner(coefficients[start : start + self.order - i + 1], v))
            start += self.order - i + 1
        total = np.zeros_like(u)
        for row in reversed(rows):
            total = total * u + row
        return total


FieldAngle = RadialFieldAngle | PolynomialFieldAngle


def _horner(coefficients: Sequence[float], x: Floats) -> Floats:
    """``sum(c_k x**k)``, elementwise."""
    total = np.zeros_like(x)
    for coefficient in reversed(coefficients):
        total = total * x + coefficient
    return total


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What is known of some of a camera's filters.

    Raises
    ------
    ValueError
        If it matches nothing, or the wavelengths are out of order.
    """

    match: tuple[str, ...]
    """Patterns of names of physical filters, as a shell's: ``r_*``. The first filter of a file that matches counts."""
    band: str
    wavelength_nm: tuple[PositiveFloat, PositiveFloat] | None = None
    """Where the filter transmits, from and to, in vacuum."""
    fwhm_arcsec: PositiveFloat | None = None
    """Typical width of a star's image."""

    def __post_init__(self) -> None:
        if not self.match:
            raise ValueError("match names no filter")
        if self.wavelength_nm is not None and self.wavelength_nm[0] >= self.wavelength_nm[1]:
            raise ValueError("wavelength_nm is [from, to], in nanometres")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Camera:
    """One version of one camera; compared by identity, so that what is derived from it can be cached cheaply."""

    name: str
    version: str
    digest: str
    """Of the file's numbers, hexadecimal: two cameras of one digest give the same regions."""
    field_angle: FieldAngle
    flip_x: bool
    """Whether the field angle's x changes sign: the focal plane is seen in a mirror."""
    detectors: tuple[Detector, ...]
    """In ascending order of id."""
    valid_from_tai_ns: int | None = None
    """Start of the validity range, TAI nanoseconds since 1970; None is open."""
    valid_until_tai_ns: int | None = None
    """End of the half-open validity range; None is open."""
    filters: tuple[Filter, ...] = ()

    def filter_named(self, physical_filter: str | None) -> Filter | None:
        """Return what is known of a physical filter."""
        if physical_filter is None:
            return None
        return next((f for f in self.filters if any(fnmatchcase(physical_filter, m) for m in f.match)), None)

    @property
    def pixel_scale_arcsec(self) -> float:
        """Angle that a pixel of the first detector subtends on the axis."""
        step_mm = self.detectors[0].type.pixel_size_mm[0]
        ends = self.field_angle.field_angle(np.array([[-step_mm / 2, 0.0], [step_mm / 2, 0.0]]))
        return float(np.linalg.norm(ends[1] - ends[0]) / ARCSEC)

    @property
    def is_versioned(self) -> bool:
        """Whether the file states a validity range."""
        return self.valid_from_tai_ns is not None or self.valid_until_tai_ns is not None

    @property
    def label(self) -> str:
        """Name and version, for provenance."""
        return f"{self.name} {self.version}"

    @property
    def detector_ids(self) -> tuple[int, ...]:
        """Ids of all detectors, ascending."""
        return tuple(d.id for d in self.detectors)

    def is_valid_at(self, begin_tai_ns: int) -> bool:
        """Whether a versioned camera covers this time (TAI nanoseconds)."""
        return self.is_versioned and (
            (self.valid_from_tai_ns is None or self.valid_from_tai_ns <= begin_tai_ns)
            and (self.valid_until_tai_ns is None or begin_tai_ns < self.valid_until_tai_ns)
        )


@dataclass(frozen=True, slots=True)
class CameraSet:
    """All versions of one camera: at most one nominal file, and versions whose validity ranges do not overlap.

    Raises
    ------
    CameraError
        If the files do not make one camera: none at all, two nominal ones, or overlapping ranges.
    """

    cameras: tuple[Camera, ...]

    def __post_init__(self) -> None:
        """Refuse what would make a lookup ambiguous."""
        if not self.cameras:
            raise CameraError("a camera needs at least one file")
        nominal = [c.label for c in self.cameras if not c.is_versioned]
        if len(nominal) > 1:
            raise CameraError(f"two camera files have no validity range, so both are nominal: {', '.join(nominal)}")
        versions = sorted((c for c in self.cameras if c.is_versioned), key=_range_start)
        for earlier, later in itertools.pairwise(versions):
            end = earlier.valid_until_tai_ns
            if end is None or end > _range_start(later):
                raise CameraError(f"the validity ranges of camera versions {earlier.label} and {later.label} overlap")

    @property
    def nominal(self) -> Camera | None:
        """The camera without a validity range."""
        return next((c for c in self.cameras if not c.is_versioned), None)

    def version_at(self, begin_tai_ns: int | None) -> Camera | None:
        """Return the version that is valid at a time (TAI nanoseconds), if there is one."""
        if begin_tai_ns is None:
            return None
        return next((c for c in self.cameras if c.is_valid_at(begin_tai_ns)), None)


def _range_start(camera: Camera) -> float:
    """Sort key: an open start comes first."""
    return float("-inf") if camera.valid_from_tai_ns is None else camera.valid_from_tai_ns


def find_camera(
    collections: Sequence[CameraSet], begin_tai_ns: int | None, *, require_versioned_camera: bool = False
) -> Camera | None:
    """Search camera collections in order: first for a version that is valid, then for a nominal camera.

    Parameters
    ----------
    collections
        Where to look, in order of preference.
    begin_tai_ns
        Begin of the exposure, TAI nanoseconds; None matches no validity range.
    require_versioned_camera
        Never fall back to a nominal camera.

    Returns
    -------
    camera
        None where nothing fits; the caller knows which exposure that concerns.
    """
    version = next((c for s in collections if (c := s.version_at(begin_tai_ns)) is not None), None)
    if version is not None or require_versioned_camera:
        return version
    return next((s.nominal for s in collections if s.nominal is not None), None)
