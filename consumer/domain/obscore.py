"""The columns of the ObsCore table, and the row of a visit; SQL, TAP_SCHEMA and VOTable follow from the columns.

Source: IVOA Recommendation ObsCore 1.1, table 6 (mandatory) and appendix B; see
https://www.ivoa.net/documents/ObsCore/20170509/.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
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
    """One column of the table ``visit_obscore``."""

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


_TEXT, _INT, _LONG, _DOUBLE, _TIME = "text", "integer", "bigint", "double precision", "timestamp"
_POSITION, _BOUNDS = "Char.SpatialAxis.Coverage.Location.Coord.Position2D.Value2", "Coverage.Bounds.Limits"
_NULL: Final = "NULL"

MANDATORY: Final = (
    Column("dataproduct_type", _TEXT, "", "meta.code.class", "ObsDataset.dataProductType", "Kind of data", "'image'"),
    Column("calib_level", _INT, "", "meta.code;obs.calib", "ObsDataset.calibLevel", "1: instrumental data", "1", True),
    Column("obs_collection", _TEXT, "", "meta.id", "DataID.collection", "Name of the collection", None, True),
    Column("obs_id", _TEXT, "", "meta.id", "DataID.observationID", "INSTRUMENT/VISIT", None, True),
    Column(
        "obs_publisher_did",
        _TEXT,
        "",
        "meta.ref.ivoid",
        "Curation.publisherDID",
        "Identifier by IVOA rules",
        None,
        True,
    ),
    Column("access_url", _TEXT, "", "meta.ref.url", "Access.reference", "Where the data are"),
    Column("access_format", _TEXT, "", "meta.code.mime", "Access.format", "Media type of access_url"),
    Column("access_estsize", _LONG, "kbyte", "phys.size;meta.file", "Access.size", "Size of the data", _NULL),
    Column("target_name", _TEXT, "", "meta.id;src", "Target.name", "Target, as the observatory names it"),
    Column("s_ra", _DOUBLE, "deg", "pos.eq.ra", f"{_POSITION}.C1", "Centre of the bounding circle, ICRS", None, True),
    Column("s_dec", _DOUBLE, "deg", "pos.eq.dec", f"{_POSITION}.C2", "Centre of the bounding circle, ICRS", None, True),
    Column(
        "s_fov",
        _DOUBLE,
        "deg",
        "phys.angSize;instr.fov",
        "Char.SpatialAxis.Coverage.Bounds.Extent.diameter",
        "Diameter of the bounding circle",
        None,
        True,
    ),
    Column(
        "s_region",
        _TEXT,
        "",
        "pos.outline;obs.field",
        "Char.SpatialAxis.Coverage.Support.Area",
        "Hull of all detectors, ICRS: STC-S polygon, counter-clockwise seen from the origin",
        None,
        True,
    ),
    Column("s_xel1", _LONG, "", "meta.number", "Char.SpatialAxis.numBins1", "Pixels: not one image", _NULL),
    Column("s_xel2", _LONG, "", "meta.number", "Char.SpatialAxis.numBins2", "Pixels: not one image", _NULL),
    Column(
        "s_resolution",
        _DOUBLE,
        "arcsec",
        "pos.angResolution",
        "Char.SpatialAxis.Resolution.Refval.value",
        "Typical width of a star's image in this filter",
    ),
    Column("t_min", _DOUBLE, "d", "time.start;obs.exposure", f"Char.TimeAxis.{_BOUNDS}.StartTime", "Begin, UTC, MJD"),
    Column("t_max", _DOUBLE, "d", "time.end;obs.exposure", f"Char.TimeAxis.{_BOUNDS}.StopTime", "End, UTC, MJD"),
    Column(
        "t_exptime",
        _DOUBLE,
        "s",
        "time.duration;obs.exposure",
        "Char.TimeAxis.Coverage.Support.Extent",
        "Sum of exposure times",
    ),
    Column(
        "t_resolution",
        _DOUBLE,
        "s",
        "time.resolution",
        "Char.TimeAxis.Resolution.Refval.value",
        "The exposure time",
    ),
    Column("t_xel", _LONG, "", "meta.number", "Char.TimeAxis.numBins", "Samples in time", _NULL),
    Column("em_min", _DOUBLE, "m", "em.wl;stat.min", f"Char.SpectralAxis.{_BOUNDS}.LoLimit", "Shortest wavelength"),
    Column("em_max", _DOUBLE, "m", "em.wl;stat.max", f"Char.SpectralAxis.{_BOUNDS}.HiLimit", "Longest wavelength"),
    Column(
        "em_res_power",
        _DOUBLE,
        "",
        "spect.resolution",
        "Char.SpectralAxis.Resolution.ResolPower.refVal",
        "Resolving power: none, an image",
        _NULL,
    ),
    Column("em_xel", _LONG, "", "meta.number", "Char.SpectralAxis.numBins", "Samples in wavelength", _NULL),
    Column("o_ucd", _TEXT, "", "meta.ucd", "Char.ObservableAxis.ucd", "What pixels hold", "'phot.count'"),
    Column("pol_states", _TEXT, "", "meta.code;phys.polarization", "Char.PolarizationAxis.stateList", "None", _NULL),
    Column("pol_xel", _LONG, "", "meta.number", "Char.PolarizationAxis.numBins", "Polarisation states", _NULL),
    Column("facility_name", _TEXT, "", "meta.id;instr.tel", "Provenance.ObsConfig.Facility.name", "Telescope"),
    Column("instrument_name", _TEXT, "", "meta.id;instr", "Provenance.ObsConfig.Instrument.name", "Camera", None, True),
)
"""The thirty columns that ObsCore 1.1 demands."""

OPTIONAL: Final = (
    Column("obs_title", _TEXT, "", "meta.title;obs", "DataID.title", "Name of the visit", None, True),
    Column(
        "obs_release_date",
        _TIME,
        "",
        "time.release",
        "Curation.releaseDate",
        "When the row becomes public, UTC; null: from the start",
    ),
    Column(
        "s_pixel_scale",
        _DOUBLE,
        "arcsec",
        "phys.angSize;instr.pixel",
        "Char.SpatialAxis.Sampling.RefVal.SamplingPeriod",
        "Size of a pixel on the axis",
    ),
    Column(
        "proposal_id",
        _TEXT,
        "",
        "meta.id;obs.proposal",
        "Provenance.Proposal.identifier",
        "Programme of the observatory",
    ),
    Column("em_filter_name", _TEXT, "", "meta.id;instr.filter", "", "Physical filter"),
    Column("em_band", _TEXT, "", "instr.bandpass", "", "Band of the filter"),
    Column("day_obs", _INT, "", "time.epoch", "", "Observing day, YYYYMMDD", None, True),
    Column("visit", _LONG, "", "meta.id;obs", "", "Id of the visit in its instrument", None, True),
    Column("revision", _INT, "", "meta.version", "", "Counts the changes of the visit's row", None, True),
)
"""What is known besides: optional columns of ObsCore, and our own."""

COLUMNS: Final = (*MANDATORY, *OPTIONAL)
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
            begin = np.datetime64(f"{day[:4]}-{day[4:6]}-{day[6:]}", "ns").astype(np.int64)
            end = int(begin) + _DAY_NS + _DAY_NS // 2
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
