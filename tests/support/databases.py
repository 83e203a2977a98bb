"""Fixtures: PostgreSQL servers of both versions, and fresh databases on them.

The servers live as long as the run, whatever the order of the tests; the parametrised fixtures only choose one.
"""

import contextlib
import os
from collections.abc import Callable, Iterator

import pytest

from tests.support.postgres import DEBIAN_15, PostgresServer, wheel_binaries
from tests.support.summary import note

ServerOf = Callable[[str], PostgresServer]


@pytest.fixture(scope="session")
def postgres_server_of(request: pytest.FixtureRequest) -> Iterator[ServerOf]:
    """Return the run's server of a major version (``"18"``, ``"15"``), starting it when it is first asked for."""
    servers: dict[str, PostgresServer] = {}
    with contextlib.ExitStack() as running:

        def server_of(major: str) -> PostgresServer:
            if major not in servers:
                binaries = wheel_binaries() if major == "18" else DEBIAN_15
                servers[major] = running.enter_context(PostgresServer(binaries, fast=True))
                note(request.config, "PostgreSQL", servers[major].version)
            return servers[major]

        yield server_of


@pytest.fixture(scope="session")
def postgres18(postgres_server_of: ServerOf) -> PostgresServer:
    """PostgreSQL 18, for tests to which the version does not matter."""
    return postgres_server_of("18")


@pytest.fixture(scope="session", params=["18", "15"])
def postgres_server(request: pytest.FixtureRequest, postgres_server_of: ServerOf) -> PostgresServer:
    """Each PostgreSQL in turn. Tests that harm a server make a `PostgresServer` of their own."""
    if request.param == "15" and not DEBIAN_15.is_dir():
        message = f"no PostgreSQL 15 in {DEBIAN_15} (Debian: postgresql-15)"
        if os.environ.get("REQUIRE_POSTGRES_15") == "1":
            pytest.fail(f"REQUIRE_POSTGRES_15=1, but: {message}")
        pytest.skip(message)
    return postgres_server_of(request.param)


@pytest.fixture
def database(postgres_server: PostgresServer) -> Iterator[str]:
    """Give the DSN of an empty database of the test's own, on each PostgreSQL in turn."""
    with postgres_server.database() as dsn:
        yield dsn


@pytest.fixture
def database18(postgres18: PostgresServer) -> Iterator[str]:
    """Give the DSN of an empty database of the test's own, on PostgreSQL 18."""
    with postgres18.database() as dsn:
        yield dsn
