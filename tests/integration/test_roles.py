"""The shipped roles on real PostgreSQL: each does what it is for, and nothing else."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.errors import InsufficientPrivilege

from consumer.config import DatabaseSettings
from consumer.kafka.mock_cluster import EmbeddedBroker
from consumer.postgres.connection import Database
from consumer.read.raws import stored_detectors
from tests.deploy.boards import sql_queries
from tests.support.commands import invoke
from tests.support.exposures import DAY_OBS, exposure
from tests.support.pages import next_event, page_of
from tests.support.postgres import PostgresServer, wheel_binaries
from tests.support.service import Replica, produce, raws_of, settings_for

LOGINS = """
    CREATE ROLE releases LOGIN IN ROLE visit_owner;
    ALTER ROLE releases SET role = visit_owner;
    CREATE ROLE tonight LOGIN IN ROLE visit_writer;
    CREATE ROLE boards LOGIN IN ROLE visit_reader;
    """
ALTERS = (
    "CREATE TABLE visits.mine (x int)",
    "CREATE TABLE public.mine (x int)",
    "DROP TABLE visits.visit",
    "ALTER TABLE visits.visit ADD COLUMN x int",
    "CREATE SCHEMA mine",
    "TRUNCATE visits.visit",
)
DELETE = sql.SQL("DELETE FROM visits.{} WHERE false")
INSERT = sql.SQL("INSERT INTO visits.{} DEFAULT VALUES")
KEPT = (
    "butler_sink",
    "butler_sink_visit",
    "retired_visit",
    "exposure",
    "raw_region",
    "consumer_offset",
    "visit_system",
    "schema_version",
)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """Roles are a server's: one of this module's own."""
    with PostgresServer(wheel_binaries(), fast=True) as own:
        yield own


def refused(connection: psycopg.Connection[tuple[object, ...]], *statements: str | sql.Composed) -> None:
    for statement in statements:
        with pytest.raises(InsufficientPrivilege):
            connection.execute(statement.encode() if isinstance(statement, str) else statement)


def tables(connection: psycopg.Connection[tuple[object, ...]]) -> list[str]:
    rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'visits'").fetchall()
    return sorted(str(name) for (name,) in rows)


def rights(dsn: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(
            """
            SELECT grantee::text, table_name::text, privilege_type::text FROM information_schema.role_table_grants
            WHERE table_schema = 'visits' AND grantee IN ('visit_writer', 'visit_reader') ORDER BY 1, 2, 3
            """
        ).fetchall()


def as_(role: str, server: PostgresServer, dsn: str) -> str:
    return server.dsn(dsn.rpartition("/")[2], user=role)


def prepare(server: PostgresServer, dsn: str) -> None:
    """Make roles and logins by the command, and the schema as the login that migrates."""
    invoke("roles", "--apply", "--dsn", dsn)
    with psycopg.connect(dsn) as superuser:
        if superuser.execute("SELECT to_regrole('tonight')").fetchone() == (None,):
            superuser.execute(LOGINS.encode())
    migrated = invoke_migrate(as_("releases", server, dsn))
    assert "applied" in migrated


def invoke_migrate(dsn: str) -> str:
    return invoke("migrate", "--dsn", dsn).stdout


def test_the_service_runs_as_the_writer_and_the_boards_as_the_reader(server: PostgresServer, tmp_path: Path) -> None:
    with EmbeddedBroker() as broker, server.database() as dsn:
        prepare(server, dsn)
        settings = settings_for(
            broker.bootstrap,
            as_("tonight", server, dsn),
            kafka={"topics": ["raws"], "session_timeout_s": 10},
            announce={"topic": "visit-defined"},
        )
        exposures = [exposure(n) for n in range(1, 6)]
        corrected = [exposure(n, target_name="another", record_version=1) for n in range(1, 6)]
        count = "SELECT count(*), min(revision) FROM visits.visit"
        outbox = "SELECT count(*) FROM visits.outbox WHERE sent_at IS NOT NULL"
        with psycopg.connect(dsn, autocommit=True) as superuser, Replica(tmp_path, settings) as replica:
            produce(broker.bootstrap, raws_of(exposures, range(3)), "raws")
            replica.wait_until(lambda: superuser.execute(count).fetchone() == (5, 1), what="visits")
            produce(broker.bootstrap, raws_of(corrected, range(1)), "raws")
            replica.wait_until(lambda: superuser.execute(count).fetchone() == (5, 2), what="second revisions")
            replica.wait_until(lambda: superuser.execute(outbox).fetchone() == (10,), what="announcements")
            code, _ = replica.terminate()
            assert code == 0, replica.log_tail()
        with psycopg.connect(as_("boards", server, dsn), autocommit=True) as reader:
            for name, query in sql_queries(schema="visits", night=DAY_OBS, instruments=["LSSTComCam"]).items():
                assert reader.execute(query.encode()).description, name
            names = tables(reader)
            assert len(names) > 10
            reader.execute("SELECT * FROM visits.obscore")
            reader.execute("SELECT * FROM visits.missing_raw")
            for name in names:
                table = sql.Identifier(name)
                reader.execute(sql.SQL("SELECT * FROM visits.{} LIMIT 1").format(table))
                refused(reader, DELETE.format(table), INSERT.format(table))
            refused(reader, *ALTERS, "UPDATE visits.visit SET name = 'x'")
        scans = DatabaseSettings.model_validate({"conninfo": as_("boards", server, dsn)})
        with Database(scans, application_name="test") as database:
            assert len(stored_detectors(database, [each.obs_id for each in exposures], [DAY_OBS])) == 5
        with page_of(as_("boards", server, dsn), tmp_path) as page, page.events() as events:
            assert next_event(events, "state").data["night"]["visits"] == 5
            visit, place = exposures[0].id, "ra_deg=150.1&dec_deg=2.2"
            for path in ("nights", "trouble", "groups", "dead-letters", "search?q=another", f"cone?{place}"):
                page.api(f"/{path}")
            assert len(page.api(f"/visits/LSSTComCam/{visit}")["detectors"]) == 9
            assert page.api(f"/exposures/{visit}")["explanations"][0]["ending"] == "visit"


def test_the_writer_alters_nothing_and_removes_only_what_it_must(server: PostgresServer) -> None:
    with server.database() as dsn:
        prepare(server, dsn)
        with psycopg.connect(as_("tonight", server, dsn), autocommit=True) as writer:
            refused(writer, *ALTERS, "INSERT INTO visits.schema_version DEFAULT VALUES")
            names = tables(writer)
            assert set(KEPT) <= set(names)
            for name in names:
                delete = DELETE.format(sql.Identifier(name))
                if name in KEPT:
                    refused(writer, delete)
                else:
                    writer.execute(delete)


def test_later_tables_are_open_and_the_order_of_roles_and_migrations_does_not_matter(server: PostgresServer) -> None:
    with server.database() as first, server.database() as last:
        prepare(server, first)
        invoke_migrate(last)  # by a superuser, before anybody thought of roles
        invoke("roles", "--apply", "--dsn", last)
        assert rights(first) == rights(last) != []
        assert invoke_migrate(as_("releases", server, last)) == "The schema is up to date.\n"
        for dsn in (first, last):
            with psycopg.connect(as_("releases", server, dsn)) as owner:
                owner.execute("ALTER TABLE visits.visit ADD COLUMN later int")
                owner.execute("CREATE TABLE visits.later (x int)")
            with psycopg.connect(as_("boards", server, dsn)) as reader:
                assert reader.execute("SELECT x FROM visits.later").fetchall() == []
            with psycopg.connect(as_("tonight", server, dsn), autocommit=True) as writer:
                writer.execute("INSERT INTO visits.later VALUES (1)")
                refused(writer, "DELETE FROM visits.later")
        before = rights(first)
        invoke("roles", "--apply", "--dsn", first)
        invoke_migrate(as_("releases", server, first))
        assert rights(first) == before


def test_the_printed_script_does_the_same_and_needs_no_database(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISIT_CONSUMER_DATABASE__SCHEMA", "night")
    script = invoke("roles").stdout
    psql = [str(wheel_binaries() / "psql"), "--no-psqlrc", "--set=ON_ERROR_STOP=1"]
    with server.database() as dsn:
        for _ in range(2):
            subprocess.run(
                [*psql, "--dbname", dsn], input=script, check=True, text=True, timeout=30, capture_output=True
            )
        with psycopg.connect(dsn) as connection:
            owner = connection.execute(
                "SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'night'"
            ).fetchone()
        assert owner == ("visit_owner",)


def test_without_the_right_to_make_roles_it_says_so(server: PostgresServer) -> None:
    with server.database() as dsn:
        prepare(server, dsn)
        answer = invoke("roles", "--apply", "--dsn", as_("tonight", server, dsn), exit_code=1)
        assert "42501" in answer.stderr
