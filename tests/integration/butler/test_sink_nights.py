"""Nights fed as events to the running service, and a sink beside it: the registry has what DefineVisitsTask makes."""

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.integration.test_define_visits_kafka import CLOSING, instrument, wait_until_settled, wires
from tests.support.butler_repository import (
    register_exposures,
    register_instrument,
    registered_tables,
    repository,
)
from tests.support.commands import invoke
from tests.support.databases import ServerOf
from tests.support.define_visits import Night, load_night, night_names
from tests.support.kafka_broker import KafkaCluster
from tests.support.postgres import DEBIAN_15, PostgresServer
from tests.support.service import Replica, prepare_database, produce, settings_for
from tests.support.visit_rows import assert_tables
from tests.support.waiting import give_up_at

_DETECTORS = 9


def sink_settings(bootstrap: str, dsn: str, repo: str, night: Night, **butler: Any) -> dict[str, Any]:
    section = {"repository": repo, "http_port": 0, "interval_s": 0.1, "waiting_s": 0.2, "max_visits": 4}
    return settings_for(
        bootstrap,
        dsn,
        kafka={"topics": [f"butler-{night.name}"], "group": f"butler-{night.name}"},
        instruments=instrument(night),
        closing=CLOSING,
        butler={**section, **butler},
    )


def wait_for_visits(dsn: str, sink: str, number: int, *, timeout_s: float = 90) -> None:
    """Wait until the sink's position has passed so many visits."""
    deadline = give_up_at(timeout_s)
    with psycopg.connect(dsn, autocommit=True) as connection:
        while True:
            row = connection.execute(
                "SELECT count(*), count(*) FILTER (WHERE done.state <> 'written') FROM visits.visit "
                "JOIN visits.butler_sink_visit AS done ON (done.instrument, done.visit, done.revision) = "
                "(visit.instrument, visit.id, visit.revision) WHERE done.sink = %s",
                (sink,),
            ).fetchone()
            assert row is not None
            if row[0] == number:
                assert row[1] == 0
                return
            assert time.monotonic() < deadline, f"{row[0]} of {number} visits after {timeout_s} s"
            time.sleep(0.05)


def prepare(repo: str, night: Night, exposures: Sequence[Any]) -> str:
    name = str(night.config["instrument"])
    filters = [e.physical_filter or "unknown" for e in night.exposures]
    register_instrument(repo, name, filters, _DETECTORS)
    register_exposures(repo, exposures)
    return name


def assert_second_sink_writes_nothing(config: Path, dsn: str, repo: str, night: Night) -> None:
    """Run a sink of another name from position zero: everything is there, and no row of the registry is written."""
    before = _transactions(repo)
    result = invoke("butler-sink", "--repo", repo, "--name", "second", "--once", "--config", config)
    assert result.stderr.strip() == f"{len(night.tables['visit'])} same"
    assert _transactions(repo) == before
    wait_for_visits(dsn, "second", len(night.tables["visit"]), timeout_s=1)


def _transactions(repo: str) -> list[tuple[object, ...]]:
    """Return which transaction wrote each row of the registry."""
    config = (Path(repo) / "butler.yaml").read_text()
    dsn = next(line.split(": ", 1)[1] for line in config.splitlines() if "db: " in line).replace("+psycopg2", "")
    with psycopg.connect(dsn) as connection:
        return [
            row
            for table in ("visit", "visit_definition", "visit_system_membership", "visit_detector_region")
            for row in connection.execute(
                psycopg.sql.SQL("SELECT ctid::text, xmin::text FROM main.{} ORDER BY 1").format(
                    psycopg.sql.Identifier(table)
                )
            ).fetchall()
        ]


@pytest.mark.slow
@pytest.mark.parametrize("name", night_names())
def test_a_night_is_in_the_registry_as_the_task_makes_it(
    kafka: KafkaCluster, postgres_server_of: ServerOf, tmp_path: Path, name: str
) -> None:
    night = load_night(name)
    chance = random.Random(name)  # noqa: S311 -- a reproducible order, not a secret
    messages = wires(night, chance, scattered=False, n_partitions=1)
    early = set(chance.sample(range(len(night.exposures)), len(night.exposures) // 2))
    first = [e for n, e in enumerate(night.exposures) if n in early]
    if not DEBIAN_15.is_dir():
        pytest.skip(f"no PostgreSQL 15 in {DEBIAN_15} (Debian: postgresql-15)")
    server = postgres_server_of("15")
    with server.database(prepare_database) as dsn, repository(server, tmp_path / "repo") as repo:
        settings = sink_settings(kafka.bootstrap, dsn, repo, night)
        kafka.create_topic(settings["kafka"]["topics"][0], 1)
        own = prepare(repo, night, first)
        with Replica(tmp_path, settings), Replica(tmp_path, settings, name="sink", command=("butler-sink",)) as sink:
            sink.wait_for_line("sink started")
            produce(kafka.bootstrap, messages, settings["kafka"]["topics"][0])
            wait_until_settled(dsn, len(messages))
            sink.kill()
            sink.start()
            register_exposures(repo, [e for n, e in enumerate(night.exposures) if n not in early])
            wait_for_visits(dsn, "main", len(night.tables["visit"]))
            sink.wait_for_line("sink started")
            assert sink.terminate()[0] == 0
        assert_tables(registered_tables(repo, own), night)
        assert_second_sink_writes_nothing(sink.config, dsn, repo, night)


@pytest.mark.slow
def test_kills_and_restarts_leave_the_registry_as_it_should_be(
    kafka: KafkaCluster, postgres18: PostgresServer, tmp_path: Path
) -> None:
    night = load_night("lsstcomcam-one-to-one-and-by-counter-digits")
    night = Night(name="killed", config=night.config, exposures=night.exposures, tables=night.tables)
    chance = random.Random(17)  # noqa: S311 -- a reproducible order, not a secret
    messages = wires(night, chance, scattered=False, n_partitions=1)
    if not DEBIAN_15.is_dir():
        pytest.skip(f"no PostgreSQL 15 in {DEBIAN_15} (Debian: postgresql-15)")
    with (
        PostgresServer(DEBIAN_15, fast=True) as server,
        postgres18.database(prepare_database) as dsn,
        repository(server, tmp_path / "repo") as repo,
    ):
        settings = sink_settings(kafka.bootstrap, dsn, repo, night, max_visits=2)
        topic = settings["kafka"]["topics"][0]
        kafka.create_topic(topic, 1)
        own = prepare(repo, night, [])
        late = list(night.exposures)
        chance.shuffle(late)
        kills = 10
        with Replica(tmp_path, settings), Replica(tmp_path, settings, name="sink", command=("butler-sink",)) as sink:
            for number in range(kills):
                produce(kafka.bootstrap, messages[number::kills], topic)
                register_exposures(repo, late[number::kills])
                sink.wait_for_line("sink started")
                # Somewhere in its work: the moments differ from kill to kill.
                time.sleep(chance.uniform(0, 0.5))
                sink.kill()
                if number in {3, 6}:
                    server.restart()
                sink.start()
            wait_until_settled(dsn, len(messages))
            server.restart()
            wait_for_visits(dsn, "main", len(night.tables["visit"]))
            sink.wait_for_line("sink started")
            assert sink.terminate()[0] == 0
        assert_tables(registered_tables(repo, own), night)
        assert_second_sink_writes_nothing(sink.config, dsn, repo, night)
