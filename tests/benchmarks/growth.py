"""*Growth*: whether a full database, or many open groups, make the next visits slower."""

from dataclasses import replace
from typing import Any

import psycopg

from consumer.kafka.night_producer import FLAT_OUT
from consumer.simulation import simulate_night
from tests.benchmarks.servers import DETECTORS, INSTRUMENT, Servers, night
from tests.benchmarks.throughput import Throughput, flat_out

_COPY_VISITS = """
    INSERT INTO visits.visit
    SELECT (jsonb_populate_record(model, jsonb_build_object('id', n, 'name', 'old_' || n, 'group_key', n::text,
        'day_obs', 20200101 + n / 1000))).*
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n, visits.visit AS model
    WHERE model.id = (SELECT max(id) FROM visits.visit)
"""
_COPY_REGIONS = """
    INSERT INTO visits.visit_detector_region
    SELECT instrument, n, detector, region
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n,
        (SELECT * FROM visits.visit_detector_region WHERE visit = (SELECT max(id) FROM visits.visit)) AS model
    ORDER BY n, detector
"""
_COPY_TRIXELS = """
    INSERT INTO visits.visit_htm7
    SELECT 131072 + (n * 7919 + k) %% 131072, %(instrument)s, n
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n, generate_series(0, 59) AS k
"""
_STEP = 5_000


def stored_visits(servers: Servers, number: int, exposures: int) -> Throughput:
    """Measure the throughput with so many visits of 205 detectors stored."""
    with servers.database() as dsn:
        if number:
            flat_out(servers, servers.topic(1), DETECTORS, dsn)  # the one that is copied
            _store(dsn, number)
        return flat_out(
            servers, servers.topic(exposures), exposures * DETECTORS, dsn, before=DETECTORS if number else 0
        )


def open_groups(servers: Servers, number: int, exposures: int) -> Throughput:
    """Measure the throughput with so many groups that wait for their second exposure all along.

    Their exposures have no known begin: what has one would be superseded by the next group, and close.
    """
    topic = servers.new_topic("open-groups")
    waiting = night(2 * number, snaps=1.0, detectors=1, day_obs=20301101)
    first_of_each = (
        replace(each, raw=replace(each.raw, exposure=replace(exposure, timespan_begin=None, timespan_end=None)))
        for each in simulate_night(waiting)
        for exposure in (each.raw.exposure,)
        if exposure.seq_num == exposure.seq_start
    )
    sections: dict[str, Any] = {
        "instruments": {INSTRUMENT: {"group_exposures": "by-group-metadata"}},
        "closing": {"close_after_s": 86_000.0, "max_open_s": 86_000.0},
    }
    with servers.database() as dsn:
        sent = servers.send(topic, first_of_each, FLAT_OUT)
        flat_out(servers, topic, sent, dsn, **sections)
        servers.fill(topic, night(exposures))
        run = flat_out(servers, topic, exposures * DETECTORS, dsn, before=sent, **sections)
        with psycopg.connect(dsn) as session:
            assert session.execute("SELECT count(*) FROM visits.open_group").fetchone() == (number,)
        return run


def _store(dsn: str, number: int) -> None:
    with psycopg.connect(dsn, autocommit=True) as session:
        for first in range(1, number + 1, _STEP):
            part = {"first": first, "last": min(first + _STEP - 1, number), "instrument": INSTRUMENT}
            for statement in (_COPY_VISITS, _COPY_REGIONS, _COPY_TRIXELS):
                session.execute(statement, part)
        # As a database is that has been there for a while, rather than in the middle of its first clean-up.
        session.execute("VACUUM ANALYZE")
        session.execute("CHECKPOINT")
