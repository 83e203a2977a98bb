"""Reading visits by place on the sky."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

from consumer.postgres.connection import Database
from consumer.postgres.row_codecs import columns

_AT_ONCE = 200
"""Visits whose detector regions are read together."""


class NearVisit(NamedTuple):
    """One visit that may cover the place; see the columns of table ``visit``."""

    instrument: str
    id: int
    name: str
    day_obs: int
    physical_filter: str | None
    exposure_time: float | None
    target_name: str | None
    timespan_begin: int | None
    region: bytes


def visits_near(
    database: Database, trixels: Sequence[int], *, instrument: str | None, day_obs: int | None
) -> list[NearVisit]:
    """Read the visits whose regions may overlap one of these level-7 HTM trixels, ordered by instrument and id."""
    parameters = {"trixels": list(trixels), "instrument": instrument, "day_obs": day_obs}
    with database.transaction() as session:
        return [NearVisit(*row) for row in session.rows("find", "visits_near", parameters)]  # type: ignore[arg-type]  # the columns' types


def detector_regions(database: Database, visits: Sequence[NearVisit]) -> Iterator[tuple[str, int, int, bytes]]:
    """Read instrument, visit, detector and region of every detector of visits."""
    for start in range(0, len(visits), _AT_ONCE):
        keys = ((each.instrument, each.id) for each in visits[start : start + _AT_ONCE])
        with database.transaction() as session:
            rows = session.rows("find", "detector_regions", columns(("instruments", "visits"), keys))
        yield from (cast("tuple[str, int, int, bytes]", row) for row in rows)
