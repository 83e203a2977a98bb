"""The test's own PostgreSQL servers: what the fixtures promise."""

import psycopg
import pytest

from tests.support.postgres import PostgresServer, wheel_binaries


def _create_table(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE t (n integer)")


def test_each_server_is_of_the_version_that_it_is_asked_for(postgres_server: PostgresServer) -> None:
    assert postgres_server.version.split(".")[0] in {"15", "18"}


def test_databases_do_not_see_each_other(postgres_server: PostgresServer) -> None:
    with postgres_server.database(_create_table) as first, postgres_server.database(_create_table) as second:
        with psycopg.connect(first) as connection:
            connection.execute("INSERT INTO t VALUES (1)")
        with psycopg.connect(second) as connection:
            assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_a_template_is_migrated_once(postgres_server: PostgresServer) -> None:
    calls: list[str] = []
    for _ in range(2):
        with postgres_server.database(calls.append):
            pass
    assert len(calls) == 1


def test_a_database_is_dropped_under_whoever_is_connected(postgres18: PostgresServer) -> None:
    with postgres18.database() as dsn:
        left_open = psycopg.connect(dsn)
    with left_open, pytest.raises(psycopg.OperationalError):
        left_open.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(dsn)


def test_committed_rows_survive_a_kill_and_a_restart() -> None:
    with PostgresServer(wheel_binaries()) as server, server.database(_create_table) as dsn:
        with psycopg.connect(dsn) as connection:
            connection.execute("INSERT INTO t VALUES (1)")
        server.kill()
        assert not server.running
        server.start()
        server.restart()
        with psycopg.connect(dsn) as connection:
            assert connection.execute("SELECT n FROM t").fetchall() == [(1,)]


def test_a_frozen_server_answers_again_when_resumed() -> None:
    with PostgresServer(wheel_binaries(), fast=True) as server:
        server.pause()
        with pytest.raises(psycopg.errors.ConnectionTimeout):
            psycopg.connect(server.dsn(), connect_timeout=2)
        server.resume()
        assert server.version.startswith("18.")
