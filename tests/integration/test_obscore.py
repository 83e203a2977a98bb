"""The ObsCore table: kept with the visits, filled, public when it may be, indexed where pgSphere is, exported."""

import csv
import io
import json
import os
import random
import re
import struct
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from astropy.io.votable import parse_single_table
from astropy.time import Time
from mocpy import MOC
from psycopg.rows import dict_row
from pyarrow import dataset, parquet

from consumer.config import DatabaseSettings, load_settings
from consumer.config.resolve import resolve_obscore
from consumer.domain.obscore import COLUMNS, Column, Obscore, ObscoreInstrument
from consumer.errors import ConfigurationError
from consumer.model import PartitionId, RawIngested
from consumer.postgres.connection import Database
from consumer.postgres.migrate import migrate
from consumer.read.visits import Visits
from consumer.regions import camera_set, contains, s_region
from consumer.vo.export import _WRITERS, ExportFormat, _opened
from tests.support.commands import invoke, invoke_json
from tests.support.documents import ROOT, example
from tests.support.exposures import DAY_OBS, exposure
from tests.support.nights import START_MS, TOPIC, NightLog, close_all, prepare, reader, rules_of
from tests.support.pgsphere import INSTALLED, postgres_with_pgsphere
from tests.support.postgres import PostgresServer, wheel_binaries
from tests.support.skies import boresight_algorithm

CONFIG = {
    "instrument": "LSSTComCam",
    "camera": "lsstcomcam",
    "group_exposures": "one-to-one",
    "group_id": "lsst",
    "padding": 250,
    "merge_exposures": False,
}
RULES = rules_of(CONFIG)
MANY = 100_000
HOW_TO = ROOT / "docs" / "how-to" / "visits-in-the-virtual-observatory.md"
OBSCORE = Obscore(
    instruments={"LSSTComCam": ObscoreInstrument(facility_name="Rubin:Simonyi", cameras=camera_set(["lsstcomcam"]))},
    collection="LSSTComCam",
    publisher_did="ivo://example.org/visits?{obs_id}",
)
NIGHT = [
    exposure(1),
    exposure(2, physical_filter="i_06", tracking_ra=0.0, tracking_dec=-30.0),
    exposure(3, physical_filter=None, tracking_ra=10.0, tracking_dec=89.9, target_name="<pole & \x01more>"),
    exposure(4, day_obs=DAY_OBS + 1),
]


def store(dsn: str, raws: list[RawIngested], obscore: Obscore | None = OBSCORE) -> None:
    """Apply raws as one batch, after those that are stored."""
    log = NightLog.of(1)
    with reader(dsn, RULES) as one:
        one.obscore = obscore
        one.claim(log.partitions, topic_id=str(random.random()))  # noqa: S311 -- a log of its own
        for number, raw in enumerate(raws):
            log.append(raw, at_ms=START_MS + number * 1000)
        one.put(log.partitions[PartitionId(TOPIC, 0)], log)
        one.write()
        close_all(one)


def rows_of(dsn: str, table: str = "visits.visit_obscore") -> list[dict[str, Any]]:
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        return connection.execute(f"SELECT * FROM {table} ORDER BY visit".encode()).fetchall()  # noqa: S608 -- one of two names


@pytest.fixture
def night(postgres_server: PostgresServer) -> Iterator[str]:
    with postgres_server.database(prepare) as dsn:
        store(dsn, [RawIngested(exposure=each, detector=0) for each in NIGHT])
        yield dsn


