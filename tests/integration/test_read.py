"""Questions over the tables: a night, a visit, how the service stands."""

import random
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from consumer.errors import TransientError
from consumer.postgres.dead_letters import DeadLetterFilter, DeadLetterStatus
from consumer.postgres.exposure_history import read_traces
from consumer.postgres.migrate import migrations
from consumer.read.dead_letters import list_dead_letters
from consumer.read.night import exposures_without_visit, read_night
from consumer.read.status import TablesStatus, read_positions, read_status
from consumer.read.visit import read_visit, visits_of_exposures
from consumer.regions import s_region
from tests.support.exposures import DAY_OBS, exposure, run_of
from tests.support.nights import START_MS, TOPIC, Course, NightLog, feed, prepare, raws_of, reader, rules_of
from tests.support.postgres import PostgresServer
from tests.support.waiting import give_up_at

CONFIG = {
    "instrument": "LSSTComCam",
    "camera": "lsstcomcam",
    "group_exposures": "one-to-one-and-by-counter",
    "group_id": "lsst",
    "padding": 250,
    "merge_exposures": False,
}
RULES = rules_of(CONFIG)
UNSENT = "INSERT INTO visits.outbox (instrument, visit, revision, payload) VALUES ('LSSTComCam', 1, 1, '')"


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
            assert exposures_without_visit(one.database, day_obs=DAY_OBS) == [("LSSTComCam", dome.id)]
            assert exposures_without_visit(one.database, day_obs=DAY_OBS + 1) == []
            assert exposures_without_visit(one.database, instrument="LATISS") == []

            visit = read_visit(one.database, "LSSTComCam", first.id)
            assert visit is not None
            assert (visit.definition.name, visit.definition.visit_systems) == (tonight[0].name, (2,))
            assert visit.definition.exposures == (first, second)
            assert visit.regions.detectors == tuple(range(9))
            assert len(visit.regions.detector_regions) == 9
            assert read_visit(one.database, "LSSTComCam", 1) is None
            assert read_visit(one.database, "LATISS", first.id) is None
            assert visits_of_exposures(one.database, "LSSTComCam", [first.id, second.id]) == {
                first.id: [first.id, second.id],
                second.id: [second.id],
                int(f"9{first.id}"): [first.id],
            }


def test_how_the_service_stands(postgres_server: PostgresServer) -> None:
    with postgres_server.database(prepare) as dsn, reader(dsn, RULES) as one:
        assert read_status(one.database) == TablesStatus(
            schema_version=migrations()[-1].version,
            positions=(),
            open_groups=0,
            dead_letters={},
            unsent_announcements=0,
        )
        log = NightLog.of()
        for number, raw in enumerate(raws_of(run_of(1, 3)[:2], 0)):
            log.append(raw, at_ms=START_MS + number)
        log.append(b"no event", at_ms=START_MS + 2)
        one.claim(log.partitions)
        one.put([message for each in log.partitions.values() for message in each])
        one.write()
        status = read_status(one.database)
        assert [(each.topic, each.next_offset) for each in status.positions] == [(TOPIC, 3)]
        assert read_positions(one.database) == list(status.positions)
        assert status.open_groups == 1
        assert status.dead_letters == {("unknown_framing", DeadLetterStatus.OPEN): 1}
        (letter,) = list_dead_letters(one.database, DeadLetterFilter(reasons=["unknown_framing"]))
        assert (letter.topic, letter.value) == (TOPIC, b"no event")
        assert list_dead_letters(one.database, DeadLetterFilter(statuses=["discarded"])) == []
        with psycopg.connect(dsn) as connection:
            connection.execute("UPDATE visits.dead_letter SET status = 'discarded'")
            connection.execute(UNSENT)
        status = read_status(one.database)
        assert status.dead_letters == {("unknown_framing", DeadLetterStatus.DISCARDED): 1}
        assert status.unsent_announcements == 1


def test_a_snapshot_shows_one_moment_and_writes_nothing(postgres_server: PostgresServer) -> None:
    with postgres_server.database(prepare) as dsn, reader(dsn, RULES) as one:
        with one.database.snapshot() as session:
            first = session.rows("read", "status")
            with psycopg.connect(dsn) as other:
                other.execute(UNSENT)
            assert session.rows("read", "status") == first
        assert read_status(one.database).unsent_announcements == 1
        with pytest.raises(TransientError, match="read-only"), one.database.snapshot() as session:
            session.script(UNSENT)
        assert read_status(one.database).unsent_announcements == 1


def test_an_explanation_is_of_one_moment(postgres_server: PostgresServer) -> None:
    """A dead letter that is committed between two statements of the explanation is not in it."""
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'visits.visit_definition'::regclass"
    one_exposure = exposure(1)
    with (
        postgres_server.database(prepare) as dsn,
        reader(dsn, RULES) as one,
        psycopg.connect(dsn) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        feed(dsn, RULES, raws_of([one_exposure], 0), Course(random.Random(1)))  # noqa: S311 -- a test draws its course
        other.execute("LOCK TABLE visits.visit_definition")
        asked = pool.submit(read_traces, one.database, one_exposure.id, None)
        deadline = give_up_at(10)
        while other.execute(waiting).fetchone() != (1,):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        other.execute(
            "INSERT INTO visits.dead_letter (reason, detail, instrument, exposure) VALUES ('empty', '', %s, %s)",
            (one_exposure.instrument, one_exposure.id),
        )
        other.commit()
        (trace,) = asked.result(10)
        assert (len(trace.visits), trace.dead_letters) == (1, ())
        (trace,) = read_traces(one.database, one_exposure.id, None)
        assert [each.reason for each in trace.dead_letters] == ["empty"]


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
