"""The service itself on Apache Kafka: every reference night, partitions 1, 3 and 8, one replica and three.

The runs share one broker, and those of one file one set of replicas: a run is a topic and a consumer group of its own.
"""

import contextlib
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from consumer.events import encode
from consumer.model import RawIngested
from tests.support.define_visits import Night, load_night, night_names
from tests.support.exposures import exposure
from tests.support.kafka_broker import KafkaCluster
from tests.support.night_rows import assert_rows_of
from tests.support.nights import raws_of
from tests.support.postgres import PostgresServer
from tests.support.service import Replica, Wire, prepare_database, produce, settings_for
from tests.support.waiting import give_up_at

LAYOUTS = ((1, 1), (3, 1), (3, 3), (8, 3))
"""Partitions and replicas."""
RUNS = [(name, *layout) for name in night_names() for layout in LAYOUTS]
# Each night once, and each layout; the others are run on demand
_AT_ONCE = {(name, *LAYOUTS[-1 - number % len(LAYOUTS)]) for number, name in enumerate(night_names())}
CLOSING = {"next_group_grace_s": 0.2, "close_after_s": 1.0, "max_open_s": 60}


def instrument(night: Night) -> dict[str, Any]:
    config = night.config
    return {
        config["instrument"]: {
            "camera": config["camera"].removesuffix(".json"),
            "group_exposures": config["group_exposures"],
            "group_id": config["group_id"],
            "regions": {"padding": config["padding"], "merge_exposures": config["merge_exposures"]},
        }
    }


def wires(night: Night, chance: random.Random, *, scattered: bool, n_partitions: int) -> list[Wire]:
    """Encode the raws of a night in an order of chance, with repeats; keyed by group, or scattered."""
    raws = [raw for one in night.exposures for raw in raws_of([one], *chance.sample(range(9), chance.randint(1, 3)))]
    raws += chance.choices(raws, k=len(raws) // 4)
    chance.shuffle(raws)
    return [
        Wire(
            encode(raw),
            f"{raw.exposure.instrument}/{raw.exposure.group}".encode(),
            partition=chance.randrange(n_partitions) if scattered else -1,
        )
        for raw in raws
    ]


def wait_until_settled(dsn: str, n_messages: int, *, timeout_s: float = 60) -> None:
    """Wait until every message is dealt with and every group is closed."""
    deadline = give_up_at(timeout_s)
    with psycopg.connect(dsn, autocommit=True) as connection:
        while True:
            row = connection.execute(
                "SELECT (SELECT coalesce(sum(next_offset), 0) FROM visits.consumer_offset), "
                "(SELECT count(*) FROM visits.open_group)"
            ).fetchone()
            assert row is not None
            if int(str(row[0])) == n_messages and row[1] == 0:
                return
            assert time.monotonic() < deadline, f"read and open after {timeout_s} s: {row}; expected {n_messages}, 0"
            time.sleep(0.1)


@contextlib.contextmanager
def replicas(folder: Path, settings: dict[str, Any], number: int) -> Iterator[list[Replica]]:
    with contextlib.ExitStack() as running:
        yield [running.enter_context(Replica(folder, settings, name=f"replica-{n}")) for n in range(number)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "n_partitions", "n_replicas"),
    [each if each in _AT_ONCE else pytest.param(*each, marks=pytest.mark.long) for each in RUNS],
)
def test_a_night_on_kafka_gives_the_rows_of_the_task(
    kafka: KafkaCluster, postgres18: PostgresServer, tmp_path: Path, name: str, n_partitions: int, n_replicas: int
) -> None:
    night = load_night(name)
    chance = random.Random(f"{name}/{n_partitions}/{n_replicas}")  # noqa: S311 -- a reproducible run, not a secret
    topic = f"night-{RUNS.index((name, n_partitions, n_replicas))}"
    kafka.create_topic(topic, n_partitions)
    messages = wires(night, chance, scattered=n_replicas > 1, n_partitions=n_partitions)
    with postgres18.database(prepare_database) as dsn:
        settings = settings_for(
            kafka.bootstrap,
            dsn,
            kafka={"topics": [topic], "group": topic},
            instruments=instrument(night),
            closing=CLOSING,
            batch={"max_messages": chance.choice([3, 20, 500])},
        )
        # One half is there already, the other comes while replicas join one after the other
        produce(kafka.bootstrap, messages[::2], topic)
        with replicas(tmp_path, settings, n_replicas):
            produce(kafka.bootstrap, messages[1::2], topic)
            wait_until_settled(dsn, len(messages))
        assert_rows_of(night, dsn)


@pytest.mark.slow
def test_a_replica_that_was_frozen_closes_nothing_whose_raws_wait_in_the_log(
    kafka: KafkaCluster, postgres18: PostgresServer, tmp_path: Path
) -> None:
    kafka.create_topic("frozen", 1)
    one, two = exposure(1, group="7"), exposure(2, group="7")
    with postgres18.database(prepare_database) as dsn:
        settings = settings_for(
            kafka.bootstrap,
            dsn,
            kafka={"topics": ["frozen"], "group": "frozen", "session_timeout_s": 30},
            instruments={"LSSTComCam": {"group_exposures": "by-group-metadata", "group_id": "digits"}},
            closing={"close_after_s": 5.0, "max_open_s": 3600},
        )
        with Replica(tmp_path, settings) as replica:
            replica.wait_for_line("partition claimed")
            produce(kafka.bootstrap, [Wire(encode(RawIngested(exposure=one, detector=0)))], "frozen")
            _wait_for_exposures(dsn, 1)
            replica.signal(signal.SIGSTOP)
            time.sleep(1.5)  # the fetch that was under way ends without a message
            produce(kafka.bootstrap, [Wire(encode(RawIngested(exposure=two, detector=0)))], "frozen")
            time.sleep(4.0)
            replica.signal(signal.SIGCONT)
            wait_until_settled(dsn, 2)
        with psycopg.connect(dsn) as connection:
            rows = connection.execute("SELECT id, revision, seq_num, close_reason FROM visits.visit").fetchall()
    # Read once the process goes on, the second exposure is stamped a second after the first: nothing was idle so long.
    assert rows == [(7, 1, one.seq_num, "idle")]


def _wait_for_exposures(dsn: str, number: int) -> None:
    deadline = give_up_at(30)
    with psycopg.connect(dsn, autocommit=True) as connection:
        while connection.execute("SELECT count(*) FROM visits.exposure").fetchone() != (number,):
            assert time.monotonic() < deadline
            time.sleep(0.05)
