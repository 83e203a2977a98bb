"""``find`` equals a look at every region, and reads the index, not the table."""

import json
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import psycopg
import pytest

from consumer.postgres.sql_files import statements
from consumer.regions import contains, htm7_around, overlaps_circle
from tests.support.commands import invoke, invoke_json
from tests.support.exposures import exposure

POLES = [(10.0, 89.7), (200.0, -89.9), (0.05, 5.0), (359.9, 5.2), (180.0, 0.0)]


@pytest.fixture
def sky(dsn: str) -> str:
    """Give a database with 45 visits of 9 detectors: at the poles, across RA 0, and all around a patch of sky."""
    random = np.random.default_rng(7)
    places = [*POLES, *(np.array([150.0, 2.0]) + random.uniform(-2, 2, (40, 2))).tolist()]
    exposures = [
        exposure(n, tracking_ra=ra % 360, tracking_dec=dec, sky_angle=float(random.uniform(0, 360)))
        for n, (ra, dec) in enumerate(places, start=1)
    ]
    text = json.dumps([asdict(e) for e in exposures])
    invoke("define", "-", "--instrument", "LSSTComCam", "--dsn", dsn, text=text)
    return dsn


def regions(dsn: str) -> dict[tuple[int, int | None], bytes]:
    with psycopg.connect(dsn) as connection:
        visits = connection.execute("SELECT id, NULL, region FROM visits.visit").fetchall()
        detectors = connection.execute("SELECT visit, detector, region FROM visits.visit_detector_region").fetchall()
    return {(visit, detector): region for visit, detector, region in [*visits, *detectors]}


def found(dsn: str, ra: float, dec: float, *options: object) -> dict[int, list[int]]:
    rows = invoke_json("find", "--ra", ra, "--dec", dec, "--dsn", dsn, *options)
    return {row["visit"]: row["detectors"] for row in rows}


@pytest.mark.parametrize("radius", [0.0, 0.01, 30.0])
def test_as_looking_at_every_region(sky: str, radius: float) -> None:
    everything = regions(sky)
    random = np.random.default_rng(int(radius * 100))
    places: Sequence[Sequence[float]] = [*POLES, *(random.uniform([147, -1], [153, 5], (3, 2))).tolist(), [90.0, 45.0]]
    some = 0
    for ra, dec in places:
        hits = {
            key
            for key, region in everything.items()
            if (contains(region, ra, dec) if radius == 0 else overlaps_circle(region, ra, dec, radius))
        }
        expected = {visit: sorted(d for v, d in hits if v == visit and d is not None) for visit, d in hits if d is None}
        assert found(sky, ra, dec, "--radius", radius) == expected
        some += len(expected)
    assert some > len(POLES)


def test_only_of_a_day_or_an_instrument(sky: str) -> None:
    assert len(found(sky, 180.0, 0.0)) == 1
    assert found(sky, 180.0, 0.0, "--day-obs", 20261101, "--instrument", "LSSTComCam") == found(sky, 180.0, 0.0)
    assert found(sky, 180.0, 0.0, "--day-obs", 20261102) == {}
    assert found(sky, 180.0, 0.0, "--instrument", "LATISS") == {}
    shown = invoke("find", "--ra", 180, "--dec", 0, "--dsn", sky)
    assert "CC_O_20261101_000005" in shown.stdout
    assert "1 visits" in shown.stderr
    assert "--ra" in invoke("find", "--ra", 400, "--dec", 0, "--dsn", sky, exit_code=2).stderr


def test_one_look_up_in_an_index(sky: str) -> None:
    """Among 200,000 rows of the index, a point costs index scans only."""
    with psycopg.connect(sky, autocommit=True, options="-c search_path=visits") as connection:
        connection.execute(
            "INSERT INTO visit_htm7 SELECT 131072 + n %% 131072, 'LSSTComCam', 5000000 + n FROM"
            " generate_series(1, 200000) AS n".replace("%%", "%")
        )
        connection.execute("VACUUM ANALYZE visit_htm7")
        connection.execute("ANALYZE visit")
        parameters = {"trixels": list(htm7_around(180.0, 0.0)), "instrument": None, "day_obs": None}
        statement = b"EXPLAIN " + statements("find")["visits_near"]
        plan = "\n".join(str(row[0]) for row in connection.execute(statement, parameters).fetchall())
    assert "visit_htm7_pkey" in plan
    assert "Seq Scan on visit_htm7" not in plan
    assert found(sky, 180.0, 0.0)
