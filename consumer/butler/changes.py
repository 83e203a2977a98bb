"""What a Butler registry lacks of a visit: the tables' rows held against the registry's. Pure.

A registry may have been changed by another client since: `VisitGeometry.update_dimension_records` of obs_base replaces
the regions of visits by refitted ones. Such regions are recognised because they are neither ours nor those that the
sink wrote last, and are kept; the rest of the visit follows the tables.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from consumer.domain.number_ranges import numbers_as_ranges
from consumer.model import VisitRecords
from consumer.regions import same_region

_HALF_TURN_DEG = 180.0
_TURN_DEG = 360.0
_TOLERANCE = 1e-9
"""Degrees or seconds: sums and means of another order of exposures may differ in the last bits."""

Values = Mapping[str, object]
"""Columns of a row of ``visit`` but its key and its region; ``timespan`` is a pair of TAI nanoseconds or None."""


class SinkResult(StrEnum):
    """What became of one revision of a visit."""

    NEW = "new"
    UPDATED = "updated"
    SAME = "same"
    """The registry has it already."""
    KEPT = "kept"
    """Another client had changed the regions: they were kept, the rest was updated."""
    REFUSED = "refused"
    """The registry refuses its rows: a dead letter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredVisit:
    """The rows of one visit in the registry."""

    values: Values
    region: bytes | None
    exposures: frozenset[int] = frozenset()
    systems: frozenset[int] = frozenset()
    detector_regions: Mapping[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryChange:
    """What is to be written of one visit."""

    records: VisitRecords
    result: SinkResult
    values: Values | None = None
    """Of the row of ``visit``; None: it stays."""
    region: bytes = b""
    """Of the row of ``visit``."""
    detector_regions: Mapping[int, bytes] = field(default_factory=dict)
    exposures: tuple[int, ...] = ()
    """Members to be added."""
    systems: tuple[int, ...] = ()
    """Visit systems to be added."""
    digest: bytes | None = None
    """Of the regions that the registry has afterwards; None: they are another client's."""
    detail: str = ""

    @property
    def writes(self) -> bool:
        """Whether there is anything to write."""
        return bool(self.values is not None or self.detector_regions or self.exposures or self.systems)


def find_change(
    records: VisitRecords, registered: RegisteredVisit | None, written: Collection[bytes]
) -> RegistryChange:
    """Compare a visit with what the registry has of it.

    Parameters
    ----------
    records
        The tables' rows.
    registered
        The registry's; None where it has no such visit.
    written
        Digests of the regions that this sink has written, or may have.
    """
    visit, regions = records.definition, records.regions
    ours = dict(zip(regions.detectors, regions.detector_regions, strict=True))
    values = visit_values(records)
    members = {e.id for e in visit.exposures}
    if registered is None:
        return RegistryChange(
            records=records,
            result=SinkResult.NEW,
            values=values,
            region=regions.visit,
            detector_regions=ours,
            exposures=tuple(sorted(members)),
            systems=tuple(visit.visit_systems),
            digest=regions_digest(regions.visit, ours),
        )
    there = registered.detector_regions
    differing = {n: region for n, region in ours.items() if n not in there or not same_region(there[n], region)}
    same_visit = registered.region is not None and same_region(registered.region, regions.visit)
    unchanged = same_visit and not any(n in there for n in differing)
    kept = not unchanged and regions_digest(registered.region or b"", there) not in written
    region = (registered.region or regions.visit) if kept or same_visit else regions.visit
    notes = ["regions changed by another client were kept"] if kept else []
    if extra := sorted(registered.exposures - members):
        notes.append(f"the registry keeps exposures that the visit has lost: {', '.join(map(str, extra))}")
    row_differs = not _same_values(registered.values, values) or region != registered.region
    change = RegistryChange(
        records=records,
        result=SinkResult.KEPT,
        values=values if row_differs else None,
        region=region,
        detector_regions={} if kept else differing,
        exposures=tuple(sorted(members - registered.exposures)),
        systems=tuple(sorted(set(visit.visit_systems) - registered.systems)),
        digest=None if kept else regions_digest(region, {**there, **differing}),
        detail="; ".join(notes),
    )
    if notes:
        return change
    return replace(change, result=SinkResult.UPDATED if change.writes else SinkResult.SAME)


def visit_differences(records: VisitRecords, registered: RegisteredVisit) -> list[str]:
    """Return where the registry's rows of a visit are not the tables'; regions compare within 1e-12 rad."""
    visit, regions = records.definition, records.regions
    there, ours = registered.detector_regions, dict(zip(regions.detectors, regions.detector_regions, strict=True))
    values = visit_values(records)
    names = [name for name, value in registered.values.items() if not _same_value(name, values[name], value)]
    if registered.region is None or not same_region(registered.region, regions.visit):
        names.append("region")
    texts = [f"differs in {', '.join(names)}"] if names else []
    common = ours.keys() & there.keys()
    for what, found in (
        ("the other lacks detector regions", ours.keys() - there.keys()),
        ("the other has besides detector regions", there.keys() - ours.keys()),
        ("other detector regions", {n for n in common if not same_region(there[n], ours[n])}),
        ("the other lacks exposures", {e.id for e in visit.exposures} - registered.exposures),
        ("the other has besides exposures", registered.exposures - {e.id for e in visit.exposures}),
        ("the other lacks visit systems", set(visit.visit_systems) - registered.systems),
    ):
        if found:
            texts.append(f"{what} {numbers_as_ranges(found)}")
    return texts


def visit_values(records: VisitRecords) -> dict[str, object]:
    """Return the columns of the registry's row of ``visit``, as `DefineVisitsTask` writes them.

    The azimuth lies in (-180, 180] degrees there, and an empty interval has a nanosecond.
    """
    own = records.aggregate
    timespan = None
    if own.timespan_begin is not None and own.timespan_end is not None:
        timespan = (own.timespan_begin, max(own.timespan_end, own.timespan_begin + 1))
    azimuth = own.azimuth
    if azimuth is not None and azimuth > _HALF_TURN_DEG:
        azimuth -= _TURN_DEG
    return {
        "day_obs": own.day_obs,
        "physical_filter": own.physical_filter,
        "name": records.definition.name,
        "seq_num": own.seq_num,
        "exposure_time": own.exposure_time,
        "target_name": own.target_name,
        "observation_reason": own.observation_reason,
        "science_program": own.science_program,
        "azimuth": azimuth,
        "zenith_angle": own.zenith_angle,
        "timespan": timespan,
    }


def regions_digest(visit: bytes, detectors: Mapping[int, bytes]) -> bytes:
    """Return a digest of the regions of a visit and of its detectors."""
    digest = hashlib.blake2b(visit, digest_size=16)
    for detector in sorted(detectors):
        digest.update(detector.to_bytes(8, "big"))
        digest.update(detectors[detector])
    return digest.digest()


def _same_values(one: Values, other: Values) -> bool:
    return all(_same_value(name, one[name], value) for name, value in other.items())


def _same_value(name: str, one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        apart = abs(one - other)
        if name == "azimuth":
            apart = min(apart % _TURN_DEG, -apart % _TURN_DEG)
        return apart <= _TOLERANCE
    return one == other
