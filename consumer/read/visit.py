"""What is stored of one visit, and which visits an exposure is in."""

from collections.abc import Collection
from typing import cast

from consumer.model import VisitRecords
from consumer.postgres.connection import Database
from consumer.postgres.offline_store import read_visits


def read_visit(database: Database, instrument: str, visit: int) -> VisitRecords | None:
    """Read a visit with its members, visit systems and regions; None where there is no such visit.

    Parameters
    ----------
    database
        A session of the reader role.
    instrument, visit
        Names the visit.
    """
    with database.snapshot() as session:
        return read_visits(session, instrument, [visit]).get(visit)


def visits_of_exposures(database: Database, instrument: str, exposures: Collection[int]) -> dict[int, list[int]]:
    """Read which of these exposures each visit has: exposure ids by visit id, both ascending."""
    with database.snapshot() as session:
        named = {"instrument": instrument, "exposures": sorted(exposures)}
        rows = session.rows("read", "visits_of_exposures", named)
    return dict(cast("list[tuple[int, list[int]]]", rows))
