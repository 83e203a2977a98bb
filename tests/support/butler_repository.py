"""A Butler repository with a registry on PostgreSQL, made by lsst-daf-butler: what a site has before any visit."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lsst.sphgeom
import psycopg
from lsst.daf.butler import Butler, Config, DimensionRecord, Timespan
from lsst.daf.butler.time_utils import TimeConverter

from consumer.model import Exposure
from tests.support.define_visits import Row
from tests.support.postgres import PostgresServer
from tests.support.visit_rows import KEYS

_EXPOSURE_COLUMNS = (
    "id", "day_obs", "group", "obs_id", "exposure_time", "dark_time", "observation_type", "observation_reason",
    "seq_num", "seq_start", "seq_end", "target_name", "science_program", "tracking_ra", "tracking_dec", "sky_angle",
    "azimuth", "zenith_angle", "has_simulated", "can_see_sky",
)  # fmt: skip
_TIMES = TimeConverter()


def timespan_of(row: Row) -> Timespan | None:
    """Return the interval of a row's two columns."""
    bounds = (row["timespan_begin"], row["timespan_end"])
    return None if None in bounds else Timespan(*map(_TIMES.nsec_to_astropy, bounds))


@contextmanager
def repository(server: PostgresServer, folder: Path) -> Iterator[str]:
    """Make a repository with a registry in a database of its own."""
    with server.database() as dsn:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION btree_gist")
        url = dsn.replace("postgresql://", "postgresql+psycopg2://")
        Butler.makeRepo(str(folder), Config({"registry": {"db": url, "namespace": "main"}}))
        yield str(folder)


@contextmanager
def opened(repo: str) -> Iterator[Butler]:
    """Open a repository as its users do."""
    butler = Butler.from_config(repo, writeable=True)
    try:
        yield butler
    finally:
        butler.close()


def register_instrument(repo: str, instrument: str, filters: Iterable[str], n_detectors: int) -> None:
    """Register an instrument with its filters and detectors."""
    with opened(repo) as butler:
        insert = butler.registry.insertDimensionData
        largest = 2**62
        insert(
            "instrument",
            {
                "name": instrument,
                "visit_max": largest,
                "exposure_max": largest,
                "detector_max": 1000,
                "class_name": "tests.Instrument",
            },
        )
        rows = [{"instrument": instrument, "name": name, "band": "r"} for name in sorted(set(filters))]
        insert("physical_filter", *rows)
        detectors = [{"instrument": instrument, "id": n, "full_name": f"det{n}"} for n in range(n_detectors)]
        insert("detector", *detectors)


def register_exposures(repo: str, exposures: Sequence[Exposure]) -> None:
    """Register exposures, as an ingest of their raws would."""
    if not exposures:
        return
    with opened(repo) as butler, butler.transaction():
        insert = butler.registry.insertDimensionData
        instrument = exposures[0].instrument
        insert("day_obs", *({"instrument": instrument, "id": e.day_obs} for e in exposures), skip_existing=True)
        insert("group", *({"instrument": instrument, "name": e.group} for e in exposures), skip_existing=True)
        insert(
            "exposure",
            *(
                {
                    "instrument": instrument,
                    "physical_filter": e.physical_filter or "unknown",
                    **{name: getattr(e, name) for name in _EXPOSURE_COLUMNS},
                    "timespan": timespan_of({n: getattr(e, n) for n in ("timespan_begin", "timespan_end")}),
                }
                for e in exposures
            ),
        )


def register_rows(repo: str, tables: dict[str, list[Row]]) -> None:
    """Write rows as the real task wrote them."""
    with opened(repo) as butler, butler.transaction():
        for table in ("visit_system", "visit", "visit_definition", "visit_system_membership", "visit_detector_region"):
            rows = [dict(row) for row in tables[table]]
            for row in rows:
                if "region" in row:
                    row["region"] = lsst.sphgeom.Region.decode(bytes.fromhex(row["region"]))
                if "timespan_begin" in row:
                    row["timespan"] = timespan_of(row)
                    del row["timespan_begin"], row["timespan_end"]
            butler.registry.insertDimensionData(table, *rows)


def registered_tables(repo: str, instrument: str) -> dict[str, list[Row]]:
    """Read every row of an instrument's visits, in the form and order of the files of the reference."""
    with opened(repo) as butler:
        tables = {
            table: [_row(r) for r in butler.query_dimension_records(table, instrument=instrument, explain=False)]
            for table in KEYS
        }
    return {table: sorted(rows, key=lambda row: [row[k] for k in KEYS[table]]) for table, rows in tables.items()}


def _row(record: DimensionRecord) -> Row:
    row: dict[str, Any] = record.toDict()
    if "region" in row:
        row["region"] = None if row["region"] is None else row["region"].encode().hex()
    if "timespan" in row:
        span = row.pop("timespan")
        row["timespan_begin"], row["timespan_end"] = (None, None) if span is None else span.nsec
    return row
