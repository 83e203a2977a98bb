"""The columns of the ObsCore table, and the row of a visit; SQL, TAP_SCHEMA and VOTable follow from the columns.

Source: IVOA Recommendation ObsCore 1.1, table 6 (mandatory) and appendix B; see
https://www.ivoa.net/documents/ObsCore/20170509/.
"""

import csv
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from typing import Final, NamedTuple
from urllib.parse import quote

import erfa
import numpy as np

from consumer.model import VisitAggregate
from consumer.regions import Camera, CameraSet, bounding_circle_deg, find_camera, s_region

_SECOND_NS: Final = 1_000_000_000
_DAY_NS: Final = 86_400 * _SECOND_NS
_HOUR_NS: Final = 3_600 * _SECOND_NS
_MJD_OF_1970: Final = 40587
_NM: Final = 1e-9


class Column(NamedTuple):
    """One column of the table ``visit_obscore``: a line of ``obscore.csv`` beside this module."""

    name: str
    sql_type: str
    unit: str
    ucd: str
    utype: str
    """Without the prefix ``obscore:``; empty for columns that the standard does not know."""
    text: str
    constant: str | None = None
    """SQL of the value that every row has; None: the writer gives each row its own."""
    not_null: bool = False
    mandatory: bool = False
    """Whether ObsCore 1.1 demands it; the others are optional ones of it, and ours."""


def _columns() -> tuple[Column, ...]:
    text = files("consumer.domain").joinpath("obscore.csv").read_text(encoding="utf-8")
    return tuple(
        Column(
            **{name: row[name] for name in ("name", "sql_type", "unit", "ucd", "utype", "text")},
            constant=row["constant"] or None,
            not_null=bool(row["not_null"]),
            mandatory=bool(row["mandatory"]),
        )
        for row in csv.DictReader(text.splitlines())
    )


COLUMNS: Final = _columns()
"""All, in the order of the table."""
WRITTEN: Final = tuple(column for column in COLUMNS if column.constant is None)
"""Those whose values `Obscore.row` returns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObscoreInstrument:
    """What the row of a visit says of its instrument."""

    facility_name: str | None = None
    cameras: CameraSet | None = None
    """Where filters and pixel scale come from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Obscore:
    """How rows of the ObsCore table are made.

    Texts name the visit by ``{instrument}``, ``{visit}``, ``{name}``, ``{obs_id}``, ``{day_obs}``; in identifiers and
    URLs what is not fit for them is quoted.
    """

    instruments: Mapping[str, ObscoreInstrument]
    collection: str
    publisher_did: str
    access_url: str | None = None
    access_format: str | None = None
    embargo_hours: float = 0.0

    def row(self, visit: "PublishedVisit") -> tuple[object, ...]:
        """Return the values of `WRITTEN` for one visit.

        Raises
        ------
        RegionError
            The region is not the encoding of a polygon.
        """
        aggregate, known = visit.aggregate, self.instruments.get(visit.instrument, ObscoreInstrument())
        band, em_min, em_max, fwhm, pixel = _optics(known.cameras, aggregate.timespan_begin, aggregate.physical_filter)
        ra, dec, radius = bounding_circle_deg(visit.region)
        obs_id = f"{visit.instrument}/{visit.id}"
        names: dict[str, object] = {
            "instrument": visit.instrument,
            "visit": visit.id,
            "name": visit.name,
            "obs_id": obs_id,
            "day_obs": aggregate.day_obs,
        }
        quoted = names | {name: quote(str(names[name])) for name in ("instrument", "name", "obs_id")}
        return (
            self.collection.format_map(names),
            obs_id,
            self.publisher_did.format_map(quoted),
            None if self.access_url is None else self.access_url.format_map(quoted),
            None if self.access_url is None else self.access_format,
            aggregate.target_name,
            ra,
            dec,
            2 * radius,
            s_region(visit.region),
            fwhm,
            utc_mjd(aggregate.timespan_begin),
            utc_mjd(aggregate.timespan_end),
            aggregate.exposure_time,
            aggregate.exposure_time,
            em_min,
            em_max,
            known.facility_name,
            visit.instrument,
            visit.name,
            self._release_date(aggregate),
            pixel,
            aggregate.science_program,
            aggregate.physical_filter,
            band,
            aggregate.day_obs,
            visit.id,
            visit.revision,
        )

    def _release_date(self, aggregate: VisitAggregate) -> str | None:
        """Return when the embargo ends, UTC; a visit of unknown end counts from the end of its observing day."""
        if not self.embargo_hours:
            return None
        end = utc_ns(aggregate.timespan_end)
        if end is None:
            day = f"{aggregate.day_obs:08d}"
            # An observing day turns over at noon UTC of the next day at the latest.
            # Microseconds: nanoseconds end in the year 2262.
            begin = np.datetime64(f"{day[:4]}-{day[4:6]}-{day[6:]}", "us").astype(np.int64)
            end = int(begin) * 1000 + _DAY_NS + _DAY_NS // 2
        micros = (end + round(self.embargo_hours * _HOUR_NS)) // 1000
        return str(np.datetime_as_string(np.datetime64(micros, "us")))


class PublishedVisit(NamedTuple):
    """A visit as its row of the ObsCore table shows it."""

    instrument: str
    id: int
    name: str
    revision: int
    region: bytes
    """Encoding of the visit's polygon."""
    aggregate: VisitAggregate


def utc_ns(tai_ns: int | None) -> int | None:
    """Turn TAI nanoseconds since 1970 into UTC ones, which do not count leap seconds; right from 1972 on."""
    if tai_ns is None:
        return None
    starts, offsets = _leap_seconds()
    return tai_ns - offsets[max(bisect_right(starts, tai_ns) - 1, 0)]


def utc_mjd(tai_ns: int | None) -> float | None:
    """Turn TAI nanoseconds since 1970 into a modified Julian date, UTC."""
    utc = utc_ns(tai_ns)
    if utc is None:
        return None
    days, rest = divmod(utc, _DAY_NS)
    return _MJD_OF_1970 + days + rest / _DAY_NS


@cache
def _leap_seconds() -> tuple[Sequence[int], Sequence[int]]:
    """Return from which TAI time on (ns) TAI is ahead of UTC by how much (ns)."""
    rows = [row for row in erfa.leap_seconds.get() if row["year"] >= 1972]  # noqa: PLR2004 - before, seconds had other lengths
    offsets = [round(float(row["tai_utc"])) * _SECOND_NS for row in rows]
    months = [f"{row['year']:04d}-{row['month']:02d}" for row in rows]
    starts = [int(np.datetime64(month, "ns").astype(np.int64)) for month in months]
    return [start + offset for start, offset in zip(starts, offsets, strict=True)], offsets


_Optics = tuple[str | None, float | None, float | None, float | None, float | None]


def _optics(cameras: CameraSet | None, begin_tai_ns: int | None, physical_filter: str | None) -> _Optics:
    camera = None if cameras is None else find_camera([cameras], begin_tai_ns)
    return (None,) * 5 if camera is None else _optics_of(camera, physical_filter)


@lru_cache(maxsize=256)
def _optics_of(camera: Camera, physical_filter: str | None) -> _Optics:
    """Return band, shortest and longest wavelength (m), width of a star's image and pixel scale (arcsec)."""
    pixel = camera.pixel_scale_arcsec
    found = camera.filter_named(physical_filter)
    if found is None:
        return None, None, None, None, pixel
    low, high = found.wavelength_nm or (None, None)
    return (
        found.band,
        None if low is None else low * _NM,
        None if high is None else high * _NM,
        found.fwhm_arcsec,
        pixel,
    )
