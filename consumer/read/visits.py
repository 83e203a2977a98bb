"""Visits for notebooks: nights and places as astropy tables, footprints as sky regions.

from consumer.read.visits import Visits, footprints

with Visits("host=db.example.org dbname=visits user=visit_reader") as visits:
    tonight = visits.night(20261101)
"""

from types import TracebackType
from typing import Any, Self

import numpy as np
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn, Table
from astropy.time import Time

from consumer.config import DatabaseSettings
from consumer.domain.obscore import COLUMNS
from consumer.postgres.connection import Database
from consumer.postgres.obscore import Row, Selection, obscore_snapshot, rows_of_visits
from consumer.read.find import find_visits

_DTYPES = {"integer": np.int32, "bigint": np.int64, "double precision": np.float64}


class Visits:
    """The visits in a database, read only.

    Parameters
    ----------
    conninfo
        PostgreSQL, as libpq writes it: ``host=... dbname=... user=...`` or a URL. Hosts other than this machine are
        verified, as the service verifies them.
    schema
        That holds the tables.

    Notes
    -----
    Tables have the columns of IVOA ObsCore and some of ours, `consumer.domain.obscore.COLUMNS`: angles in degrees,
    ICRS; ``t_min`` and ``t_max`` are modified Julian dates, UTC. What is unknown is masked. Each method raises
    `consumer.errors.TransientError` when the database cannot be asked, `consumer.errors.FatalError` when it refuses.
    """

    def __init__(self, conninfo: str, *, schema: str = "visits") -> None:
        settings = DatabaseSettings(conninfo=conninfo, schema=schema)  # type: ignore[arg-type,call-arg]  # pydantic's
        self._database = Database(settings, application_name="visit-consumer notebook")

    def night(self, day_obs: int, *, instrument: str | None = None) -> Table:
        """Read the visits of an observing day (YYYYMMDD), by instrument and id."""
        return self._select(Selection(day_obs=day_obs, instrument=instrument))

    def since(self, time: Time, *, instrument: str | None = None) -> Table:
        """Read the visits that began at a time or later, by night, instrument and id."""
        return self._select(Selection(since_mjd=float(time.utc.mjd), instrument=instrument))

    def visits_at(
        self,
        coord: SkyCoord,
        *,
        radius: units.Quantity | None = None,
        day_obs: int | None = None,
        instrument: str | None = None,
    ) -> Table:
        """Read the visits whose regions contain a place, or overlap a circle around it, in the order of time.

        Parameters
        ----------
        coord
            One place, in any frame.
        radius
            Of the circle, an angle; None: the place alone.
        day_obs, instrument
            Only visits of these; None: of all.
        """
        place = coord.icrs
        found = find_visits(
            self._database,
            float(place.ra.deg),
            float(place.dec.deg),
            radius_deg=0.0 if radius is None else float(radius.to_value(units.deg)),
            instrument=instrument,
            day_obs=day_obs,
        )
        return _table(rows_of_visits(self._database, [(each.visit.instrument, each.visit.id) for each in found]))

    def close(self) -> None:
        """End the session; the next question opens another."""
        self._database.close()

    def __enter__(self) -> Self:
        """Return itself; the first question opens the session."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the session."""
        self.close()

    def _select(self, selection: Selection) -> Table:
        with obscore_snapshot(self._database, selection) as snapshot:
            return _table([row for rows in snapshot.visits() for row in rows])


def footprints(table: Table) -> list[Any]:
    """Return the footprint of each row of a table, as `regions.PolygonSkyRegion`; needs the extra ``vo``."""
    from regions import PolygonSkyRegion  # noqa: PLC0415  # of an extra

    corners = (np.array(str(text).split()[2:], dtype=np.float64).reshape(-1, 2) for text in table["s_region"])
    return [PolygonSkyRegion(SkyCoord(each[:, 0], each[:, 1], unit="deg", frame="icrs")) for each in corners]


def _table(rows: list[Row]) -> Table:
    made = Table()
    for number, column in enumerate(COLUMNS):
        values = [row[number] for row in rows]
        dtype = _DTYPES.get(column.sql_type, str)
        mask = [value is None for value in values]
        known = [dtype() if value is None else value for value in values]
        made[column.name] = MaskedColumn(
            np.array(known, dtype=dtype), mask=mask, unit=column.unit or None, description=column.text
        )
    return made
