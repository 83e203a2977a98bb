"""The circuit breaker: a topic full of what is no event stops the reader, and waits for an operator's word."""

import re
from pathlib import Path

import psycopg
import yaml
from click.testing import CliRunner

from consumer.cli import main
from tests.support.brokers import Broker, MockBroker
from tests.support.exposures import exposure
from tests.support.postgres import PostgresServer
from tests.support.service import Replica, Wire, prepare_database, produce, raws_of, settings_for


def letters(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT count(*) FROM visits.dead_letter").fetchone()
    assert row is not None
    return int(row[0])


def visits(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT count(*) FROM visits.visit").fetchone()
    assert row is not None
    return int(row[0])


def test_a_flood_of_bad_messages_is_not_set_aside_until_an_operator_accepts_it(
    mock_broker: MockBroker, postgres18: PostgresServer, tmp_path: Path
) -> None:
    broker: Broker = mock_broker
    topic = "breaker"
    broker.create_topic(topic)
    good = [wire._replace(partition=0) for wire in raws_of([exposure(1)], range(9))]
    bad = [Wire(b"not an event %d" % number, partition=0) for number in range(300)]
    produce(broker.bootstrap, good, topic)
    with postgres18.database(prepare_database) as dsn:
        settings = settings_for(broker.bootstrap, dsn, kafka={"topics": [topic], "group": topic})
        config = tmp_path / "operator.yaml"
        config.write_text(yaml.safe_dump(settings), encoding="utf-8")
        with Replica(tmp_path, settings) as replica:
            replica.wait_until(lambda: visits(dsn) == 1, what="the good exposure")
            produce(broker.bootstrap, bad, topic)
            replica.wait_for_line("the circuit breaker opens")
            replica.wait_until(lambda: replica.get("/readyz").status == 503, what="unready")
            assert replica.metric("visit_consumer_breaker_open") == 1
            assert letters(dsn) == 0
            assert replica.get("/healthz").status == 200
            replica.kill()
            replica.start()
            replica.wait_until(
                lambda: replica.metric("visit_consumer_lag_messages") == len(bad), what="what the stopped are behind"
            )

            shown = CliRunner().invoke(main, ["breaker", "show", "--config", str(config), "--output", "json"])
            assert shown.exit_code == 0, shown.output
            # As many as came with one poll, and the good ones before them count as well.
            told = re.search(r"\b(\d+) of \1 messages are bad", shown.output)
            assert told is not None, shown.output
            assert 100 - len(good) <= int(told[1]) <= len(bad)

            done = CliRunner().invoke(main, ["breaker", "reset", "--accept", "--config", str(config)])
            assert done.exit_code == 0, done.output
            replica.wait_until(lambda: letters(dsn) == 300, what="the dead letters", timeout_s=40)
            replica.wait_until(lambda: replica.get("/readyz").status == 200, what="ready")
            assert replica.metric("visit_consumer_breaker_open") == 0
