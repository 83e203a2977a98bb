"""A visit's rows, finished before the transaction that writes them: what its exposures say together, and its hash.

Pure: no I/O, no clock. Regions are computed elsewhere and only passed through, so that a visit whose `inputs_hash` is
already stored costs no geometry.
"""

import math
import struct
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import TypeVar

from consumer.model import (
    CloseReason,
    Exposure,
    GroupKey,
    RawRegion,
    VisitAggregate,
    VisitDefinition,
    VisitRecords,
    VisitRegions,
    in_time_order,
)

HASH_BYTES = 16
"""Length of an inputs hash."""

VARIOUS = "various"
"""The ``observation_reason`` of a visit whose exposures have no common one."""

_FULL_TURN_DEG = 360.0

_Number = TypeVar("_Number", int, float)


def aggregate(exposures: Sequence[Exposure]) -> VisitAggregate:
    """Return what the exposures of a visit are together.

    Over the exposures in order of ``(timespan_begin, id)``, unknown times last, so that the sums are the same to the
    last bit whatever the order of arrival. ``timespan_begin`` and ``timespan_end`` are null each when one of theirs is.

    Parameters
    ----------
    exposures
        Members of the visit, in any order.

    Raises
    ------
    ValueError
        When there are none.
    """
    if not exposures:
        raise ValueError("a visit has at least one exposure")
    members = in_time_order(exposures)
    exposure_times = _all_known(e.exposure_time for e in members)
    zenith_angles = _all_known(e.zenith_angle for e in members)
    azimuths = _all_known(e.azimuth for e in members)
    begins = _all_known(e.timespan_begin for e in members)
    ends = _all_known(e.timespan_end for e in members)
    reason = _common(e.observation_reason for e in members)
    return VisitAggregate(
        day_obs=min(e.day_obs for e in members),
        seq_num=min((e.seq_num for e in members if e.seq_num is not None), default=None),
        physical_filter=_common(e.physical_filter for e in members),
        exposure_time=None if exposure_times is None else _sum(exposure_times),
        target_name=_common(e.target_name for e in members),
        observation_reason=VARIOUS if reason is None else reason,
        science_program=_common(e.science_program for e in members),
        azimuth=None if azimuths is None else circular_mean_deg(azimuths),
        zenith_angle=None if zenith_angles is None else _sum(zenith_angles) / len(zenith_angles),
        timespan_begin=None if begins is None else min(begins),
        timespan_end=None if ends is None else max(ends),
    )


def circular_mean_deg(angles_deg: Sequence[float]) -> float:
    """Return the direction of the sum of unit vectors, degrees in [0, 360).

    Of a single angle it is that angle to the last bit, brought into the interval. Angles that cancel have no mean
    direction; what comes out then is what rounding left, the same for the same angles in the same order.

    Parameters
    ----------
    angles_deg
        At least one angle, degrees.
    """
    if len(angles_deg) == 1:
        mean = angles_deg[0]
    else:
        radians = [math.radians(a) for a in angles_deg]
        mean = math.degrees(math.atan2(_sum([math.sin(a) for a in radians]), _sum([math.cos(a) for a in radians])))
    mean %= _FULL_TURN_DEG
    # A tiny negative angle is so near the full turn that the remainder rounds to it. Adding 0.0 turns -0.0 into 0.0.
    return 0.0 if mean >= _FULL_TURN_DEG else mean + 0.0


