"""The writer's look-ups go by the right index, also right after a backfill has filled tables that were empty."""

from collections.abc import Iterator

import pytest

from consumer.config import DatabaseSettings
from consumer.model import GroupKey
from consumer.postgres.batch_tables import BatchTransaction
from consumer.postgres.connection import LOOKS_UP_BY_KEY, Database, Session
from consumer.postgres.sql_files import statements
from tests.support.nights import prepare
from tests.support.postgres import PostgresServer

_FILL = """
    INSERT INTO visit (instrument, id, day_obs, name, region, group_key, inputs_hash, rule, algorithm, padding,
        close_reason, software_version)
    SELECT 'LSSTCam', n, 20261101, 'v' || n, decode(repeat('70', 1705), 'hex'), 'g' || n, '\\x00', 'r', 'a', 0, 'c', '1'
    FROM generate_series(1, 3000) AS n
"""
_READ = """
    SELECT coalesce(seq_scan, 0), coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)
    FROM pg_stat_xact_user_tables WHERE schemaname = 'visits' AND relname = 'visit'
"""


@pytest.fixture
def database(postgres18: PostgresServer) -> Iterator[Database]:
    with postgres18.database(prepare) as dsn:
        made = Database(DatabaseSettings(conninfo=dsn), session=LOOKS_UP_BY_KEY)  # type: ignore[arg-type] # pydantic makes it a secret
        yield made
        made.close()


_NIGHTS = """
    INSERT INTO exposure (instrument, id, obs_id, day_obs, "group", record_version, group_key, detectors)
    SELECT name, n, name || n, 20261101 + n / 1000, 'g' || n, 0, 'k' || n, '{[0,9)}'
    FROM generate_series(1, 15000) AS n, unnest('{LATISS,LSSTCam}'::text[]) AS name;
    INSERT INTO visit (instrument, id, day_obs, name, region, group_key, inputs_hash, rule, algorithm, padding,
        close_reason, software_version)
    SELECT instrument, id, day_obs, obs_id, '', group_key, '', 'r', 'a', 0, 'c', '1' FROM exposure;
    INSERT INTO visit_definition SELECT instrument, id, id FROM exposure;
    ANALYZE exposure; ANALYZE visit; ANALYZE visit_definition
"""


@pytest.mark.parametrize(
    ("file", "name", "parameters"),
    [
        ("explain", "exposures", {"exposure": 7007}),
        ("explain", "ids_of_obs_id", {"text": "LATISS7007"}),
        ("explain", "ids_of_group", {"text": "g7007"}),
        ("explain", "ids_of_group", {"text": "k7007"}),
        ("explain", "ids_of_visit", {"number": 7007}),
        ("wait", "visit", {"id": 7007}),
        ("wait", "exposure", {"id": 7007}),
    ],
)
def test_what_is_asked_without_an_instrument_reads_few_pages(
    database: Database, file: str, name: str, parameters: dict[str, object]
) -> None:
    with database.transaction() as session:
        session.script(_NIGHTS)
        text = statements(file)[name].replace(b"{exposure}", b"exposure.id")
        query = b"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + text
        session._connection.execute("RESET enable_seqscan")
        for instrument in (None, "LATISS"):
            given = {"instrument": instrument, **parameters}
            ((found,),) = session._connection.execute(query, given).fetchall()
            assert isinstance(found, list)
            plan = found[0]["Plan"]
            assert plan["Actual Rows"] >= 1
            pages = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
            assert pages < 50, f"{pages} of 500: {found}"


def _look_up(session: Session, number: int) -> int:
    wanted = [("LSSTCam", n, f"v{n}") for n in range(number, number + 20)]
    groups = [GroupKey("LSSTCam", f"g{n}") for n in range(number, number + 20)]
    return len(BatchTransaction(session).lock_visits(wanted, groups))


def test_a_table_that_was_empty_a_moment_ago_is_not_read_whole(database: Database) -> None:
    for _ in range(8):  # a prepared statement may keep a plan from its sixth run on
        with database.transaction() as session:
            assert _look_up(session, 1) == 0
    with database.transaction() as session:
        session._connection.execute("ALTER TABLE visit SET (autovacuum_enabled = off)")
        session.script(_FILL)
    with database.transaction() as session:
        assert _look_up(session, 100) == 20
        scans, rows = session._connection.execute(_READ).fetchall()[0]
    assert scans == 0
    assert isinstance(rows, int)
    assert 20 <= rows <= 200
