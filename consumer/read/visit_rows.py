"""Visits as rows for people: some by key, those of a night page by page, what changed since, and one with its parts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple, cast

import numpy as np

from consumer.domain.obscore import utc_ns
from consumer.postgres.connection import Database, Session
from consumer.postgres.row_codecs import columns, detectors_from_text
from consumer.regions import bounding_circle_deg, vertices_deg

VisitId = tuple[str, int]
"""Instrument and visit id."""
_POLYGON_DECIMALS = 4
_MOST_MEMBERS = 1000


class VisitRow(NamedTuple):
    """One visit; see the columns of table ``visit``."""

    instrument: str
    visit: int
    name: str
    day_obs: int
    seq_num: int | None
    physical_filter: str | None
    target_name: str | None
    observation_reason: str | None
    science_program: str | None
    exposure_time_s: float | None
    begin_tai_ns: int | None
    end_tai_ns: int | None
    complete: bool | None
    revision: int
    defined_at: datetime
    updated_at: datetime
    region: bytes

    @property
    def begin(self) -> datetime | None:
        """When the first exposure began, UTC."""
        return _utc(self.begin_tai_ns)

    @property
    def end(self) -> datetime | None:
        """When the last exposure ended, UTC."""
        return _utc(self.end_tai_ns)

    @property
    def ra_deg(self) -> float:
        """Right ascension of the centre of the bounding circle, ICRS."""
        return round(bounding_circle_deg(self.region)[0], _POLYGON_DECIMALS)

    @property
    def dec_deg(self) -> float:
        """Declination of the same."""
        return round(bounding_circle_deg(self.region)[1], _POLYGON_DECIMALS)

    @property
    def polygon(self) -> list[float]:
        """The region for a map; see `map_polygon`."""
        return map_polygon(self.region)


class ChangedVisit(NamedTuple):
    """A visit that was written."""

    instrument: str
    visit: int
    revision: int
    updated_at: datetime


class VisitMember(NamedTuple):
    """One exposure of a visit."""

    exposure: int
    obs_id: str
    seq_num: int | None
    raws_arrived: int
    raws_expected: int | None
    """None: nobody said which are."""


class DetectorRow(NamedTuple):
    """One detector of a visit."""

    detector: int
    raw: str
    """``arrived``, ``missing`` (in at least one exposure), or ``unknown``: not arrived, and not known to come."""
    polygon: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitParts:
    """A visit with what belongs to it."""

    row: VisitRow
    group_key: str
    rule: str
    algorithm: str
    camera_version: str | None
    padding_pixels: int
    close_reason: str
    software_version: str
    visit_systems: list[int]
    exposures: list[VisitMember]
    detectors: list[DetectorRow]


def map_polygon(region: bytes) -> list[float]:
    """Return a region for a map: ra, dec, ra, dec, ... in degrees, ICRS, to a third of an arcsecond.

    Counter-clockwise as seen from the origin, as in ObsCore; the first vertex is not repeated.
    """
    rounded = np.round(vertices_deg(region)[::-1], _POLYGON_DECIMALS)
    return rounded.ravel().tolist()


def read_visit_rows(session: Session, keys: Sequence[VisitId]) -> list[VisitRow]:
    """Read visits by key, in the order of the keys; those that there are not are missing."""
    rows = session.rows("page", "visits", columns(("instruments", "visits"), keys)) if keys else []
    return [VisitRow(*row) for row in rows]  # type: ignore[arg-type]  # the columns' types


def read_night_page(
    database: Database, day_obs: int, *, limit: int, instrument: str | None = None, after: VisitId | None = None
) -> list[VisitRow]:
    """Read visits of a night, ordered by instrument and id.

    Parameters
    ----------
    database
        A session of the reader role.
    day_obs, instrument
        Only visits of these; None: of any instrument.
    limit
        At most so many.
    after
        Only those after this one.
    """
    own_instrument, visit = after or (None, None)
    wanted = {"day_obs": day_obs, "instrument": instrument, "limit": limit}
    wanted |= {"after_instrument": own_instrument, "after_visit": visit}
    with database.snapshot() as session:
        return read_visit_rows(session, cast("list[VisitId]", session.rows("page", "night_keys", wanted)))


def read_changed_visits(database: Database, since: datetime, *, limit: int) -> list[ChangedVisit]:
    """Read which visits were written at a time or later, the newest first."""
    with database.snapshot() as session:
        rows = session.rows("page", "changed_keys", {"since": since, "limit": limit})
    return [ChangedVisit(*row) for row in rows]  # type: ignore[arg-type]  # the columns' types


def read_visits_by_key(database: Database, keys: Sequence[VisitId]) -> list[VisitRow]:
    """Read visits by key, in the order of the keys; those that there are not are missing."""
    with database.snapshot() as session:
        return read_visit_rows(session, keys)


def read_visit_parts(database: Database, instrument: str, visit: int) -> VisitParts | None:
    """Read a visit with its exposures and detectors; None where there is no such visit."""
    key = {"instrument": instrument, "visit": visit, "limit": _MOST_MEMBERS}
    with database.snapshot() as session:
        rows = read_visit_rows(session, [(instrument, visit)])
        if not rows:
            return None
        (own,) = session.rows("page", "visit", key)
        members = cast("list[tuple[int, str, int | None, str, str | None]]", session.rows("page", "members", key))
        regions = cast("list[tuple[int, bytes]]", session.rows("page", "detectors", key))
    found = [(detectors_from_text(m[3]), None if m[4] is None else detectors_from_text(m[4])) for m in members]
    exposures = [
        VisitMember(*m[:3], there.bit_count(), None if expected is None else expected.bit_count())
        for m, (there, expected) in zip(members, found, strict=True)
    ]
    detectors = [DetectorRow(number, _raw(number, found), map_polygon(region)) for number, region in regions]
    group_key, rule, algorithm, camera_version, padding, close_reason, software_version, systems = cast(
        "tuple[str, str, str, str | None, int, str, str, list[int]]", own
    )
    return VisitParts(
        row=rows[0],
        group_key=group_key,
        rule=rule,
        algorithm=algorithm,
        camera_version=camera_version,
        padding_pixels=padding,
        close_reason=close_reason,
        software_version=software_version,
        visit_systems=systems,
        exposures=exposures,
        detectors=detectors,
    )


def _raw(detector: int, exposures: Sequence[tuple[int, int | None]]) -> str:
    """Return `DetectorRow.raw` of a detector, from bit masks of the arrived and the expected ones of each exposure."""
    bit = 1 << detector
    if any(expected is not None and expected & ~there & bit for there, expected in exposures):
        return "missing"
    return "arrived" if any(there & bit for there, _ in exposures) else "unknown"


def _utc(tai_ns: int | None) -> datetime | None:
    utc = utc_ns(tai_ns)
    return None if utc is None else datetime.fromtimestamp(utc // 1000 / 1e6, UTC)
