"""*Ceiling*: COPY of the same region rows in binary form, prepared before the clock, into a table with the same key."""

import time
from collections.abc import Sequence

import numpy as np
import psycopg

from consumer.model import VisitRegions
from tests.benchmarks.servers import INSTRUMENT

_VISITS_PER_BATCH = 49
"""About 10,000 rows, as in a full batch of the service."""
_TWIN = "CREATE TABLE visits.ceiling (LIKE visits.visit_detector_region INCLUDING ALL)"
_COPY = "COPY visits.ceiling (instrument, visit, detector, region) FROM STDIN (FORMAT BINARY)"
_HEADER, _TRAILER = b"PGCOPY\n\xff\r\n\x00" + bytes(8), b"\xff\xff"


def rows_per_second(dsn: str, regions: VisitRegions, visits: int) -> float:
    """Store the detector regions of so many visits, one commit for each batch; return rows a second."""
    numbers = range(visits)
    batches = [_rows(regions, numbers[first : first + _VISITS_PER_BATCH]) for first in numbers[::_VISITS_PER_BATCH]]
    with psycopg.connect(dsn, autocommit=True) as session, session.cursor() as cursor:
        cursor.execute(_TWIN)
        began = time.perf_counter()
        for batch in batches:
            with cursor.copy(_COPY) as copy:
                copy.write(batch)
        return visits * len(regions.detectors) / (time.perf_counter() - began)


def _rows(regions: VisitRegions, visits: Sequence[int]) -> bytes:
    """Make rows in COPY's binary form: before each value its length, before each row the number of its columns."""
    (length,) = {len(each) for each in regions.detector_regions}
    rows = np.empty(
        (len(visits), len(regions.detectors)),
        [
            ("columns", ">i2"),
            ("l1", ">i4"),
            ("instrument", f"S{len(INSTRUMENT)}"),
            ("l2", ">i4"),
            ("visit", ">i8"),
            ("l3", ">i4"),
            ("detector", ">i4"),
            ("l4", ">i4"),
            ("region", f"V{length}"),
        ],
    )
    rows["columns"], rows["l1"], rows["l2"], rows["l3"], rows["l4"] = 4, len(INSTRUMENT), 8, 4, length
    rows["instrument"] = INSTRUMENT.encode()
    rows["visit"] = np.array(visits)[:, None]
    rows["detector"] = regions.detectors
    rows["region"] = np.frombuffer(b"".join(regions.detector_regions), f"V{length}")
    return _HEADER + rows.tobytes() + _TRAILER
