"""Between the types of the core and the columns of the tables (exposures, visits, raw regions, dead letters).

No statement is run here.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

import numpy as np

from consumer import __version__
from consumer.domain import KnownExposure
from consumer.domain.record_merge import ExpectedDetectors
from consumer.model import EXPOSURE_FIELDS, DeadLetter, Exposure, GroupKey, PartitionId, RawRegion, VisitRecords

Row = Sequence[object]
Parameters = dict[str, object]

_COPY_BEGIN = b"PGCOPY\n\xff\r\n\0" + bytes(8)
"""Signature, no flags, no header extension."""
_COPY_END = b"\xff\xff"
_VISITS_PER_STATEMENT = 500
"""Regions of more visits go in another statement: those of 500 visits of LSSTCam are 10 MB."""
_MAX_DETAIL = 4000
_LAST_STAMP_MS = 253_402_300_799_000
"""The last second of the year 9999: a later stamp PostgreSQL may not store, and Python cannot read."""
_RANGE = re.compile(r"\[(\d+),(\d+)\)")


def detectors_to_text(mask: int) -> str:
    """Write a bit mask of detectors as an ``int4multirange``, such as ``{[0,94),[95,205)}``."""
    ranges = []
    start = 0
    while mask >> start:
        start += ((mask >> start) & -(mask >> start)).bit_length() - 1
        # The run of ones from `start` ends where the first zero of the shifted mask stands.
        shifted = mask >> start
        length = (~shifted & (shifted + 1)).bit_length() - 1
        ranges.append(f"[{start},{start + length})")
        start += length
    return "{" + ",".join(ranges) + "}"


def detectors_from_text(text: str) -> int:
    """Read the text of an ``int4multirange`` of detector numbers as a bit mask."""
    mask = 0
    for low, high in _RANGE.findall(text):
        mask |= (1 << int(high)) - (1 << int(low))
    return mask


def detectors_to_list(mask: int) -> str:
    """Write a bit mask of detectors for people, such as ``12, 45-47``; empty where there is none."""
    spans = [(int(low), int(high) - 1) for low, high in _RANGE.findall(detectors_to_text(mask))]
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in spans)


def exposures_to_json(exposures: Iterable[KnownExposure]) -> str:
    """Write exposures as the JSON array that ``jsonb_populate_recordset(NULL::exposure, ...)`` reads back exactly."""
    return json.dumps(
        [
            {
                **{name: getattr(known.record, name) for name in EXPOSURE_FIELDS},
                "group_key": known.group.key,
                "detectors": detectors_to_text(known.detectors),
                "announced": known.announced,
                "expected_detectors": None if known.expected is None else detectors_to_text(known.expected.detectors),
                "expected_version": None if known.expected is None else known.expected.record_version,
            }
            for known in exposures
        ],
        allow_nan=False,
    )


def exposure_from_row(row: Row) -> KnownExposure:
    """Read a row of the columns that ``{exposure}`` names; see `consumer.postgres.sql_files.EXPOSURE_COLUMNS`."""
    record = Exposure(**dict(zip(EXPOSURE_FIELDS, row, strict=False)))  # type: ignore[arg-type] # the columns' types
    group_key, detectors, announced, expected, version = row[len(EXPOSURE_FIELDS) :]
    return KnownExposure(
        record,
        GroupKey(record.instrument, str(group_key)),
        detectors_from_text(str(detectors)),
        bool(announced),
        None if expected is None else ExpectedDetectors(int(str(version)), detectors_from_text(str(expected))),
    )


def raw_region_from_row(row: Row) -> RawRegion:
    """Read a row of ``raw_region``."""
    instrument, exposure, detector, region, ra, dec, sky_angle, record_version = row
    return RawRegion(
        instrument=instrument,  # type: ignore[arg-type] # a text column
        exposure=exposure,  # type: ignore[arg-type] # a bigint column
        detector=detector,  # type: ignore[arg-type] # an integer column
        region=region,  # type: ignore[arg-type] # a bytea column
        pointing=None if ra is None else (ra, dec, sky_angle),  # type: ignore[arg-type] # double precision columns
        record_version=record_version,  # type: ignore[arg-type] # a bigint column
    )


def storable(text: str) -> str:
    """Make any text one that a ``text`` column takes: no NUL, no lone surrogate, no book."""
    return text.replace("\x00", "\\0").encode("utf-8", "backslashreplace").decode()[:_MAX_DETAIL]


def columns(names: Sequence[str], rows: Iterable[Row]) -> Parameters:
    """Turn rows into one array parameter for each column, for ``unnest``.

    Parameters
    ----------
    names
        The parameters' names, in the order of a row's values.
    rows
        May be empty: every parameter is an empty array then.
    """
    turned = list(zip(*rows, strict=True)) or [()] * len(names)
    return {name: list(values) for name, values in zip(names, turned, strict=True)}


def array_text(numbers: Iterable[int]) -> str:
    """Write numbers as the text of an array."""
    return "{" + ",".join(map(str, numbers)) + "}"


def group_columns(keys: Iterable[GroupKey], *, prefix: str = "") -> Parameters:
    """Return group keys as the parameters ``instruments`` and ``group_keys``."""
    return columns((f"{prefix}instruments", "group_keys"), sorted(keys))


def dead_letter_columns(
    letters: Iterable[DeadLetter], offset_ids: Mapping[PartitionId, int] | None = None
) -> Parameters:
    """Return dead letters as parameters: of messages where `offset_ids` is given, of groups and exposures otherwise."""
    names = ("reasons", "details", "instruments", "exposures", "group_keys")
    if offset_ids is None:
        return columns(names, ((x.reason, storable(x.detail), x.instrument, x.exposure, x.group_key) for x in letters))
    return columns(
        (*names, "clocks", "offsets", "keys", "values", "messages_ms"),
        (
            (
                x.reason,
                storable(x.detail),
                x.instrument,
                x.exposure,
                x.group_key,
                offset_ids[x.message.partition],
                x.message.offset,
                x.message.key,
                x.message.value,
                min(max(x.message.timestamp_ms, 0), _LAST_STAMP_MS),
            )
            for x in letters
            if x.message is not None
        ),
    )


def visit_columns(visits: Sequence[VisitRecords]) -> Parameters:
    """Return visits' rows as the parameters of ``upsert_visits``, one array for each column."""
    aggregates = [v.aggregate for v in visits]
    return {
        "instruments": [v.definition.instrument for v in visits],
        "ids": [v.definition.id for v in visits],
        "day_obs": [a.day_obs for a in aggregates],
        "physical_filters": [a.physical_filter for a in aggregates],
        "names": [v.definition.name for v in visits],
        "seq_nums": [a.seq_num for a in aggregates],
        "exposure_times": [a.exposure_time for a in aggregates],
        "target_names": [a.target_name for a in aggregates],
        "observation_reasons": [a.observation_reason for a in aggregates],
        "science_programs": [a.science_program for a in aggregates],
        "azimuths": [a.azimuth for a in aggregates],
        "zenith_angles": [a.zenith_angle for a in aggregates],
        "regions": [v.regions.visit for v in visits],
        "timespan_begins": [a.timespan_begin for a in aggregates],
        "timespan_ends": [a.timespan_end for a in aggregates],
        "group_keys": [v.group.key for v in visits],
        "completes": [v.definition.complete for v in visits],
        "inputs_hashes": [v.inputs_hash for v in visits],
        "rules": [v.rule for v in visits],
        "algorithms": [v.algorithm for v in visits],
        "camera_versions": [v.regions.camera_version for v in visits],
        "paddings": [v.padding for v in visits],
        "close_reasons": [str(v.close_reason) for v in visits],
        "software_versions": [__version__ for _ in visits],
    }