def test_a_row_follows_its_visit(night: str) -> None:
    before = rows_of(night)
    assert [row["visit"] for row in before] == [each.id for each in NIGHT]
    assert [list(row) for row in before] == [[column.name for column in COLUMNS]] * 4
    assert [(row["dataproduct_type"], row["calib_level"], row["o_ucd"]) for row in before] == [
        ("image", 1, "phot.count")
    ] * 4
    assert [row["revision"] for row in before] == [1] * 4

    moved = replace(NIGHT[0], record_version=1, tracking_ra=30.0, physical_filter="g_01")
    dark = replace(NIGHT[1], record_version=1, can_see_sky=False)
    store(night, [RawIngested(exposure=each, detector=0) for each in (moved, dark)])
    after = {row["visit"]: row for row in rows_of(night)}
    assert after.keys() == {NIGHT[0].id, NIGHT[2].id, NIGHT[3].id}
    assert (after[moved.id]["revision"], after[moved.id]["em_band"]) == (2, "g")
    assert after[moved.id]["s_ra"] == pytest.approx(30.0, abs=1e-3)


def test_what_was_not_written_is_filled(postgres_server: PostgresServer) -> None:
    with postgres_server.database(prepare) as dsn:
        store(dsn, [RawIngested(exposure=each, detector=0) for each in NIGHT], obscore=None)
        assert rows_of(dsn) == []
        refused = invoke("export", "--all", "--dsn", dsn, exit_code=78)
        assert "4 visits of these have no row" in refused.stderr
        with psycopg.connect(dsn) as connection:
            connection.execute("DELETE FROM visits.visit WHERE id = %s", [NIGHT[3].id])  # as a former release would
            connection.execute(
                "INSERT INTO visits.visit_obscore (obs_collection, obs_id, obs_publisher_did, s_ra, s_dec, s_fov,"
                " s_region, instrument_name, obs_title, day_obs, visit, revision)"
                " VALUES ('', '', '', 0, 0, 0, '', 'LSSTComCam', '', 1, %s, 1)",
                [NIGHT[3].id],
            )
        assert invoke_json("obscore", "fill", "--dsn", dsn) == {"written": 3, "removed": 1}
        filled = rows_of(dsn)
        assert invoke_json("obscore", "fill", "--dsn", dsn) == {"written": 0, "removed": 0}
        assert invoke_json("obscore", "fill", "--rewrite", "--dsn", dsn) == {"written": 3, "removed": 0}
        assert rows_of(dsn) == filled
        invoke("export", "--all", "--dsn", dsn)
    # The very rows that the writer would have made.
    with postgres_server.database(prepare) as dsn:
        store(dsn, [RawIngested(exposure=each, detector=0) for each in NIGHT[:3]])
        assert rows_of(dsn) == filled


def test_rows_under_embargo_are_not_public(postgres_server: PostgresServer) -> None:
    # The night's own date may lie on either side of the present.
    held = replace(OBSCORE, embargo_hours=1_000_000.0)
    with postgres_server.database(prepare) as dsn:
        store(dsn, [RawIngested(exposure=NIGHT[0], detector=0)], obscore=held)
        store(dsn, [RawIngested(exposure=NIGHT[1], detector=0)])
        assert [row["visit"] for row in rows_of(dsn, "visits.visit_obscore_public")] == [NIGHT[1].id]
        assert len(invoke("export", "--all", "--dsn", dsn).stdout.splitlines()) == 3
        public = invoke("export", "--all", "--public", "--dsn", dsn).stdout
        assert len(public.splitlines()) == 2
        detectors = invoke("export", "--all", "--public", "--detectors", "--dsn", dsn).stdout
        assert len(detectors.splitlines()) == 1 + 9

        with Database(DatabaseSettings(conninfo=dsn)) as database:  # type: ignore[arg-type] # pydantic makes it a secret
            for _ in range(2):
                migrate(database, obscore_schema="ivoa")
        assert [row["visit"] for row in rows_of(dsn, "ivoa.obscore")] == [NIGHT[1].id]


