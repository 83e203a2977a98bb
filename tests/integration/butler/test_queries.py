"""Queries of the registry's users answer after the sink as they do after the rows of the real task."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

import lsst.sphgeom
import pytest
from lsst.daf.butler import Butler, DatasetType, Timespan

from tests.support.butler_repository import (
    opened,
    register_exposures,
    register_instrument,
    register_rows,
    repository,
)
from tests.support.commands import invoke
from tests.support.databases import ServerOf
from tests.support.define_visits import Night, load_night
from tests.support.postgres import DEBIAN_15
from tests.support.service import prepare_database

INSTRUMENT = "LSSTComCam"
Answer = list[tuple[object, ...]]


def _records(butler: Butler, element: str, **where: object) -> Answer:
    found = butler.query_dimension_records(element, instrument=INSTRUMENT, explain=False, **where)  # type: ignore[arg-type]
    return sorted(tuple(sorted(r.dataId.required.items())) for r in found)


def _ids(butler: Butler, dimensions: Iterable[str], where: str = "", **bind: object) -> Answer:
    with butler.query() as query:
        found = query.data_ids(list(dimensions)).where(where, instrument=INSTRUMENT, skymap="sky", bind=bind or None)
        return sorted(tuple(sorted(each.required.items())) for each in found)


def _point(butler: Butler, element: str) -> Answer:
    visit = butler.query_dimension_records("visit", instrument=INSTRUMENT, order_by="visit")[3]
    lonlat = lsst.sphgeom.LonLat(visit.region.getCentroid())
    ra, dec = lonlat.getLon().asDegrees(), lonlat.getLat().asDegrees()
    return _records(butler, element, where=f"{element}.region OVERLAPS POINT({ra}, {dec})")


def _region(butler: Butler) -> Answer:
    visit = butler.query_dimension_records("visit", instrument=INSTRUMENT, order_by="visit")[5]
    circle = lsst.sphgeom.Circle(visit.region.getCentroid(), lsst.sphgeom.Angle.fromDegrees(0.2))
    return _records(
        butler, "visit_detector_region", where="visit_detector_region.region OVERLAPS r", bind={"r": circle}
    )


def _timespan(butler: Butler) -> Answer:
    spans = [r.timespan for r in butler.query_dimension_records("visit", instrument=INSTRUMENT) if r.timespan]
    middle = sorted(spans, key=lambda s: s.nsec)[len(spans) // 2]
    later = Timespan(middle.begin, None)
    return _records(butler, "visit", where="visit.timespan OVERLAPS later", bind={"later": later})


def _raws(butler: Butler) -> Answer:
    found = butler.query_datasets("raw", collections="raws", where="visit > 0", instrument=INSTRUMENT, limit=None)
    return sorted(tuple(sorted(ref.dataId.required.items())) for ref in found)


QUESTIONS: dict[str, Callable[[Butler], Answer]] = {
    "htm7 of visits": lambda b: _ids(b, ["visit", "htm7"]),
    "htm7 of detectors": lambda b: _ids(b, ["visit", "detector", "htm7"], "detector = 4"),
    "visits over a point": lambda b: _point(b, "visit"),
    "detectors over a point": lambda b: _point(b, "visit_detector_region"),
    "detectors over a circle": _region,
    "visits of a timespan": _timespan,
    "tracts": lambda b: _ids(b, ["visit", "tract"]),
    "patches of detectors": lambda b: _ids(b, ["visit", "detector", "patch"], "detector IN (3, 4)"),
    "exposures of visits": lambda b: _ids(b, ["visit", "exposure"]),
    "visits of a system": lambda b: _ids(b, ["visit", "visit_system"], "visit_system = 2"),
    "raws of visits": _raws,
}


def _skymap_and_raws(repo: str, night: Night) -> None:
    with opened(repo) as butler:
        insert = butler.registry.insertDimensionData
        insert("skymap", {"name": "sky", "hash": b"\0" * 20, "tract_max": 10, "patch_nx_max": 4, "patch_ny_max": 4})
        for number, each in enumerate(e for e in night.exposures[:4] if e.tracking_ra is not None):
            assert each.tracking_ra is not None
            assert each.tracking_dec is not None
            centre = lsst.sphgeom.UnitVector3d(lsst.sphgeom.LonLat.fromDegrees(each.tracking_ra, each.tracking_dec))
            tract = {"skymap": "sky", "tract": number}
            insert("tract", {"skymap": "sky", "id": number, "region": _square(centre, 0.02)})
            insert("patch", {**tract, "id": 1, "cell_x": 1, "cell_y": 0, "region": _square(centre, 0.005)})
        raw = DatasetType("raw", ["instrument", "detector", "exposure"], "Packages", universe=butler.dimensions)
        butler.registry.registerDatasetType(raw)
        butler.collections.register("raws")
        data = [{"instrument": INSTRUMENT, "exposure": e.id, "detector": 0} for e in night.exposures]
        butler.registry.insertDatasets("raw", data, run="raws")


def _square(centre: lsst.sphgeom.UnitVector3d, half_width: float) -> lsst.sphgeom.ConvexPolygon:
    east = lsst.sphgeom.UnitVector3d.northFrom(centre)
    north = lsst.sphgeom.UnitVector3d(centre.cross(east))
    corners = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    return lsst.sphgeom.ConvexPolygon(
        [
            lsst.sphgeom.UnitVector3d(
                *(
                    getattr(centre, axis)() + half_width * (x * getattr(east, axis)() + y * getattr(north, axis)())
                    for axis in "xyz"
                )
            )
            for x, y in corners
        ]
    )


def test_queries_answer_as_after_the_real_task(postgres_server_of: ServerOf, tmp_path: Path) -> None:
    if not DEBIAN_15.is_dir():
        pytest.skip(f"no PostgreSQL 15 in {DEBIAN_15} (Debian: postgresql-15)")
    night = load_night("lsstcomcam-one-to-one-and-by-counter-digits")
    server = postgres_server_of("15")
    with (
        server.database(prepare_database) as dsn,
        repository(server, tmp_path / "ours") as ours,
        repository(server, tmp_path / "theirs") as theirs,
    ):
        for repo in (ours, theirs):
            register_instrument(repo, INSTRUMENT, [e.physical_filter or "unknown" for e in night.exposures], 9)
            register_exposures(repo, night.exposures)
            _skymap_and_raws(repo, night)
        register_rows(theirs, night.tables)
        lines = "\n".join(json.dumps(asdict(each)) for each in night.exposures)
        options = ("--group-exposures", night.config["group_exposures"], "--padding", night.config["padding"])
        invoke("define", "-", "--instrument", INSTRUMENT, *options, "--dsn", dsn, text=lines)
        invoke("butler-sink", "--once", "--repo", ours, "--dsn", dsn)
        with opened(ours) as mine, opened(theirs) as real:
            for name, ask in QUESTIONS.items():
                expected = ask(real)
                assert expected, name
                assert ask(mine) == expected, name