def detector_copy_data(visits: Sequence[VisitRecords]) -> Iterator[bytes]:
    """Return the binary ``COPY`` data of the detector regions of visits, see PostgreSQL's description of its format.

    Regions of one length, which are nearly all, are put together by numpy: each row costs no Python.
    """
    alike: dict[tuple[bytes, int], tuple[list[int], list[int], list[bytes]]] = {}
    for v in visits:
        instrument = v.definition.instrument.encode()
        for detector, region in zip(v.regions.detectors, v.regions.detector_regions, strict=True):
            ids, detectors, regions = alike.setdefault((instrument, len(region)), ([], [], []))
            ids.append(v.definition.id)
            detectors.append(detector)
            regions.append(region)
    yield _COPY_BEGIN
    for (instrument, length), (ids, detectors, regions) in alike.items():
        values: dict[str, tuple[str, object]] = {
            "instrument": (f"S{len(instrument)}", instrument),
            "visit": (">i8", ids),
            "detector": (">i4", detectors),
            "region": (f"V{length}", np.frombuffer(b"".join(regions), f"V{length}")),
        }
        kinds = [("columns", ">i2")]
        for name, (kind, _) in values.items():
            kinds += [(f"{name}_length", ">i4"), (name, kind)]
        rows = np.empty(len(ids), kinds)
        rows["columns"] = len(values)
        for name, (kind, value) in values.items():
            rows[f"{name}_length"] = np.dtype(kind).itemsize
            rows[name] = value
        yield rows.tobytes()
    yield _COPY_END


def detector_columns(visits: Sequence[VisitRecords]) -> Iterator[Parameters]:
    """Return the parameters of ``insert_detector_regions``: once for visits that are alike, up to a number."""
    alike: dict[tuple[tuple[int, ...], tuple[int, ...]], list[VisitRecords]] = {}
    for v in visits:
        lengths = tuple(map(len, v.regions.detector_regions))
        alike.setdefault((v.regions.detectors, lengths), []).append(v)
    for (detectors, lengths), same in alike.items():
        starts = list(accumulate(lengths, initial=1))[:-1]
        for first in range(0, len(same), _VISITS_PER_STATEMENT):
            some = same[first : first + _VISITS_PER_STATEMENT]
            yield {
                "instruments": [v.definition.instrument for v in some],
                "visits": [v.definition.id for v in some],
                "regions": [b"".join(v.regions.detector_regions) for v in some],
                "detectors": list(detectors),
                "starts": starts,
                "lengths": list(lengths),
            }