@pytest.mark.skipif(not INSTALLED, reason="no pgSphere (Debian: postgresql-15-pgsphere)")
def test_with_pgsphere_there_is_an_indexed_polygon() -> None:
    with (
        postgres_with_pgsphere() as binaries,
        PostgresServer(binaries, fast=True) as server,
        server.database(prepare) as dsn,
    ):
        store(dsn, [RawIngested(exposure=each, detector=0) for each in NIGHT[:2]])
        with psycopg.connect(dsn) as connection:
            connection.execute("CREATE EXTENSION pg_sphere SCHEMA public")
        with Database(DatabaseSettings(conninfo=dsn)) as database:  # type: ignore[arg-type] # pydantic makes it a secret
            for _ in range(2):
                migrate(database)
        store(dsn, [RawIngested(exposure=NIGHT[2], detector=0)])
        with psycopg.connect(dsn) as connection:
            found = connection.execute(
                "SELECT visit FROM visits.visit_obscore_public"
                " WHERE s_region_spoly ~ spoint(radians(s_ra), radians(s_dec)) ORDER BY visit"
            ).fetchall()
            assert found == [(each.id,) for each in NIGHT[:3]]
            assert connection.execute(
                "SELECT visit FROM visits.visit_obscore WHERE s_region_spoly ~ spoint(0, radians(-30))"
            ).fetchall() == [(NIGHT[1].id,)]
            odd = "UPDATE visits.visit_obscore SET s_region = 'POLYGON ICRS 1 1 2 2' WHERE visit = %s"
            connection.execute(odd, [NIGHT[0].id])  # does not stop the writer
            assert connection.execute(
                "SELECT s_region_spoly FROM visits.visit_obscore WHERE visit = %s", [NIGHT[0].id]
            ).fetchall() == [(None,)]


def test_exports_read_back(night: str, tmp_path: Path) -> None:
    stored = rows_of(night)
    names = [column.name for column in COLUMNS]

    def exported(form: str, *options: object) -> Path:
        file = tmp_path / f"visits.{form}"
        invoke("export", "--all", "--format", form, "-o", file, "--dsn", night, *options)
        return file

    table = parse_single_table(str(exported("votable")))
    assert [field.name for field in table.fields] == names
    for field, column in zip(table.fields, COLUMNS, strict=True):
        assert (str(field.unit or ""), field.ucd) == (column.unit, column.ucd)
        assert (field.utype or "") == (f"obscore:{column.utype}" if column.utype else "")
    for number, row in enumerate(stored):
        for name in names:
            value = table.array[name][number]
            expected = row[name]
            if expected is None:
                assert np.ma.is_masked(value) or value == "" or np.isnan(value), name
            else:
                assert value == (expected.replace("\x01", "?") if isinstance(expected, str) else expected), name

    arrow = parquet.read_table(exported("parquet"))
    assert arrow.select(names).to_pylist() == stored
    assert arrow.schema.field("t_min").metadata[b"unit"] == b"d"
    assert arrow.schema.field("s_ra").metadata[b"ucd"] == b"pos.eq.ra"
    geo = json.loads(arrow.schema.metadata[b"geo"])
    assert geo["columns"]["footprint"]["encoding"] == "WKB"
    for row, wkb in zip(stored, arrow["footprint"].to_pylist(), strict=True):
        assert polygon_of(wkb) == row["s_region"]
    # The cell of a centre, by another library.
    cells = MOC.from_lonlat(*(np.array(arrow[n]) * _deg() for n in ("s_ra", "s_dec")), max_norder=29)
    assert set(cells.flatten()) == set(arrow["_healpix_29"].to_pylist())

    lines = [json.loads(line) for line in exported("jsonl").read_text().splitlines()]
    assert lines == stored
    text = exported("csv").read_text().splitlines()
    assert text[0].split(",") == names
    assert len(text) == 5

    regions = exported("ds9").read_text()
    from regions import Regions  # noqa: PLC0415 -- slow to import

    polygons = Regions.parse(regions, format="ds9")
    for polygon, row in zip(polygons, stored, strict=True):
        corners = np.array(row["s_region"].split()[2:], dtype=float).reshape(-1, 2)
        assert np.allclose(polygon.vertices.ra.deg, corners[:, 0], atol=1e-9)
        assert np.allclose(polygon.vertices.dec.deg, corners[:, 1], atol=1e-9)

    mocs = {name: MOC.from_json(cells) for name, cells in json.loads(exported("moc").read_text()).items()}
    assert mocs.keys() == {"r", "i", "unknown"}
    for row in stored:
        moc = mocs[row["em_band"] or "unknown"]
        assert moc.contains_lonlat(row["s_ra"] * _deg(), row["s_dec"] * _deg()).all()
    folder = tmp_path / "mocs"
    invoke("export", "--all", "--format", "moc", "-o", f"{folder}/", "--dsn", night)
    assert {path.stem: MOC.load(path) for path in folder.iterdir()} == mocs


