"""Finished records of a visit, for what comes after them."""

import numpy as np

from consumer.domain.visit_records import make_records
from consumer.model import CloseReason, Exposure, GroupKey, VisitDefinition, VisitRecords, VisitRegions
from consumer.regions.polygons import hull
from tests.support.skies import unit_vectors


def records_of(exposures: list[Exposure], *, complete: bool | None = True, visit: int = 42) -> VisitRecords:
    """Make the records of a visit of these exposures, with a small triangle as its region."""
    region = hull(unit_vectors(np.array([(150.0, 2.0), (151.0, 2.0), (150.5, 3.0)])))
    return make_records(
        VisitDefinition(
            instrument="LSSTComCam",
            id=visit,
            name="run 1",
            visit_systems=(0, 2),
            exposures=tuple(exposures),
            complete=complete,
        ),
        group=GroupKey("LSSTComCam", "run 1"),
        regions=VisitRegions(visit=region, detectors=(0,), detector_regions=(region,), htm7=(131072,)),
        hashed=b"\x00" * 16,
        rule="one-to-one-and-by-counter",
        algorithm="single-raw-wcs",
        padding=250,
        close_reason=CloseReason.IDLE,
    )
