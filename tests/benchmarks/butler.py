"""Visits into a Butler registry: the sink, beside a bare loop of the same calls of the Butler's API."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import lsst.sphgeom
from prometheus_client import CollectorRegistry

from consumer.admin.define import define_visits
from consumer.admin.exposure_files import ExposureList
from consumer.butler.changes import visit_values
from consumer.butler.registry import ButlerRegistry
from consumer.butler.sink import ButlerSink
from consumer.config import Settings, known_instruments
from consumer.metrics.butler import ButlerMetrics
from consumer.model import VisitRecords
from consumer.postgres.connection import Database
from consumer.postgres.sink_positions import SinkPositions
from consumer.simulation import simulate_exposures
from tests.benchmarks.report import rounded, show
from tests.benchmarks.servers import DETECTORS, INSTRUMENT, Servers, night
from tests.support.butler_repository import (
    opened,
    register_exposures,
    register_instrument,
    repository,
    timespan_of,
)
from tests.support.service import settings_for

_BATCH = 50


def measure(servers: Servers, *, visits: int, rounds: int) -> dict[str, Any]:
    """Write a night into a fresh registry by turns: the bare loop, and the sink from its first look to its last."""
    exposures = [e for e in simulate_exposures(night(visits)) if e.off_sky_reason is None]
    rows: list[dict[str, float]] = []
    with servers.database() as dsn:
        settings = Settings(**settings_for("nowhere:1", dsn))
        given = ExposureList(exposures=tuple(exposures), raws=())
        records = define_visits(given, known_instruments()[INSTRUMENT], database=settings.database).visits
        for number in range(rounds):
            with _repository(servers, exposures) as repo:
                bare = len(records) / _bare_loop(repo, records)
            with _repository(servers, exposures) as repo:
                sink = len(records) / _sink(repo, settings, f"sink-{number}")
            rows.append(
                {
                    "bare_visits_per_s": rounded(bare),
                    "sink_visits_per_s": rounded(sink),
                    "ratio_to_bare": rounded(sink / bare),
                }
            )
    figures = {name: rounded(median(row[name] for row in rows)) for name in rows[0]}
    figures["seconds_for_1000_visits"] = rounded(1000 / figures["sink_visits_per_s"])
    show(
        f"Butler registry: {len(records)} visits of {DETECTORS} detectors, {rounds} rounds",
        [{"figure": name.replace("_", " "), "median": value} for name, value in figures.items()],
    )
    return {"visits": len(records), **figures, "rounds": rows}


@contextmanager
def _repository(servers: Servers, exposures: Sequence[Any]) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder, repository(servers.postgres, Path(folder) / "repo") as repo:
        register_instrument(repo, INSTRUMENT, [e.physical_filter or "unknown" for e in exposures], DETECTORS)
        register_exposures(repo, exposures)
        yield repo


def _bare_loop(repo: str, records: Sequence[VisitRecords]) -> float:
    with opened(repo) as butler:
        insert = butler.registry.insertDimensionData
        began = time.perf_counter()
        for start in range(0, len(records), _BATCH):
            some = records[start : start + _BATCH]
            with butler.transaction():
                butler.registry.syncDimensionData(
                    "visit_system", {"instrument": INSTRUMENT, "id": 0, "name": "one-to-one"}
                )
                insert("visit", *map(_visit, some))
                keys = [{"instrument": INSTRUMENT, "visit": v.definition.id} for v in some]
                members = zip(keys, some, strict=True)
                insert("visit_definition", *({**k, "exposure": v.definition.exposures[0].id} for k, v in members))
                insert("visit_system_membership", *({**k, "visit_system": 0} for k in keys))
                insert(
                    "visit_detector_region",
                    *(
                        {**k, "detector": detector, "region": lsst.sphgeom.Region.decode(region)}
                        for k, v in zip(keys, some, strict=True)
                        for detector, region in zip(v.regions.detectors, v.regions.detector_regions, strict=True)
                    ),
                )
        return time.perf_counter() - began


def _visit(records: VisitRecords) -> dict[str, Any]:
    values = visit_values(records)
    del values["timespan"]
    own = records.aggregate
    return {
        "instrument": INSTRUMENT,
        "id": records.definition.id,
        **values,
        "region": lsst.sphgeom.Region.decode(records.regions.visit),
        "timespan": timespan_of({"timespan_begin": own.timespan_begin, "timespan_end": own.timespan_end}),
    }


def _sink(repo: str, settings: Settings, name: str) -> float:
    positions = SinkPositions(Database(settings.database, application_name=name), name)
    registry = ButlerRegistry(repo)
    sink = ButlerSink(positions, registry, settings.butler, ButlerMetrics(CollectorRegistry()))
    try:
        positions.register(repo)
        registry.instruments()
        began = time.perf_counter()
        while sink.turn():
            pass
        return time.perf_counter() - began
    finally:
        positions.close()
        registry.close()
