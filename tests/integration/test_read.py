"""Questions over the tables: a night, a visit, how the service stands."""

import random

import psycopg
import pytest

from consumer.read.night import count_exposures_without_visit, read_night
from consumer.read.status import read_status
from consumer.read.visit import read_regions, visits_of_exposures
from consumer.regions import s_region
from tests.support.exposures import DAY_OBS, exposure, run_of
from tests.support.nights import START_MS, TOPIC, Course, NightLog, feed, prepare, raws_of, reader, rules_of
from tests.support.postgres import PostgresServer

CONFIG = {
    "instrument": "LSSTComCam",
    "camera": "lsstcomcam",
    "group_exposures": "one-to-one-and-by-counter",
    "group_id": "lsst",
    "padding": 250,
    "merge_exposures": False,
}
RULES = rules_of(CONFIG)


def test_a_night_and_its_visits(postgres_server: PostgresServer) -> None:
    first, second = run_of(1, 2)
    other = exposure(3, day_obs=DAY_OBS + 1)
    dome = exposure(4, can_see_sky=False)
    with postgres_server.database(prepare) as dsn:
        feed(dsn, RULES, raws_of([first, second, other, dome], 0, 1), Course(random.Random(1)))  # noqa: S311 -- a test draws its course
        with reader(dsn, RULES) as one:
            tonight = read_night(one.database, day_obs=DAY_OBS)
            assert [(each.id, each.visit_systems, each.n_exposures, each.n_detectors) for each in tonight] == [
                (first.id, [2], 2, 9),
                (second.id, [0], 1, 9),
                (int(f"9{first.id}"), [0], 1, 9),
            ]
            assert first.tracking_ra is not None
            assert abs(tonight[0].s_ra - first.tracking_ra) < 0.01
            assert [each.id for each in read_night(one.database, instrument="LSSTComCam")] == [
                first.id,
                second.id,
                other.id,
                int(f"9{first.id}"),
            ]
            assert read_night(one.database, instrument="LATISS") == []
            assert count_exposures_without_visit(one.database, day_obs=DAY_OBS) == 1
            assert count_exposures_without_visit(one.database, day_obs=DAY_OBS + 1) == 0

            regions = read_regions(one.database, "LSSTComCam", first.id)
            assert regions is not None
            assert regions.detectors == tuple(range(9))
            assert len(regions.detector_regions) == 9
            assert read_regions(one.database, "LSSTComCam", 1) is None
            assert visits_of_exposures(one.database, "LSSTComCam", [first.id, second.id]) == {
                first.id: [first.id, second.id],
                second.id: [second.id],
                int(f"9{first.id}"): [first.id],
            }


def test_how_the_service_stands(postgres_server: PostgresServer) -> None:
    with postgres_server.database(prepare) as dsn, reader(dsn, RULES) as one:
        assert read_status(one.database).positions == ()
        log = NightLog.of()
        for number, raw in enumerate(raws_of(run_of(1, 3)[:2], 0)):
            log.append(raw, at_ms=START_MS + number)
        log.append(b"no event", at_ms=START_MS + 2)
        one.claim(log.partitions)
        one.put([message for each in log.partitions.values() for message in each])
        one.write()
        status = read_status(one.database)
        assert [(each.topic, each.next_offset) for each in status.positions] == [(TOPIC, 3)]
        assert status.open_groups == 1
        assert status.open_dead_letters == {"unknown_framing": 1}
        assert status.unsent_announcements == 0


def test_the_view_and_the_announcement_give_one_polygon(postgres_server: PostgresServer) -> None:
    pointings = [(150.1, 2.2), (0.01, -30.0), (359.99, 45.0), (12.0, 89.9), (200.0, -89.95)]
    exposures = [exposure(n, tracking_ra=ra, tracking_dec=dec) for n, (ra, dec) in enumerate(pointings, start=1)]
    with postgres_server.database(prepare) as dsn:
        feed(dsn, RULES, raws_of(exposures, 0), Course(random.Random(1)))  # noqa: S311 -- a test draws its course
        with psycopg.connect(dsn) as connection:
            rows = connection.execute(
                "SELECT o.s_region, v.region FROM visits.obscore AS o JOIN visits.visit AS v"
                " ON o.obs_id = v.instrument || '/' || v.id"
            ).fetchall()
    assert len(rows) == len(exposures)
    for shown, region in rows:
        of_view, announced = (text.split()[2:] for text in (shown, s_region(region)))
        assert [float(each) for each in of_view] == pytest.approx([float(each) for each in announced], abs=1e-11)
