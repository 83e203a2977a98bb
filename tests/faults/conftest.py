"""One oracle for all faults, and the table of them at the end of a run.

A case gets a `Scene`: a topic of its own on real Kafka, a database of its own, and, where it asks for them, proxies
before both. It harms something while a stream is read; then `Scene.judge` waits for the end of the log and holds the
tables to a pure replay of it, every offset to be a row's or a dead letter's, and every stored position to have moved
forward only.
"""

import contextlib
import itertools
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from tests.support.exposures import exposure
from tests.support.jars import JarsUnavailableError
from tests.support.kafka_broker import KafkaCluster
from tests.support.postgres import PostgresServer, wheel_binaries
from tests.support.proxy import Proxy
from tests.support.service import Replica, Wire, prepare_database, produce, raws_of, settings_for
from tests.support.summary import note, note_missing_kafka
from tests.support.tables import (
    assert_every_offset_is_explained,
    assert_no_way_back,
    difference,
    names_of_logs,
    read_log,
    replay,
    snapshot,
    stored_positions,
    watch_positions,
)

_numbers = itertools.count(1)


class Line(NamedTuple):
    """One case in the table."""

    case: str
    events: int
    recovery_s: float
    lost: int
    doubled: int


_LINES = pytest.StashKey[list[Line]]()


def night(first: int, last: int, detectors: int = 20, **changes: Any) -> list[Wire]:
    """Make raws of exposures ``first..last`` of LSSTCam."""
    return raws_of([exposure(n, instrument="LSSTCam", **changes) for n in range(first, last + 1)], range(detectors))


@dataclass
class Scene:
    """What one case works with."""

    case: str
    kafka: KafkaCluster
    server: PostgresServer
    dsn: str
    folder: Path
    config: pytest.Config
    topic: str
    database_proxy: Proxy
    broker_proxy: Proxy | None
    settings: dict[str, Any] = field(default_factory=dict)
    harmed_s: float | None = None
    """When the fault was over, of a monotonic clock."""

    def configure(self, **sections: Mapping[str, Any]) -> dict[str, Any]:
        """Make the service's settings: through the database's proxy, with short timings, and what is given."""
        kafka = {"topics": [self.topic], "group": self.topic, "session_timeout_s": 2, **sections.pop("kafka", {})}
        self.settings = settings_for(
            self.bootstrap,
            self.server.dsn(self.dsn.rpartition("/")[2], port=self.database_proxy.port),
            kafka=kafka,
            **{"batch": {"max_messages": 100}, **sections},
        )
        return self.settings

    @property
    def bootstrap(self) -> str:
        """How the service reaches Kafka: through the proxy, where there is one."""
        return self.kafka.bootstrap_of("PROXIED" if self.broker_proxy is not None else "PLAINTEXT")

    def replica(self, name: str = "replica", **sections: Mapping[str, Any]) -> Replica:
        """Make a replica that is not started yet."""
        return Replica(self.folder, self.configure(**sections), name=name)

    def produce(self, messages: Sequence[Wire]) -> None:
        """Append to the topic, past the proxy."""
        produce(self.kafka.bootstrap, messages, self.topic)

    def connect(self) -> "psycopg.Connection[tuple[Any, ...]]":
        """Connect to the database, past the proxy, as the superuser."""
        return psycopg.connect(self.dsn)

    def read(self) -> int:
        """Sum the stored positions."""
        return sum(offset or 0 for offset in stored_positions(self.dsn).values())

    def until(self, replica: Replica, number: int, timeout_s: float = 60) -> None:
        """Wait until so many messages are dealt with."""
        replica.wait_until(lambda: self.read() >= number, what=f"{number} messages", timeout_s=timeout_s)

    def until_waiting(self, replica: Replica, kind: str = "Lock") -> None:
        """Wait until the service's session waits inside PostgreSQL."""

        def waits() -> bool:
            with self.connect() as connection:
                rows = connection.execute(
                    """
                    SELECT 1 FROM pg_stat_activity
                    WHERE application_name LIKE 'visit-consumer%%' AND wait_event_type = %s AND datname = %s
                    """,
                    [kind, self.dsn.rpartition("/")[2]],
                ).fetchall()
            return bool(rows)

        replica.wait_until(waits, what=f"a session that waits for a {kind}")

    def harmed(self) -> None:
        """Note that the fault is over: from here on the seconds to recover are counted."""
        self.harmed_s = time.monotonic()

    def tell(self, events: int) -> None:
        """Add the case's line to the table, where the case has judged by itself that nothing is lost or doubled."""
        recovery_s = 0.0 if self.harmed_s is None else time.monotonic() - self.harmed_s
        self.config.stash.setdefault(_LINES, []).append(Line(self.case, events, recovery_s, 0, 0))

    def judge(self, replica: Replica, *, timeout_s: float = 90, dead_letters: int = 0) -> None:
        """Wait for the end of the log, and hold everything to the oracle; adds the case's line to the table."""
        messages, ends = read_log(self.kafka.bootstrap, self.topic)
        wanted = {partition.partition: end for partition, end in ends.items()}
        replica.wait_until(
            lambda: stored_positions(self.dsn) == wanted, what=f"positions {wanted}", timeout_s=timeout_s
        )
        recovery_s = 0.0 if self.harmed_s is None else time.monotonic() - self.harmed_s
        with self.server.database(prepare_database) as calm:
            replay(self.kafka.bootstrap, calm, self.settings, names_of_logs(self.dsn), self.topic)
            found, expected = snapshot(self.dsn), snapshot(calm)
        result = difference(found, expected)
        line = Line(self.case, len(messages), recovery_s, result.lost, result.doubled)
        self.config.stash.setdefault(_LINES, []).append(line)
        assert not result.example
        assert found == expected
        assert len(found["dead_letter"]) == dead_letters
        assert len(found["visit"]) > 0
        assert_no_way_back(self.dsn)
        assert_every_offset_is_explained(self.dsn, self.kafka.bootstrap, self.topic)


