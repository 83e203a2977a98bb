"""*Ceiling*: bare batched upserts of the same region rows, by a client that does nothing else."""

import time
from collections.abc import Sequence

import psycopg

from consumer.model import VisitRegions
from tests.benchmarks.servers import DETECTORS, INSTRUMENT

_VISITS_PER_BATCH = 49
"""About 10,000 rows, as in a full batch of the service."""
_UPSERT = """
    INSERT INTO visits.visit_detector_region (instrument, visit, detector, region)
    SELECT * FROM unnest(%(instruments)s::text[], %(visits)s::bigint[], %(detectors)s::integer[], %(regions)b::bytea[])
    ON CONFLICT (instrument, visit, detector) DO UPDATE SET region = excluded.region
    WHERE visit_detector_region.region IS DISTINCT FROM excluded.region
"""


def rows_per_second(dsn: str, regions: VisitRegions, visits: int) -> float:
    """Store the detector regions of so many visits, one commit for each batch; return rows a second."""
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=0) as session:
        began = time.perf_counter()
        for first in range(0, visits, _VISITS_PER_BATCH):
            session.execute(_UPSERT, _parameters(regions, range(first, min(first + _VISITS_PER_BATCH, visits))))
        return visits * DETECTORS / (time.perf_counter() - began)


def _parameters(regions: VisitRegions, visits: Sequence[int]) -> dict[str, object]:
    return {
        "instruments": [INSTRUMENT] * (len(visits) * DETECTORS),
        "visits": [visit for visit in visits for _ in regions.detectors],
        "detectors": list(regions.detectors) * len(visits),
        "regions": list(regions.detector_regions) * len(visits),
    }
