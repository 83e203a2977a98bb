"""What a night holds: its visits, and the exposures that are in none."""

from typing import NamedTuple

from consumer.domain import ExposureKey
from consumer.postgres.connection import Database
from consumer.regions import bounding_circle_deg


class NightVisit(NamedTuple):
    """One visit of a night, in one line."""

    instrument: str
    id: int
    name: str
    visit_systems: list[int]
    n_exposures: int
    physical_filter: str | None
    s_ra: float
    """Of the region's centre, degrees, ICRS; so is `s_dec`."""
    s_dec: float
    n_detectors: int
    """That have a region."""
    revision: int


def read_night(database: Database, *, day_obs: int | None = None, instrument: str | None = None) -> list[NightVisit]:
    """Read the visits of a night, ordered by instrument and id.

    Parameters
    ----------
    database
        A session of the reader role.
    day_obs, instrument
        Only visits of these; None: of all.
    """
    with database.snapshot() as session:
        rows = session.rows("read", "night", {"day_obs": day_obs, "instrument": instrument})
    return [
        NightVisit(*before, *bounding_circle_deg(region)[:2], *after)  # type: ignore[arg-type,call-arg]  # the columns' types
        for *before, region, n_detectors, revision in rows
        for after in [(n_detectors, revision)]
    ]


class StoredNight(NamedTuple):
    """How much is stored of one night of an instrument."""

    day_obs: int
    instrument: str
    exposures: int
    visits: int


def read_nights(database: Database, *, before: int, instrument: str | None = None) -> list[StoredNight]:
    """Read which nights are stored, in their order.

    Parameters
    ----------
    database
        A session of the reader role.
    before
        Only observing days before this one, YYYYMMDD.
    instrument
        Only of this one; None: of all.
    """
    with database.snapshot() as session:
        rows = session.rows("read", "nights", {"before": before, "instrument": instrument})
    return [StoredNight(*row) for row in rows]  # type: ignore[arg-type]  # the columns' types


def exposures_without_visit(
    database: Database, *, day_obs: int | None = None, instrument: str | None = None
) -> list[ExposureKey]:
    """Read which stored exposures are in no visit, ordered by their keys; parameters as in `read_night`."""
    with database.snapshot() as session:
        rows = session.rows("read", "exposures_without_visit", {"day_obs": day_obs, "instrument": instrument})
    return [ExposureKey(*row) for row in rows]  # type: ignore[arg-type]  # the columns' types
