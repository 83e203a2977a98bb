"""What a region algorithm is, and what can be set about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

from consumer.errors import ConfigurationError, GroupError, RegionError
from consumer.model import Exposure, RawIngested, RawRegion, VisitRegions


class WcsSource(StrEnum):
    """Where `single-raw-wcs` takes the pointing of an exposure from."""

    BORESIGHT = "boresight"
    """The exposure's own ``tracking_ra``, ``tracking_dec`` and ``sky_angle``."""
    HEADER = "header"
    """The WCS in the header of one raw, of the detector ``detector_id``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionSettings:
    """Settings of the region algorithms; each algorithm uses those that concern it.

    Raises
    ------
    ConfigurationError
        If a value is out of range, or ``wcs_source`` is ``header`` and ``detector_id`` is missing.
    """

    padding: int = 250
    """Pixels added on all four sides of every detector."""
    merge_exposures: bool = False
    """Whether a detector's region covers it in all exposures of the visit, or only in the first."""
    detector_id: int | None = None
    """The detector whose header ``wcs_source: header`` reads."""
    wcs_source: WcsSource = WcsSource.BORESIGHT
    require_versioned_camera: bool = False
    """Whether a camera without a validity range is refused."""
    detectors: tuple[int, ...] | None = None
    """The detectors whose headers ``full-raw-wcs`` reads; None for every raw that arrives."""
    options: Mapping[str, bool | int | float | str] = field(default_factory=dict)
    """Settings of an algorithm that another package provides; ours have none."""

    def __post_init__(self) -> None:
        """Refuse what no algorithm could work with."""
        if self.padding < 0:
            raise ConfigurationError(f"regions.padding is {self.padding}; it needs to be 0 or more pixels")
        if self.wcs_source is WcsSource.HEADER and self.detector_id is None:
            raise ConfigurationError("regions.detector_id is missing: wcs_source 'header' needs to know whose header")
        if self.detectors is not None and not self.detectors:
            raise ConfigurationError("regions.detectors is empty; leave it out to use the raws of all detectors")


MOST_MERGED = 500
"""Exposures whose regions are merged: those of LSSTCam take three seconds, and a transaction waits for them."""


def refuse_to_merge_too_many(exposures: Sequence[Exposure]) -> None:
    """Raise RegionError where a visit has more than `MOST_MERGED` exposures."""
    if len(exposures) > MOST_MERGED:
        raise RegionError(
            f"group {exposures[0].group!r} of {exposures[0].instrument} has {len(exposures)} exposures on sky; the "
            f"regions of more than {MOST_MERGED} are not merged"
        )


VisitInputs = tuple[Sequence[Exposure], Sequence[RawRegion]]
"""What `RegionAlgorithm.compute` takes for one visit."""


class RegionAlgorithm(Protocol):
    """Computes the regions of a visit; a value without I/O, registered by name."""

    @property
    def name(self) -> str:
        """Name by which the configuration chooses it."""

    @property
    def padding(self) -> int:
        """Pixels added on all four sides of every detector."""

    @property
    def needs_headers(self) -> bool:
        """Whether raws have to be observed."""

    @property
    def required_detectors(self) -> frozenset[int]:
        """Detectors whose raws must be here before an exposure counts as arrived; empty when none matters."""

    def observe(self, raw: RawIngested) -> RawRegion | None:
        """Return what to keep of a raw's own WCS, or None when it does not matter.

        Raises
        ------
        BadMessageError
            If the WCS matters and cannot be used.
        """

    def compute(self, exposures: Sequence[Exposure], raws: Sequence[RawRegion]) -> VisitRegions:
        """Compute the regions of a visit.

        Parameters
        ----------
        exposures
            The visit's exposures in time order; at least one.
        raws
            What `observe` returned for raws of these exposures, in any order.

        Raises
        ------
        RegionError
            If the regions cannot be computed.
        """

    def fingerprint(self, exposures: Sequence[Exposure]) -> str:
        """Return a text that is equal where algorithm, settings and camera are.

        It holds all that decides the regions apart from the exposures' fields and the raws, and no computed number:
        the last bits of a region depend on the machine.

        Raises
        ------
        RegionError
            If no camera is valid for the exposures.
        """


@runtime_checkable
class ComputesMany(Protocol):
    """What an algorithm has besides, if many visits at once cost it less than one after the other."""

    def compute_many(self, visits: Sequence[VisitInputs]) -> list[VisitRegions]:
        """Compute the regions of visits, in their order: the very bytes that `RegionAlgorithm.compute` gives for each.

        Raises
        ------
        RegionError
            If the regions of one of them cannot be computed.
        """


def compute_each(algorithm: RegionAlgorithm, visits: Sequence[VisitInputs]) -> list[VisitRegions | GroupError]:
    """Compute the regions of visits, together where the algorithm can; give the error of each that has none."""
    if isinstance(algorithm, ComputesMany) and len(visits) > 1:
        try:
            return list(algorithm.compute_many(visits))
        except GroupError:
            pass  # of one of them: the next lines tell which
    found: list[VisitRegions | GroupError] = []
    for exposures, raws in visits:
        try:
            found.append(algorithm.compute(exposures, raws))
        except GroupError as error:
            found.append(error)
    return found
