"""More groups are due than one transaction has time for: a tick closes some, and what takes too long gets longer."""

from collections.abc import Iterator

import psycopg
import pytest
from prometheus_client import CollectorRegistry

from consumer.config import DatabaseSettings
from consumer.domain.closing import OpenGroup
from consumer.metrics import Metrics
from consumer.model import GroupKey, PartitionId
from consumer.postgres.batch_tables import BatchStore, BatchTransaction
from consumer.postgres.connection import LOOKS_UP_BY_KEY, Database
from consumer.postgres.offsets import Positions
from consumer.service import apply_batch
from consumer.service.runtime import SYSTEM
from consumer.service.writer import Writer
from tests.support.exposures import exposure
from tests.support.nights import FAR_MS, START_MS, TOPIC, NightLog, canonical, prepare, raws_of, reader, rules_of, wipe
from tests.support.postgres import PostgresServer

RULES = rules_of(
    {
        "instrument": "LSSTComCam",
        "camera": "lsstcomcam",
        "group_exposures": "by-group-metadata",
        "group_id": "digits",
        "padding": 10,
        "merge_exposures": False,
    }
)
PARTITIONS = [PartitionId(TOPIC, number) for number in range(2)]
GROUPS = 7


@pytest.fixture
def dsn(postgres18: PostgresServer) -> Iterator[str]:
    with postgres18.database(prepare) as made:
        yield made


def night() -> NightLog:
    """Make groups that nothing closes but the wall clock, the later named the earlier."""
    log = NightLog.of(len(PARTITIONS))
    for number in range(GROUPS):
        one = exposure(number + 1, group=f"{GROUPS - number}", timespan_begin=None, timespan_end=None)
        log.append(raws_of([one], 0)[0], partition=number % 2, at_ms=START_MS + number)
    return log


def closed_by_ticks(dsn: str, ticks: int) -> list[list[str]]:
    """Read the night, tick as the loop does while something is due, and give the groups that each tick closed."""
    log = night()
    closed = []
    with reader(dsn, RULES) as one:
        one.claim(PARTITIONS)
        one.put([message for each in log.partitions.values() for message in each], log)
        one.write()
        for _ in range(ticks):
            result = one.tick_if_due(FAR_MS)
            assert result is not None, "something is due, and nobody knows"
            closed.append([each.group.key for each in result.written])
        assert one.tick_if_due(FAR_MS) is None
    return closed


def test_a_tick_closes_some_groups_the_earliest_first_and_the_next_one_the_others(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(closed_by_ticks(dsn, 1)[0]) == GROUPS
    whole = canonical(dsn)
    wipe(dsn)
    monkeypatch.setattr(apply_batch, "MOST_GROUPS_OF_A_TICK", 3)
    assert [sorted(each) for each in closed_by_ticks(dsn, 3)] == [["5", "6", "7"], ["2", "3", "4"], ["1"]]
    assert canonical(dsn) == whole


def test_groups_of_an_instrument_that_is_not_configured_take_nobodys_place(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apply_batch, "MOST_GROUPS_OF_A_TICK", 2)
    log = night()
    with reader(dsn, RULES) as one:
        one.claim(PARTITIONS)
        one.put([message for each in log.partitions.values() for message in each], log)
        one.write()
        with psycopg.connect(dsn) as connection:
            connection.execute("""
                INSERT INTO visits.open_group (instrument, group_key, clock, opened_ms, last_ms, deadline_ms)
                SELECT 'Gone', n::text, clock, 1, 1, 1
                FROM generate_series(1, 5) AS n, (SELECT min(clock) AS clock FROM visits.open_group)""")
        for _ in range(4):
            one.tick(FAR_MS)
        assert len(one.closed) == GROUPS


def test_the_first_groups_are_found_by_the_index(dsn: str) -> None:
    database = Database(DatabaseSettings(conninfo=dsn), session=LOOKS_UP_BY_KEY)  # type: ignore[arg-type] # pydantic makes it a secret
    with database.transaction() as session:
        session.script("""
            INSERT INTO open_group (instrument, group_key, clock, opened_ms, last_ms, deadline_ms)
            SELECT 'LSSTComCam', n::text, 1 + n % 2, 1, 1, n FROM generate_series(1, 20000) AS n""")
    with database.transaction() as session:
        found = BatchTransaction(session).lock_first_due_groups({1: 10**6, 2: 10**6}, ["LSSTComCam"], 10)
        assert found == [
            OpenGroup(key=GroupKey("LSSTComCam", str(n)), offset_id=1 + n % 2, opened_ms=1, last_ms=1)
            for n in sorted(range(1, 11), key=str)
        ]
        scans = session._connection.execute("""
            SELECT coalesce(seq_scan, 0) FROM pg_stat_xact_user_tables
            WHERE schemaname = 'visits' AND relname = 'open_group'""").fetchall()
    database.close()
    assert scans == [(0,)]


SLOW = """
    CREATE FUNCTION visits.slow() RETURNS trigger LANGUAGE plpgsql
        AS 'BEGIN PERFORM pg_sleep(0.5); RETURN NULL; END';
    CREATE TRIGGER slow AFTER {what} ON visits.{table} FOR EACH STATEMENT EXECUTE FUNCTION visits.slow();
"""


@pytest.mark.parametrize(("what", "table", "tick"), [("INSERT", "exposure", False), ("DELETE", "open_group", True)])
def test_what_cannot_be_halved_gets_the_time_that_it_takes(
    postgres18: PostgresServer, what: str, table: str, *, tick: bool
) -> None:
    message = night().partitions[PARTITIONS[0]][0]
    with postgres18.database(prepare) as dsn, reader(dsn, RULES) as gathers:
        gathers.claim(PARTITIONS[:1])
        gathers.builder.put([message], {message.partition: message.offset + 1}, FAR_MS)
        if tick:
            gathers.write()
        with psycopg.connect(dsn) as connection:
            connection.execute(SLOW.format(what=what, table=table))
        database = Database(DatabaseSettings(conninfo=dsn, statement_timeout_s=0.2))  # type: ignore[arg-type] # pydantic makes it a secret
        positions = Positions(database, consumer_group="visit-consumer", owner="writer")
        metrics = Metrics(CollectorRegistry(), instruments=RULES)
        writer = Writer(BatchStore(database), positions, RULES, metrics, announce=None, retry_max_s=0.2, runtime=SYSTEM)
        try:
            batch = gathers.builder.tick(FAR_MS) if tick else gathers.builder.take()
            assert batch is not None
            (done,) = writer.write(batch).result(20.0)
            assert len(done.result.closed) == tick
            with database.transaction() as session:
                assert session._connection.execute("SHOW statement_timeout").fetchall() == [("200ms",)]
        finally:
            writer.close(10.0)