def test_selections_partitions_and_pipes(night: str, tmp_path: Path) -> None:
    def visits(*options: object) -> list[int]:
        lines = invoke("export", "--format", "jsonl", "--dsn", night, *options).stdout.splitlines()
        return [json.loads(line)["visit"] for line in lines]

    assert visits("--night", DAY_OBS) == [each.id for each in NIGHT[:3]]
    assert visits("--all", "--instrument", "LATISS") == []
    assert visits("--since", "2026-11-01") == [each.id for each in NIGHT]
    with psycopg.connect(night) as connection:
        begin = connection.execute(
            "SELECT to_char(to_timestamp((t_min - 40587) * 86400 + 1), 'YYYY-MM-DD\"T\"HH24:MI:SS')"
            " FROM visits.visit_obscore WHERE visit = %s",
            [NIGHT[1].id],
        ).fetchone()
    assert begin is not None
    assert visits("--since", begin[0]) == [each.id for each in NIGHT[2:]]
    for options in ([], ["--all", "--night", DAY_OBS]):
        assert "say one of" in invoke("export", *options, "--dsn", night, exit_code=2).stderr

    survey = tmp_path / "survey"
    invoke("export", "--all", "--format", "parquet", "-o", f"{survey}/", "--dsn", night)
    assert sorted(str(path.relative_to(survey)) for path in survey.rglob("*.parquet")) == [
        f"day_obs={DAY_OBS}/visits.parquet",
        f"day_obs={DAY_OBS + 1}/visits.parquet",
    ]
    whole = dataset.dataset(survey, format="parquet")
    assert sorted(whole.to_table(columns=["visit"])["visit"].to_pylist()) == [each.id for each in NIGHT]

    piped = invoke("export", "--night", DAY_OBS, "--format", "parquet", "--detectors", "--dsn", night).stdout_bytes
    detectors = parquet.read_table(io.BytesIO(piped))
    assert detectors["detector"].to_pylist() == list(range(9)) * 3
    with psycopg.connect(night) as connection:
        (region,) = connection.execute(
            "SELECT region FROM visits.visit_detector_region WHERE visit = %s AND detector = 4", [NIGHT[0].id]
        ).fetchone() or (b"",)
    assert contains(region, detectors["s_ra"][4].as_py(), detectors["s_dec"][4].as_py())
    assert detectors["s_fov"][4].as_py() == pytest.approx(0.33, abs=0.1)


