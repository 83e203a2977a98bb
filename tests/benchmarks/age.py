"""*Age*: whether a survey of many years makes anything slower than its first night does.

One night of 800 visits of LSSTCam is read by the service; its rows are then stored again under other nights, of the
years before. What is asked of the young database is asked of the old one.
"""

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from functools import partial
from itertools import count
from statistics import median
from time import perf_counter
from typing import Any

import psycopg

from consumer.admin.audit import Audit
from consumer.admin.redefine import Redefinition, Scope
from consumer.config import Settings
from consumer.postgres.connection import Database
from consumer.read.explain import explain_exposure
from consumer.read.find import find_visits
from consumer.read.overview import read_overview
from tests.benchmarks.latency import measure as measure_latency
from tests.benchmarks.servers import DETECTORS, INSTRUMENT, Servers, night
from tests.benchmarks.throughput import flat_out

VISITS_A_NIGHT = 800
_TEMPLATE = date(2026, 11, 1)
"""Day of the night that the service reads."""
_FIRST = date(2010, 1, 1)
_IDS_A_DAY = 100_000
"""An exposure's id is its day, YYYYMMDD, and five digits."""
_FINDS, _EXPLAINS, _REDEFINITIONS = 40, 200, 200

# Rows of the night under another day: ids and times shifted, texts with the day in them changed.
_SPANS = "'timespan_begin', timespan_begin + %(ns)s, 'timespan_end', timespan_end + %(ns)s"
_CHANGED = {
    "exposure": f"""'id', id + %(ids)s, 'day_obs', %(day)s, 'obs_id', replace(obs_id, %(old)s, %(new)s),
        'group', replace("group", %(old_group)s, %(new_group)s), 'group_key', (id + %(ids)s)::text, {_SPANS}""",
    "visit": f"""'id', id + %(ids)s, 'day_obs', %(day)s, 'name', replace(name, %(old)s, %(new)s),
        'group_key', (id + %(ids)s)::text, {_SPANS}""",
    "visit_definition": "'exposure', exposure + %(ids)s, 'visit', visit + %(ids)s",
    "visit_system_membership": "'visit', visit + %(ids)s",
    "visit_obscore": """'visit', visit + %(ids)s, 'day_obs', %(day)s, 'obs_id', replace(obs_id, %(old)s, %(new)s),
        't_min', t_min + %(days)s, 't_max', t_max + %(days)s""",
}
_BIG = {
    "visit_detector_region": "instrument, visit + %(ids)s, detector, region FROM {} ORDER BY visit, detector",
    "visit_htm7": "htm7, instrument, visit + %(ids)s FROM {} ORDER BY htm7, visit",
}


def store_nights(dsn: str, nights: int, progress: Callable[[str], None] = lambda _: None) -> None:
    """Store the night that is there again under so many other days, years before it."""
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute("SET synchronous_commit = off")
        session.execute("SET search_path = visits")
        for table in (*_CHANGED, *_BIG):
            session.execute(f"CREATE TEMPORARY TABLE night_{table} AS TABLE {table}".encode())
        for number in range(nights):
            _store_night(session, _FIRST + timedelta(days=number))
            if number % 25 == 24:
                progress(f"{number + 1} nights stored")
        # As a database is that has been there for a while, rather than in the middle of its first clean-up.
        session.execute("VACUUM (FREEZE, ANALYZE)")
        session.execute("CHECKPOINT")


def read_template(servers: Servers, dsn: str) -> int:
    """Let the service read the night that is copied; return its number of messages."""
    events = VISITS_A_NIGHT * DETECTORS
    flat_out(servers, servers.topic(VISITS_A_NIGHT), events, dsn)
    return events


def measure(servers: Servers, dsn: str, *, read: int, exposures: int, rounds: int, seconds: int) -> dict[str, float]:
    """Ask the database everything that is compared.

    Parameters
    ----------
    servers, dsn
        Where.
    read
        Messages that it has read so far.
    exposures, rounds
        Of throughput; each round reads a night of its own.
    seconds
        Of latency.
    """
    rates = []
    days = count(1)
    for _ in range(rounds):
        topic = servers.new_topic("age")
        events = servers.fill(topic, night(exposures, day_obs=_day(_TEMPLATE + timedelta(days=next(days)))))
        rates.append(flat_out(servers, topic, events, dsn, before=read).visits_per_s)
        read += events
    delay = measure_latency(servers, servers.new_topic("age"), dsn, seconds, day_obs=_day(date(2027, 1, 1)))
    settings = Settings(**servers.settings("none", dsn))
    with Database(settings.database) as database:
        return {
            "visits_per_s": median(rates),
            "latency_p50_ms": delay.p50,
            "latency_p99_ms": delay.p99,
            **_reads(database, settings, _places(dsn)),
        }


def _reads(database: Database, settings: Settings, places: Sequence[tuple[float, float]]) -> dict[str, float]:
    day = _day(_TEMPLATE)
    names = [day * _IDS_A_DAY + number for number in range(1, _EXPLAINS + 1)]
    audit = Audit(database, settings, instrument=INSTRUMENT, day_obs=day)
    work = Redefinition(database, settings, Scope(instrument=INSTRUMENT, day_obs=day, visit=None))
    parts = work.components()[:_REDEFINITIONS]
    return {
        "find_of_a_night_ms": _median_ms([partial(find_visits, database, ra, dec, day_obs=day) for ra, dec in places]),
        "explain_ms": _median_ms([partial(explain_exposure, database, settings, name) for name in names]),
        "status_ms": _median_ms([lambda: read_overview(database)] * 20),
        "audit_of_a_night_ms": _median_ms([audit.run] * 3),
        "redefine_ms": _median_ms([partial(work.redefine, part, write=False) for part in parts]),
    }


def _median_ms(calls: Sequence[Callable[[], object]]) -> float:
    calls[0]()  # opens the session, prepares the statements
    took = []
    for call in calls:
        started = perf_counter()
        call()
        took.append(perf_counter() - started)
    return 1000 * median(took)


def _places(dsn: str) -> list[tuple[float, float]]:
    """Return centres of the night's visits, degrees, ICRS."""
    query = "SELECT s_ra, s_dec FROM visits.visit_obscore WHERE day_obs = %s ORDER BY visit"
    with psycopg.connect(dsn) as session:
        rows = session.execute(query, [_day(_TEMPLATE)]).fetchall()
    return rows[:: max(1, len(rows) // _FINDS)]


def _store_night(session: psycopg.Connection[Any], day: date) -> None:
    days = (day - _TEMPLATE).days
    values = {
        "day": _day(day),
        "days": days,
        "ids": (_day(day) - _day(_TEMPLATE)) * _IDS_A_DAY,
        "ns": days * 86_400 * 10**9,
        "old": str(_day(_TEMPLATE)),
        "new": str(_day(day)),
        "old_group": f"{_TEMPLATE:%Y-%m-}",
        "new_group": f"{day:%Y-%j-}",
    }
    for table, changes in _CHANGED.items():
        shifted = f"jsonb_populate_record(night_{table}, jsonb_build_object({changes}))"
        query = f"INSERT INTO {table} SELECT ({shifted}).* FROM night_{table}"  # noqa: S608 - names of ours
        session.execute(query.encode(), values)
    for table, rows in _BIG.items():
        query = f"INSERT INTO {table} SELECT {rows.format(f'night_{table}')}"
        session.execute(query.encode(), values)


def _day(day: date) -> int:
    return int(f"{day:%Y%m%d}")