def inputs_hash(
    definition: VisitDefinition,
    *,
    group: GroupKey,
    rule: str,
    algorithm: str,
    padding: int,
    fingerprint: str,
    raws: Sequence[RawRegion] = (),
) -> bytes:
    """Hash everything that decides a visit's rows, so that an equal hash means: leave the row alone.

    Parameters
    ----------
    definition
        The visit.
    group
        The group that it came from.
    rule
        Name of the grouping rule.
    algorithm, padding
        Name and padding (pixels) of the region algorithm.
    fingerprint
        What the algorithm says of itself, its settings and the camera's version; see
        `consumer.regions.RegionAlgorithm`.
    raws
        What the raws' own WCS said, where it matters.

    Returns
    -------
    hash
        16 bytes of BLAKE2b. History (the reason for closing, times, revisions) is not in it, nor are the regions: a
        numpy that moves a corner by one bit is no change.
    """
    parts = bytearray()
    _put(parts, definition.instrument)
    _put(parts, definition.id)
    _put(parts, definition.name)
    _put(parts, len(definition.visit_systems))
    for system in sorted(definition.visit_systems):
        _put(parts, system)
    _put(parts, None if definition.complete is None else int(definition.complete))
    for text in (group.instrument, group.key, rule, algorithm, fingerprint):
        _put(parts, text)
    _put(parts, padding)
    _put(parts, len(definition.exposures))
    for exposure in in_time_order(definition.exposures):
        _put_exposure(parts, exposure)
    _put(parts, len(raws))
    for raw in sorted(raws, key=lambda r: (r.exposure, r.detector)):
        _put_raw(parts, raw)
    return blake2b(parts, digest_size=HASH_BYTES).digest()


def make_records(
    definition: VisitDefinition,
    *,
    group: GroupKey,
    regions: VisitRegions,
    hashed: bytes,
    rule: str,
    algorithm: str,
    padding: int,
    close_reason: CloseReason,
) -> VisitRecords:
    """Bring together every row of one visit.

    Parameters
    ----------
    definition, group
        The visit, and the group that it came from.
    regions
        Its regions, computed by `algorithm` with `padding` pixels.
    hashed
        Its `inputs_hash`.
    rule, algorithm, padding
        Provenance.
    close_reason
        Why the group was closed.
    """
    return VisitRecords(
        definition=definition,
        group=group,
        aggregate=aggregate(definition.exposures),
        regions=regions,
        inputs_hash=hashed,
        rule=rule,
        algorithm=algorithm,
        padding=padding,
        close_reason=close_reason,
    )


def _all_known(values: Iterable[_Number | None]) -> list[_Number] | None:
    known: list[_Number] = []
    for value in values:
        if value is None:
            return None
        known.append(value)
    return known


def _common(values: Iterable[str | None]) -> str | None:
    distinct = set(values)
    return distinct.pop() if len(distinct) == 1 else None


def _sum(values: Iterable[float]) -> float:
    # Not the built-in sum: from Python 3.12 on that compensates, and the last bit would depend on the interpreter.
    total = 0.0
    for value in values:
        total += value
    return total


# Every value is written with its type and, where its length varies, its length: no two different inputs give the same
# bytes. The fields of an exposure that are not here reach no row: `obs_id` and `group` do so through the definition.
_HASHED_NUMBERS = (
    "exposure_time",
    "azimuth",
    "zenith_angle",
    "tracking_ra",
    "tracking_dec",
    "sky_angle",
)
_HASHED_OTHERS = (
    "id",
    "day_obs",
    "seq_num",
    "physical_filter",
    "target_name",
    "observation_reason",
    "science_program",
    "timespan_begin",
    "timespan_end",
)


def _put(parts: bytearray, value: int | str | None) -> None:
    if value is None:
        parts += b"n"
    elif isinstance(value, str):
        encoded = value.encode()
        parts += b"s%d:" % len(encoded)
        parts += encoded
    else:
        parts += b"i%d;" % value


def _put_number(parts: bytearray, value: float | None) -> None:
    # Adding 0.0 makes -0.0 and 0.0, which are equal, the same bits.
    parts += b"n" if value is None else b"f" + struct.pack("<d", value + 0.0)


def _put_exposure(parts: bytearray, exposure: Exposure) -> None:
    for name in _HASHED_OTHERS:
        _put(parts, getattr(exposure, name))
    for name in _HASHED_NUMBERS:
        _put_number(parts, getattr(exposure, name))


def _put_raw(parts: bytearray, raw: RawRegion) -> None:
    _put(parts, raw.exposure)
    _put(parts, raw.detector)
    _put(parts, None if raw.region is None else raw.region.hex())
    if raw.pointing is None:
        parts += b"n"
    else:
        for angle in raw.pointing:
            _put_number(parts, angle)
