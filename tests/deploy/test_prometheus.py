"""Prometheus itself on a running consumer: every alert fires by a real fault, every query of both boards gives data."""

import re
from collections.abc import Iterator

import psycopg
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from psycopg import sql

from consumer.config import DatabaseSettings
from consumer.postgres.connection import Database
from consumer.postgres.migrate import migrate
from tests.deploy.boards import expressions, sql_queries
from tests.deploy.night_with_faults import Observed, WatchedNight
from tests.deploy.prometheus_server import RULES, program
from tests.support.brokers import MockBroker
from tests.support.exposures import DAY_OBS
from tests.support.postgres import PostgresServer, wheel_binaries

pytestmark = pytest.mark.slow

EMPTY: dict[tuple[str, str], str] = {
    ("Errors of PostgreSQL", "A"): "only classes that occurred are drawn, and a frozen server answers without an error",
}
"""Expressions of the board that rightly give nothing in this night, and why."""
NOT_SHOWN: dict[str, str] = {
    "python_gc_collections": "the runtime's own, of use to a developer with a profiler, not to an operator",
    "python_gc_objects_collected": "as python_gc_collections",
    "python_gc_objects_uncollectable": "as python_gc_collections",
    "python_info": "the image says which Python it has",
    "process_virtual_memory_bytes": "resident memory is what a limit counts",
}
"""Metrics on no board, and why."""


@pytest.fixture(scope="module")
def frozen_postgres() -> Iterator[PostgresServer]:
    """Give a server of this module's own, because it is frozen for a while."""
    with PostgresServer(wheel_binaries(), fast=True) as server:
        yield server


@pytest.fixture(scope="module")
def dsn(frozen_postgres: PostgresServer) -> Iterator[str]:
    with frozen_postgres.database() as found:
        database = Database(DatabaseSettings.model_validate({"conninfo": found}), application_name="test")
        migrate(database)
        database.close()
        yield found


@pytest.fixture(scope="module")
def observed(
    tmp_path_factory: pytest.TempPathFactory, mock_broker: MockBroker, frozen_postgres: PostgresServer, dsn: str
) -> Observed:
    """Run the night once for all tests of this module: about a minute and a half."""
    program("prometheus")
    return WatchedNight(tmp_path_factory.mktemp("watched"), mock_broker, frozen_postgres, dsn).run()


@pytest.fixture
def reader(observed: Observed, frozen_postgres: PostgresServer, dsn: str) -> Iterator["psycopg.Connection[object]"]:
    """Connect as a role that may read the tables, and nothing else."""
    assert observed.fired
    name = dsn.rpartition("/")[2]
    role = sql.Identifier("board_reader")
    with frozen_postgres.connect(name) as owner:
        if not owner.execute("SELECT 1 FROM pg_roles WHERE rolname = 'board_reader'").fetchone():
            owner.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
        owner.execute(sql.SQL("GRANT USAGE ON SCHEMA visits TO {}").format(role))
        owner.execute(sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA visits TO {}").format(role))
    with psycopg.connect(frozen_postgres.dsn(name, user="board_reader"), autocommit=True) as connection:
        yield connection


def alert_names() -> set[str]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}


def rule_expressions() -> list[str]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]


def names_in(text: str) -> set[str]:
    """Return the metrics that an expression reads; recorded ones have a colon in their names."""
    return {name for name in re.findall(r"\b(?:visit_consumer|process|python)[_:][\w:]+", text) if ":" not in name}


def exposed(observed: Observed) -> dict[str, set[str]]:
    """Return the names of the samples of each family in ``/metrics``."""
    return {
        family.name: {sample.name for sample in family.samples} | {family.name}
        for family in text_string_to_metric_families(observed.metrics)
    }


def test_nothing_fires_while_nothing_is_wrong(observed: Observed) -> None:
    assert observed.alerts_when_quiet == set()


def test_every_alert_fires_by_a_real_fault(observed: Observed) -> None:
    assert observed.fired == alert_names()


def test_rules_are_evaluated_without_errors(observed: Observed) -> None:
    assert observed.rule_errors == []
    assert [name for name, result in observed.recorded.items() if not result] == []


def test_every_expression_of_the_board_gives_data(observed: Observed) -> None:
    assert observed.results.keys() == expressions().keys()
    empty = {key for key, result in observed.results.items() if not result}
    assert empty <= EMPTY.keys()  # on a loaded machine, what is rare may happen
    broken = {key for key, result in observed.results.items() if any(each["value"][1] == "NaN" for each in result)}
    assert broken <= {key for key in broken if "quantile" in expressions()[key]}, "a number that is none"


def test_every_name_on_a_board_or_in_a_rule_is_exposed(observed: Observed) -> None:
    known = set().union(*exposed(observed).values())
    used = set().union(*(names_in(text) for text in [*expressions().values(), *rule_expressions()]))
    assert used
    assert used - known == set()


def test_every_metric_is_on_the_board_or_has_a_reason_not_to_be(observed: Observed) -> None:
    shown = set().union(*(names_in(text) for text in expressions().values()))
    hidden = {
        family
        for family, samples in exposed(observed).items()
        if not shown & (samples | {f"{family}_total"}) and not family.endswith("_created")
    }
    assert hidden == NOT_SHOWN.keys()


def test_every_query_of_the_night_gives_rows_to_the_reader(reader: "psycopg.Connection[object]") -> None:
    queries = sql_queries(schema="visits", night=DAY_OBS, instruments=["LATISS", "LSSTCam", "LSSTComCam"])
    assert len(queries) > 15
    empty = [name for name, text in queries.items() if not reader.execute(text.encode()).fetchall()]
    assert empty == []


def test_an_empty_choice_gives_no_rows_and_no_error(reader: "psycopg.Connection[object]") -> None:
    queries = sql_queries(schema="visits", night=0, instruments=[])
    for name, text in queries.items():
        rows = reader.execute(text.replace("'0'", "''").encode()).fetchall()
        assert len(rows) <= 1 or "dead letter" in name or name == "variable night", name


def test_the_reader_cannot_write(reader: "psycopg.Connection[object]") -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader.execute("DELETE FROM visits.visit")
