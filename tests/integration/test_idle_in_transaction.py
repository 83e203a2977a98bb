"""PostgreSQL ends a session that is frozen between two requests of its transaction, whichever request was the last."""

import time
from collections.abc import Callable, Iterator

import pytest

from consumer.config import DatabaseSettings
from consumer.errors import TransientError
from consumer.postgres.connection import Database, Session
from consumer.postgres.row_codecs import detector_copy_data
from tests.support.nights import prepare
from tests.support.postgres import PostgresServer

IDLE_S = 0.2


def _one(session: Session) -> None:
    session.rows("session", "backend")


def _together(session: Session) -> None:
    session.run_later("session", "backend")
    session.rows("session", "backend")


def _savepoint(session: Session) -> None:
    with session.savepoint():
        session.rows("session", "backend")


def _stream(session: Session) -> None:
    for _ in session.stream("positions", "list_positions", {}, at_once=1):
        pass


def _copy(session: Session) -> None:
    session.copy("batch", "copy_detector_regions", detector_copy_data([]))


REQUESTS: list[Callable[[Session], None]] = [_one, _together, _savepoint, _stream, _copy]


@pytest.fixture
def database(postgres18: PostgresServer) -> Iterator[Database]:
    with postgres18.database(prepare) as dsn:
        settings = DatabaseSettings.model_validate({"conninfo": dsn, "idle_in_transaction_timeout_s": IDLE_S})
        with Database(settings) as made:
            yield made


@pytest.mark.parametrize("request_of", REQUESTS, ids=lambda each: each.__name__.strip("_"))
@pytest.mark.parametrize("known", [False, True], ids=["at-first", "prepared"])
def test_a_session_that_is_frozen_is_ended(
    database: Database, request_of: Callable[[Session], None], known: bool
) -> None:
    if known:
        with database.transaction() as session:
            request_of(session)
    with pytest.raises(TransientError, match="25P03"):
        _freeze_after(database, request_of)


def _freeze_after(database: Database, request_of: Callable[[Session], None]) -> None:
    with database.transaction() as session:
        request_of(session)
        time.sleep(4 * IDLE_S)
        session.rows("session", "backend")
