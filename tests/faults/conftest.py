"""One oracle for all faults, and the table of them at the end of a run.

A case gets a `Scene`: a topic of its own on real Kafka, a database of its own, and, where it asks for them, proxies
before both. It harms something while a stream is read; then `Scene.judge` waits for the end of the log and holds the
tables to a pure replay of it, every offset to be a row's or a dead letter's, and every stored position to have moved
forward only. `set_scene` sets the same scene on servers that a case has made for itself; a case that has no scene adds
its line by the fixture `faults_table`.
"""

import contextlib
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.brokers import skips_without_kafka
from tests.support.exposures import exposure
from tests.support.faults_table import FaultsTable
from tests.support.kafka_broker import KafkaCluster
from tests.support.postgres import PostgresServer, wheel_binaries
from tests.support.proxy import Proxy
from tests.support.service import INSTRUMENTS, Replica, Wire, prepare_database, produce, raws_of, settings_for
from tests.support.summary import note
from tests.support.tables import (
    Log,
    assert_every_offset_is_explained,
    assert_no_way_back,
    difference,
    log_of,
    replay,
    snapshot,
    stored_positions,
    watch_positions,
)

_numbers = itertools.count(1)


def night(first: int, last: int, detectors: int = 20, **changes: Any) -> list[Wire]:
    """Make raws of exposures ``first..last`` of LSSTCam."""
    return raws_of([exposure(n, instrument="LSSTCam", **changes) for n in range(first, last + 1)], range(detectors))


def refusals(replica: Replica) -> dict[str, str]:
    """Give why partitions are not read for good, by name; brokers that cannot be asked just now are a warning."""
    lines = replica.lines("partition cannot be read")
    return {str(line["partition"]): line["detail"] for line in lines if line["level"] == "error"}


def wait_until_it_lets_go(replica: Replica) -> None:
    """Wait until a replica that was frozen has let its partitions go.

    Whether they are *lost* or *revoked* is a race inside librdkafka: the coordinator's answer says the one, its own
    session timer the other, and both are late by then.
    """
    replica.wait_until(
        lambda: bool(replica.lines("partitions lost") or replica.lines("partitions revoked")), what="no partition"
    )


def assert_undisturbed(replica: Replica) -> None:
    """Hold a replica to have kept its partitions, and to have claimed each of the 4 once."""
    assert not replica.lines("partitions lost")
    assert not replica.lines("partitions revoked")
    assert len(replica.lines("partition claimed")) == 4


