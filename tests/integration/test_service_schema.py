"""Migrations: every way leads to one schema, two at once are safe, and nobody works on an unknown schema."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import yaml

from consumer.config import Settings
from consumer.postgres.connection import Database
from consumer.postgres.migrate import check_schema, migrate, migrations
from tests.support.postgres import PostgresServer
from tests.support.service import prepare_database, settings_for

_CATALOG = """
    SELECT 'column', table_name || '.' || column_name, concat_ws(' ', data_type, is_nullable, column_default)
    FROM information_schema.columns WHERE table_schema = 'visits'
    UNION ALL
    SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace = 'visits'::regnamespace
    UNION ALL
    SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'visits'
    UNION ALL
    SELECT 'function', proname, pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'visits'::regnamespace
    UNION ALL
    SELECT 'view', viewname, definition FROM pg_views WHERE schemaname = 'visits'
    ORDER BY 1, 2, 3
"""


def _schema_of(dsn: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(_CATALOG).fetchall()


def _migrate(dsn: str, up_to: int | None = None) -> int:
    database = Database(Settings(**settings_for("nowhere:1", dsn)).database)
    try:
        return len(migrate(database, up_to=up_to))
    finally:
        database.close()


def _command(tmp_path: Path, dsn: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    config = tmp_path / "settings.yaml"
    config.write_text(yaml.safe_dump(settings_for("127.0.0.1:9", dsn)))
    command = [sys.executable, "-m", "consumer", *arguments, "--config", str(config)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, cwd="/")


def test_every_earlier_version_and_an_empty_database_end_at_the_same_schema(postgres_server: PostgresServer) -> None:
    with postgres_server.database() as empty:
        assert _migrate(empty) == len(migrations())
        expected = _schema_of(empty)
        assert len(expected) > 50
        assert _migrate(empty) == 0
    for earlier in migrations():
        with postgres_server.database() as dsn:
            _migrate(dsn, up_to=earlier.version)
            _migrate(dsn)
            assert _schema_of(dsn) == expected, f"from version {earlier.version}"


def test_how_the_large_tables_are_vacuumed_is_changed_beside_readers_and_writers(postgres18: PostgresServer) -> None:
    (own,) = (each for each in migrations() if each.name == "vacuum_of_large_tables")
    with (
        postgres18.database() as dsn,
        psycopg.connect(dsn, options="-c search_path=visits") as writer,
    ):
        _migrate(dsn, up_to=own.version - 1)
        writer.execute("INSERT INTO visit_htm7 SELECT n, 'LSSTCam', n FROM generate_series(131072, 131999) AS n")
        writer.execute("SELECT count(*) FROM visit_detector_region")
        _migrate(dsn)  # waits for nothing: the writer's transaction is open
        writer.execute("INSERT INTO visit_htm7 VALUES (132000, 'LSSTCam', 1)")
        writer.commit()
        options = writer.execute(
            "SELECT relname, option_name, option_value FROM pg_class, pg_options_to_table(reloptions)"
            " WHERE relnamespace = 'visits'::regnamespace AND relname IN ('visit_detector_region', 'visit_htm7')"
        ).fetchall()
    found = {(table, name): float(value) for table, name, value in options}
    for table, rows in (("visit_detector_region", 205_000), ("visit_htm7", 60_000)):
        for kind in ("vacuum_insert", "vacuum", "analyze"):
            assert found[table, f"autovacuum_{kind}_scale_factor"] == 0
            # Every ten nights of a thousand visits, however old the survey is.
            assert 9 * rows < found[table, f"autovacuum_{kind}_threshold"] < 11 * rows
        assert found[table, "autovacuum_freeze_min_age"] == 0


def test_two_migrations_at_once_apply_each_version_once(postgres_server: PostgresServer) -> None:
    with postgres_server.database() as dsn:
        with ThreadPoolExecutor(4) as pool:
            applied = list(pool.map(lambda _: _migrate(dsn), range(4)))
        assert sorted(applied) == [0, 0, 0, len(migrations())]


def test_the_command_migrates_and_says_so_once(postgres18: PostgresServer, tmp_path: Path) -> None:
    with postgres18.database() as dsn:
        first = _command(tmp_path, dsn, "migrate")
        assert (first.returncode, first.stderr) == (0, "")
        assert "0001_initial" in first.stdout
        again = _command(tmp_path, dsn, "migrate")
        assert again.returncode == 0
        assert "0001" not in again.stdout


def test_a_newer_schema_that_still_works_with_this_release_is_taken(postgres18: PostgresServer) -> None:
    with postgres18.database(prepare_database) as dsn:
        with psycopg.connect(dsn) as connection:
            connection.execute("INSERT INTO visits.schema_version VALUES (9999, 'expanded', 'x', 1)")
        assert _migrate(dsn) == 0
        database = Database(Settings(**settings_for("nowhere:1", dsn)).database)
        try:
            check_schema(database)
        finally:
            database.close()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            "INSERT INTO visits.schema_version VALUES (9999, 'contracted', 'x', 9998)",
            "9998 and later",
        ),
        ("DELETE FROM visits.schema_version", "migrate"),
        ("UPDATE visits.schema_version SET checksum = 'other'", "another file"),
        ("DROP SCHEMA visits CASCADE", "migrate"),
    ],
)
def test_run_refuses_a_schema_that_it_does_not_know(
    postgres18: PostgresServer, tmp_path: Path, change: str, complaint: str
) -> None:
    with postgres18.database(prepare_database) as dsn:
        with psycopg.connect(dsn) as connection:
            connection.execute(change)
        ended = _command(tmp_path, dsn, "run")
        assert ended.returncode == 1, ended.stderr
        assert complaint in ended.stderr.splitlines()[-1]
        assert "Traceback" not in ended.stderr
