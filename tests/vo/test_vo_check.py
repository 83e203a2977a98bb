"""The ObsCore table behind an existing TAP server: published by its description, checked by taplint, asked by pyvo."""

import re
import shutil
import subprocess
from collections.abc import Iterator

import psycopg
import pytest
import pyvo
from lsst.sphgeom import ConvexPolygon, LonLat, UnitVector3d

from consumer.config import DatabaseSettings
from consumer.model import RawIngested
from consumer.postgres.connection import Database
from consumer.postgres.migrate import migrate
from consumer.regions import contains, overlaps_circle
from tests.integration.test_obscore import NIGHT, store
from tests.support import dachs, pgsphere
from tests.support.exposures import DAY_OBS, exposure
from tests.support.nights import prepare
from tests.support.postgres import PostgresServer

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        not (dachs.INSTALLED and pgsphere.INSTALLED and shutil.which("stilts")),
        reason="needs Debian's python3-gavo, stilts and postgresql-15-pgsphere",
    ),
]
MANY = 100


def _sky() -> list[RawIngested]:
    """Return exposures that go around the sky, besides the plain ones."""
    around = [
        exposure(
            10 + n,
            tracking_ra=n * 360 / MANY,
            tracking_dec=float(-89 + n * 178 / MANY),
            physical_filter=("g_01", "r_03", "i_06")[n % 3],
            day_obs=DAY_OBS + n // 50,
        )
        for n in range(MANY)
    ]
    return [RawIngested(exposure=each, detector=0) for each in (*NIGHT, *around)]


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, str]]:
    """Serve a night; give the DSN of its database and the URL of its TAP service."""
    with (
        pgsphere.postgres_with_pgsphere() as binaries,
        PostgresServer(binaries, fast=True) as postgres,
        postgres.database(prepare) as dsn,
    ):
        with psycopg.connect(dsn) as connection:
            connection.execute("CREATE EXTENSION pg_sphere SCHEMA public")
        with Database(DatabaseSettings(conninfo=dsn)) as database:  # type: ignore[arg-type] # pydantic makes it a secret
            migrate(database)
        store(dsn, _sky())
        with dachs.Dachs(dsn) as served:
            yield dsn, served.tap_url


def test_taplint_finds_no_error_about_obscore(server: tuple[str, str]) -> None:
    _, url = server
    command = ["stilts", "taplint", f"tapurl={url}", "stages=TMV TME TMS TMC OBS QGE", "maxrepeat=50"]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert "Section OBS" in said.stdout, said.stdout + said.stderr
    assert "ivoa.ObsCore columns: 30/30 required" in said.stdout
    # The server's own sections may find fault with its temporary folders: what is ours has no error.
    assert [line for line in said.stdout.splitlines() if re.match(r"[EF]-(OBS|TMV|TME|TMC)", line)] == []


QUERIES: dict[str, tuple[str, str]] = {
    "count": ("SELECT count(*) AS n FROM ivoa.obscore", "SELECT count(*) AS n FROM visits.visit_obscore"),
    "night": (
        f"SELECT obs_id FROM visits.visit_obscore_public WHERE day_obs = {DAY_OBS}",
        f"SELECT obs_id FROM visits.visit_obscore WHERE day_obs = {DAY_OBS}",
    ),
    "filter": (
        "SELECT obs_id FROM visits.visit_obscore_public WHERE em_band = 'r'",
        "SELECT obs_id FROM visits.visit_obscore WHERE em_filter_name LIKE 'r_%'",
    ),
    "wavelength": (
        "SELECT obs_id FROM ivoa.obscore WHERE 750e-9 BETWEEN em_min AND em_max",
        "SELECT obs_id FROM visits.visit_obscore WHERE em_band = 'i'",
    ),
    "time": (
        "SELECT obs_id FROM ivoa.obscore WHERE t_min > {t} ",
        "SELECT obs_id FROM visits.visit_obscore WHERE t_min > {t}",
    ),
    "join": (
        "SELECT a.obs_id FROM ivoa.obscore AS a JOIN visits.visit_obscore_public AS b "  # noqa: ISC004 -- one query
        "ON a.obs_id = b.obs_id WHERE b.em_band = 'g'",
        "SELECT obs_id FROM visits.visit_obscore WHERE em_band = 'g'",
    ),
    "group": (
        "SELECT em_band, count(*) AS n FROM visits.visit_obscore_public WHERE em_band IS NOT NULL GROUP BY em_band",
        "SELECT em_band, count(*) AS n FROM visits.visit_obscore WHERE em_band IS NOT NULL GROUP BY em_band",
    ),
}
POLYGON = [(140.0, -25.0), (160.0, -25.0), (160.0, 25.0), (140.0, 25.0)]


