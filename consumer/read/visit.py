"""What is stored of one visit, and which visits an exposure is in."""

from collections.abc import Collection
from typing import cast

from consumer.model import VisitRegions
from consumer.postgres.connection import Database


def read_regions(database: Database, instrument: str, visit: int) -> VisitRegions | None:
    """Read the regions of a visit and of its detectors; None where there is no such visit.

    Parameters
    ----------
    database
        A session of the reader role.
    instrument, visit
        Names the visit.

    Returns
    -------
    regions
        Without the trixels of ``visit_htm7``, which follow from the visit's region.
    """
    key = {"instrument": instrument, "visit": visit}
    with database.transaction() as session:
        visits = cast("list[tuple[bytes, str | None]]", session.rows("read", "visit_region", key))
        detectors = cast("list[tuple[int, bytes]]", session.rows("read", "detector_regions", key))
    if not visits:
        return None
    region, camera_version = visits[0]
    return VisitRegions(
        visit=region,
        detectors=tuple(detector for detector, _ in detectors),
        detector_regions=tuple(each for _, each in detectors),
        htm7=(),
        camera_version=camera_version,
    )


def visits_of_exposures(database: Database, instrument: str, exposures: Collection[int]) -> dict[int, list[int]]:
    """Read which of these exposures each visit has: exposure ids by visit id, both ascending."""
    with database.transaction() as session:
        named = {"instrument": instrument, "exposures": sorted(exposures)}
        rows = session.rows("read", "visits_of_exposures", named)
    return dict(cast("list[tuple[int, list[int]]]", rows))