@dataclass
class Scene:
    """What one case works with."""

    table: FaultsTable
    kafka: KafkaCluster
    server: PostgresServer
    dsn: str
    folder: Path
    topic: str
    database_proxy: Proxy
    broker_proxy: Proxy | None
    settings: dict[str, Any] = field(default_factory=dict)
    harmed_s: float | None = None
    """When the fault was over, of a monotonic clock."""
    replicas: list[Replica] = field(default_factory=list)
    """Made here; those that still run when the case ends are killed."""

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
        return self.replica_of(self.configure(**sections), name)

    def replica_of(self, settings: dict[str, Any], name: str = "replica") -> Replica:
        """Make a replica of the case's own settings, which the oracle goes by from then on."""
        self.settings = settings
        self.replicas.append(Replica(self.folder, settings, name=name))
        return self.replicas[-1]

    def replica_by_default(self, name: str = "replica") -> Replica:
        """Make a replica of the default settings: no timing is shortened for the test, no proxy is in between."""
        kafka = {"bootstrap_servers": self.kafka.bootstrap, "topics": [self.topic], "group": self.topic}
        database = {"conninfo": self.dsn}
        return self.replica_of(
            {"kafka": kafka, "database": database, "instruments": INSTRUMENTS, "http": {"port": 0}}, name
        )

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

    def until_waiting(self, replica: Replica, kind: str = "Lock", number: int = 1) -> None:
        """Wait until so many of the services' sessions wait inside PostgreSQL."""

        def waits() -> bool:
            with self.connect() as connection:
                rows = connection.execute(
                    """
                    SELECT 1 FROM pg_stat_activity
                    WHERE application_name LIKE 'visit-consumer%%' AND wait_event_type = %s AND datname = %s
                    """,
                    [kind, self.dsn.rpartition("/")[2]],
                ).fetchall()
            return len(rows) >= number

        replica.wait_until(waits, what=f"{number} sessions that wait for a {kind}")

    def harmed(self) -> None:
        """Note that the fault is over: from here on the seconds to recover are counted."""
        self.harmed_s = time.monotonic()

    @property
    def since_harmed_s(self) -> float | None:
        """Seconds since the fault was over; None while it is not, or where nothing was healed."""
        return None if self.harmed_s is None else time.monotonic() - self.harmed_s

    def tell(self, events: int) -> None:
        """Add the case's line to the table, where the case has judged by itself that nothing is lost or doubled."""
        self.table.add(events, self.since_harmed_s)

    def log(self) -> Log:
        """Read the topic as it is now; the service must have claimed it."""
        return log_of(self.dsn, self.kafka.bootstrap, self.topic)

    def judge(
        self,
        replica: Replica,
        *,
        timeout_s: float = 90,
        dead_letters: int = 0,
        recovery_s: float | None = None,
        gone: Sequence[Log] = (),
        clock_ms: int | None = None,
    ) -> None:
        """Wait for the end of the log, and hold everything to the oracle; adds the case's line to the table.

        Parameters
        ----------
        replica
            Has to live until the end of the log is reached.
        timeout_s
            For that.
        dead_letters
            How many the log must have made.
        recovery_s
            For the line, where a case measures something else than the time from `harmed` to the end of the log.
        gone
            What the brokers have no more, but had when it was read.
        clock_ms
            For `replay`.
        """
        wanted = self.kafka.ends(self.topic)
        replica.wait_until(
            lambda: stored_positions(self.dsn) == wanted, what=f"positions {wanted}", timeout_s=timeout_s
        )
        recovery_s = self.since_harmed_s if recovery_s is None else recovery_s
        logs = [*gone, self.log()]
        with self.server.database(prepare_database) as calm:
            replay(calm, self.settings, logs, clock_ms=clock_ms)
            found, expected = snapshot(self.dsn), snapshot(calm)
        result = difference(found, expected)
        self.table.add(sum(len(log.messages) for log in logs), recovery_s, lost=result.lost, doubled=result.doubled)
        assert not result.example
        assert found == expected
        assert len(found["dead_letter"]) == dead_letters
        assert len(found["visit"]) > 0
        assert_no_way_back(self.dsn)
        assert_every_offset_is_explained(self.dsn, self.settings, logs)


@pytest.fixture(scope="session")
def proxied_kafka(request: pytest.FixtureRequest) -> Iterator[tuple[KafkaCluster, Proxy]]:
    """One broker of the faults' own, with a listener that is only reached through a proxy."""
    with skips_without_kafka(request.config):
        cluster = KafkaCluster(1, listeners={"PROXIED": "PLAINTEXT"})
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


@contextlib.contextmanager
def set_scene(
    table: FaultsTable,
    kafka: KafkaCluster,
    server: PostgresServer,
    folder: Path,
    broker_proxy: Proxy | None = None,
    *,
    replication: int = 1,
) -> Iterator[Scene]:
    """Set the scene of one case: a topic of 4 partitions, a watched database, a proxy before PostgreSQL.

    Parameters
    ----------
    table
        For the case's line.
    kafka, server
        Run again afterwards, if the case has ended or frozen them.
    folder
        Of the case's own.
    broker_proxy
        Before the cluster's listener ``PROXIED``; None: the service reaches the brokers directly.
    replication
        Of the topic.
    """
    topic = f"fault-{next(_numbers)}"
    kafka.create_topic(topic, replication=replication)
    with contextlib.ExitStack() as stack:
        dsn = stack.enter_context(server.database(prepare_database))
        proxy = stack.enter_context(Proxy(server.port))
        watch_positions(dsn)
        scene = Scene(table, kafka, server, dsn, folder, topic, proxy, broker_proxy)
        scene.configure()
        try:
            yield scene
        finally:
            for replica in scene.replicas:
                replica.kill()
            if broker_proxy is not None:
                broker_proxy.heal()
            for broker in kafka.brokers:
                broker.resume() if broker.running else broker.start()
            server.resume() if server.running else server.start()


@pytest.fixture
def faults_table(request: pytest.FixtureRequest) -> FaultsTable:
    """Where a case without a `Scene` adds its line."""
    return FaultsTable(request.node)


@pytest.fixture
def scene(
    faults_table: FaultsTable,
    proxied_kafka: tuple[KafkaCluster, Proxy],
    faulty_postgres: PostgresServer,
    tmp_path: Path,
) -> Iterator[Scene]:
    """Set the scene of one case on the faults' own servers, with proxies before both."""
    kafka, broker_proxy = proxied_kafka
    with set_scene(faults_table, kafka, faulty_postgres, tmp_path, broker_proxy) as scene:
        yield scene