@pytest.mark.parametrize("name", QUERIES)
def test_pyvo_gets_what_the_database_has(server: tuple[str, str], name: str) -> None:
    dsn, url = server
    adql, sql = QUERIES[name]
    with psycopg.connect(dsn) as connection:
        time = connection.execute("SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY t_min) FROM visits.visit_obscore")
        (middle,) = time.fetchone() or (None,)
        expected = connection.execute(sql.replace("{t}", repr(middle)).encode()).fetchall()
    found = pyvo.dal.TAPService(url).search(adql.replace("{t}", repr(middle))).to_table()
    assert sorted(tuple(map(str, row)) for row in found) == sorted(tuple(map(str, row)) for row in expected)
    assert 0 < len(expected) < MANY + len(NIGHT)


@pytest.mark.parametrize("place", [(150.1, 2.2), (0.0, -30.0), (10.0, 89.9), (359.9, -30.1)])
def test_a_point_and_a_cone_find_the_visits_that_cover_them(
    server: tuple[str, str], place: tuple[float, float]
) -> None:
    dsn, url = server
    ra, dec = place
    service = pyvo.dal.TAPService(url)
    at = service.search(f"SELECT obs_id FROM ivoa.obscore WHERE 1 = CONTAINS(POINT({ra}, {dec}), s_region)")
    around = service.search(f"SELECT obs_id FROM ivoa.obscore WHERE 1 = INTERSECTS(CIRCLE({ra}, {dec}, 1.5), s_region)")
    with psycopg.connect(dsn) as connection:
        regions = connection.execute("SELECT instrument || '/' || id, region FROM visits.visit").fetchall()
    assert set(at["obs_id"]) == {name for name, region in regions if contains(region, ra, dec)} != set()
    assert set(around["obs_id"]) == {name for name, region in regions if overlaps_circle(region, ra, dec, 1.5)}


def test_a_polygon_finds_the_visits_that_it_meets(server: tuple[str, str]) -> None:
    dsn, url = server
    corners = ", ".join(f"{ra}, {dec}" for ra, dec in POLYGON)
    found = pyvo.dal.TAPService(url).search(
        f"SELECT obs_id FROM ivoa.obscore WHERE 1 = INTERSECTS(POLYGON({corners}), s_region)"
    )
    box = ConvexPolygon([UnitVector3d(LonLat.fromDegrees(ra, dec)) for ra, dec in POLYGON])
    with psycopg.connect(dsn) as connection:
        regions = connection.execute("SELECT instrument || '/' || id, region FROM visits.visit").fetchall()
    expected = {name for name, region in regions if box.intersects(ConvexPolygon.decode(region))}
    assert set(found["obs_id"]) == expected
    assert len(expected) > 3


def test_the_footprint_that_is_served_is_the_stored_one(server: tuple[str, str]) -> None:
    dsn, url = server
    found = pyvo.dal.TAPService(url).search("SELECT obs_id, s_region FROM visits.visit_obscore_public").to_table()
    with psycopg.connect(dsn) as connection:
        stored: dict[object, object] = dict(
            connection.execute("SELECT obs_id, s_region FROM visits.visit_obscore").fetchall()
        )
    assert {str(row["obs_id"]): str(row["s_region"]) for row in found} == stored
