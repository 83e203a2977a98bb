"""A search for a rare name reads few rows, however many visits there are."""

import pytest

from consumer.config import DatabaseSettings
from consumer.postgres.connection import Database
from tests.support.nights import prepare
from tests.support.postgres import PostgresServer

_FILL = """
    INSERT INTO visit (instrument, id, day_obs, name, region, group_key, inputs_hash, rule, algorithm, padding,
        close_reason, software_version, target_name)
    SELECT 'LSSTCam', n, 20260000 + n / 100, 'v' || n, '\\x70', 'g' || n, '\\x00', 'r', 'a', 0, 'c', '1', 'Field ' || n
    FROM generate_series(1, 20000) AS n;
    INSERT INTO exposure (instrument, id, obs_id, day_obs, "group", record_version, group_key, detectors)
    SELECT 'LSSTCam', id, name, day_obs, 'g', 0, group_key, '{}' FROM visit;
    ANALYZE
"""
_READ = """
    SELECT coalesce(sum(seq_tup_read + idx_tup_fetch), 0)::integer
    FROM pg_stat_xact_user_tables WHERE schemaname = 'visits' AND relname IN ('visit', 'exposure')
"""


@pytest.mark.parametrize(("text", "found"), [("field 777", 1), ("nothing", 0), ("v77", 1), ("g77", 1), ("77", 1)])
def test_a_search_reads_what_it_finds(postgres18: PostgresServer, text: str, found: int) -> None:
    with (
        postgres18.database(prepare) as dsn,
        Database(DatabaseSettings(conninfo=dsn)) as database,  # type: ignore[arg-type] # pydantic makes it a secret
    ):
        with database.transaction() as session:
            session.script(_FILL)
        wanted = {"text": text, "prefix": f"{text}%", "limit": 1, "number": int(text) if text.isdigit() else None}
        with database.snapshot() as session:
            ((before,),) = session._connection.execute(_READ).fetchall()
            assert len(session.rows("page", "search", wanted)) == found
            ((rows,),) = session._connection.execute(_READ).fetchall()
        assert isinstance(rows, int)
        assert isinstance(before, int)
        assert rows - before < 200