def test_a_target_that_cannot_be_written_leaves_nothing(night: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused = invoke("export", "--all", "-o", tmp_path / "file" / "x.csv", "--dsn", night, exit_code=78)
    assert "export to" in refused.stderr
    assert "unknown://" in invoke("export", "--all", "-o", "unknown://x", "--dsn", night, exit_code=78).stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_pipes_and_links_stay_what_they_are(night: str, tmp_path: Path) -> None:
    pipe, target, link = tmp_path / "pipe", tmp_path / "target.csv", tmp_path / "link.csv"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as reader:
        read = reader.submit(pipe.read_text)
        invoke("export", "--all", "--format", "csv", "-o", pipe, "--dsn", night)
        assert len(read.result(10).splitlines()) == len(NIGHT) + 1
    assert pipe.is_fifo()
    target.write_text("former")
    link.symlink_to(target)
    invoke("export", "--all", "--format", "csv", "-o", link, "--dsn", night)
    assert link.is_symlink()
    assert target.read_text().startswith("dataproduct_type")
    assert oct(target.stat().st_mode & 0o777) == "0o644"


def test_two_exports_to_one_file_leave_one_of_them_whole(tmp_path: Path) -> None:
    file = tmp_path / "visits.csv"
    with ExitStack() as stack:
        writers = [stack.enter_context(_opened(str(file))) for _ in range(2)]
        for number, each in enumerate(writers):
            each.write(b"%d" % number * 1000)
    assert set(file.read_bytes()) in ({ord("0")}, {ord("1")})
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("form", ["csv", "votable", "ds9", "jsonl"])
def test_odd_texts_break_no_format(form: str) -> None:
    text = "a\rb\uffffc\u2028d\ne"
    rows = [tuple(_odd(column, text) for column in COLUMNS)]
    file = io.BytesIO()
    writer = _WRITERS[ExportFormat(form)](file, COLUMNS)
    writer.write(rows)
    writer.close()
    content = file.getvalue()
    if form == "csv":
        assert len(list(csv.reader(io.StringIO(content.decode(), newline=None)))) == 2
    elif form == "votable":
        assert len(parse_single_table(io.BytesIO(content)).array) == 1
    elif form == "ds9":
        assert len(content.decode().splitlines()) == 3
    else:
        assert len(content.splitlines()) == 1


def _odd(column: Column, text: str) -> str | None:
    if column.name == "s_region":
        return "Polygon ICRS 0 0 1 0 1 1"
    return text if column.sql_type == "text" else None


def test_an_export_since_the_beginning_of_the_calendar(night: str) -> None:
    lines = invoke("export", "--format", "jsonl", "--since", "0001-01-01", "--dsn", night).stdout.splitlines()
    assert len(lines) == len(NIGHT)


def test_an_export_that_breaks_off_leaves_the_former_file(night: str, tmp_path: Path) -> None:
    file = tmp_path / "visits.jsonl"
    invoke("export", "--all", "--format", "jsonl", "-o", file, "--dsn", night)
    before = file.read_text()
    with psycopg.connect(night) as connection:  # JSON has no such number
        connection.execute("UPDATE visits.visit_obscore SET t_exptime = 'NaN' WHERE visit = %s", [NIGHT[2].id])
    invoke("export", "--all", "--format", "jsonl", "-o", file, "--dsn", night, exit_code=78)
    assert file.read_text() == before
    assert list(tmp_path.iterdir()) == [file]


def test_the_notebook_of_the_how_to(night: str) -> None:
    names: dict[str, Any] = {}
    text = example(HOW_TO, "notebook")
    exec(text.replace("host=127.0.0.1 dbname=visits user=visit_reader", night), names)  # noqa: S102 -- the document's own text
    table = names["night"]
    assert list(table["visit"]) == [each.id for each in NIGHT[:3]]
    assert (str(table["s_ra"].unit), str(table["t_min"].unit)) == ("deg", "d")
    assert list(table["em_band"].mask) == [False, False, True]
    assert list(names["red"]["visit"]) == [NIGHT[0].id]
    assert list(names["covering"]["visit"]) == [NIGHT[0].id, NIGHT[3].id]
    assert list(names["near"]["visit"]) == [NIGHT[0].id, NIGHT[3].id]
    assert len(names["regions"]) == 3
    assert names["regions"][1].vertices.ra.deg.max() > 359
    with Visits(night) as visits:
        later = visits.since(Time(float(table["t_min"][1]), format="mjd", scale="utc").tai)
        assert list(later["visit"]) == [each.id for each in NIGHT[1:]]
        assert len(visits.night(20200101)) == 0


def test_the_settings_of_the_how_to(tmp_path: Path) -> None:
    found = re.search(r"<!-- example: settings -->\n *```yaml\n(.*?)```", HOW_TO.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    path = tmp_path / "visits.yaml"
    path.write_text(textwrap.dedent(found[1]), encoding="utf-8")
    below = {"kafka": {"bootstrap_servers": "x:9092"}, "database": {"conninfo": "host=127.0.0.1"}}
    settings = load_settings(path, {}, below=below)
    obscore = resolve_obscore(settings)
    assert obscore is not None
    assert (obscore.embargo_hours, settings.obscore.view_schema) == (80, "ivoa")
    for wrong in ("x{exposure}", "{name:d}", "{visit.real}", "{", "{}"):
        with pytest.raises(ConfigurationError, match="may hold no other braces"):
            load_settings(None, {}, below=below | {"obscore": {"access_url": wrong}})


@pytest.mark.slow
@pytest.mark.parametrize(
    "form", ["votable", *(pytest.param(each, marks=pytest.mark.long) for each in ("parquet", "csv", "jsonl", "ds9"))]
)
def test_the_memory_of_an_export_does_not_grow_with_the_survey(survey: str, form: str, tmp_path: Path) -> None:
    # What the parent of a process is told of its memory begins with the parent's own.
    program = (
        "import sys; from pathlib import Path; from consumer.cli import main\n"
        "try: main(sys.argv[2:])\n"
        "finally: Path(sys.argv[1]).write_text(Path('/proc/self/status').read_text())"
    )
    export = ["export", "--all", "--format", form, "-o", str(tmp_path / form), "--dsn", survey]
    command = [sys.executable, "-c", program, str(tmp_path / "status"), *export]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, f"{MANY} rows in 1 files\n")
    peak = re.search(r"VmHWM:\s+(\d+) kB", (tmp_path / "status").read_text())
    assert peak is not None
    assert int(peak[1]) * 1024 / 1e6 < 300


@pytest.fixture(scope="module")
def survey() -> Iterator[str]:
    """Fill a table with 100,000 visits that have the footprint of LSSTCam."""
    one = replace(exposure(1), instrument="LSSTCam")
    region = boresight_algorithm("lsstcam", padding=250).compute([one], ()).visit
    copies = {
        "visits.visit": ("id", "name"),
        "visits.visit_obscore": ("visit", "obs_title"),
    }
    with PostgresServer(wheel_binaries(), fast=True) as server, server.database(prepare) as dsn:
        store(dsn, [RawIngested(exposure=NIGHT[0], detector=0)])
        with psycopg.connect(dsn) as connection:
            connection.execute("UPDATE visits.visit_obscore SET s_region = %s", [s_region(region)])
            for table, (key, name) in copies.items():
                described = connection.execute(f"SELECT * FROM {table} LIMIT 0".encode()).description  # noqa: S608 -- the same
                names = [f'"{column.name}"' for column in described or ()]
                values = [{key: "n", name: "n::text"}.get(each.strip('"'), each) for each in names]
                connection.execute(
                    f"INSERT INTO {table} ({', '.join(names)}) SELECT {', '.join(values)}"  # noqa: S608 -- names of ours
                    f" FROM {table}, generate_series(1, {MANY - 1}) AS n".encode()
                )
        yield dsn


def polygon_of(wkb: bytes) -> str:
    order, kind, rings, number = struct.unpack_from("<BIII", wkb)
    assert (order, kind, rings) == (1, 3, 1)
    ring = np.frombuffer(wkb, dtype="<f8", offset=13).reshape(number, 2)
    assert (ring[0] == ring[-1]).all()
    return "POLYGON ICRS " + " ".join(map(repr, ring[:-1].ravel().tolist()))


def _deg() -> Any:
    from astropy import units  # noqa: PLC0415 -- slow to import

    return units.deg