@pytest.fixture(scope="session")
def proxied_kafka(request: pytest.FixtureRequest) -> Iterator[tuple[KafkaCluster, Proxy]]:
    """One broker of the faults' own, with a listener that is only reached through a proxy."""
    try:
        cluster = KafkaCluster(1, listeners={"PROXIED": "PLAINTEXT"})
    except JarsUnavailableError as error:
        note_missing_kafka(request.config, str(error))
        if os.environ.get("REQUIRE_APACHE_KAFKA") == "1":
            pytest.fail(f"REQUIRE_APACHE_KAFKA=1, but: {error}")
        pytest.skip(f"no Apache Kafka: {error}")
    with Proxy(cluster.brokers[0].ports["PROXIED"]) as proxy:
        cluster.brokers[0].advertised["PROXIED"] = f"127.0.0.1:{proxy.port}"
        with cluster:
            note(request.config, "brokers", f"Apache Kafka {cluster.version}")
            yield cluster, proxy


@pytest.fixture(scope="session")
def faulty_postgres() -> Iterator[PostgresServer]:
    """One PostgreSQL 18 of the faults' own, which they may restart."""
    with PostgresServer(wheel_binaries(), fast=True) as server:
        yield server


@pytest.fixture
def scene(
    request: pytest.FixtureRequest,
    proxied_kafka: tuple[KafkaCluster, Proxy],
    faulty_postgres: PostgresServer,
    tmp_path: Path,
) -> Iterator[Scene]:
    """Set the scene of one case: a topic of 4 partitions, a watched database, proxies before both."""
    cluster, broker_proxy = proxied_kafka
    topic = f"fault-{next(_numbers)}"
    cluster.create_topic(topic)
    with contextlib.ExitStack() as stack:
        dsn = stack.enter_context(faulty_postgres.database(prepare_database))
        proxy = stack.enter_context(Proxy(faulty_postgres.port))
        watch_positions(dsn)
        name = request.node.name.removeprefix("test_").replace("_", " ")
        scene = Scene(name, cluster, faulty_postgres, dsn, tmp_path, request.config, topic, proxy, broker_proxy)
        scene.configure()
        yield scene
        broker_proxy.heal()
        for broker in cluster.brokers:
            if not broker.running:
                broker.start()
        if not faulty_postgres.running:
            faulty_postgres.start()


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print one line for each case."""
    lines = config.stash.get(_LINES, [])
    if lines:
        terminalreporter.section("faults")
        terminalreporter.write_line(f"{'case':<62}{'events':>7}{'recovery':>10}{'lost':>6}{'doubled':>8}")
        for line in sorted(lines):
            terminalreporter.write_line(
                f"{line.case:<62}{line.events:>7}{line.recovery_s:>8.1f} s{line.lost:>6}{line.doubled:>8}"
            )
