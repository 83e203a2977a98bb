"""A migrated database for each test of a command."""

from collections.abc import Iterator

import pytest

from tests.support.postgres import PostgresServer
from tests.support.service import prepare_database


@pytest.fixture
def dsn(postgres18: PostgresServer) -> Iterator[str]:
    """Give the DSN of a database with empty tables."""
    with postgres18.database(prepare_database) as name:
        yield name
