"""What is harmed: brokers, a database, a few replicas with proxies before both, and an operator's commands."""

import contextlib
import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import yaml
from confluent_kafka import Producer

from consumer.domain.redefinition import ChangeKind
from tests.chaos.stream import INSTRUMENTS, PARTITIONS, Stream
from tests.support.commands import invoke_json
from tests.support.kafka_broker import KafkaCluster
from tests.support.postgres import PostgresServer, wheel_binaries
from tests.support.proxy import Proxy
from tests.support.service import Replica, prepare_database, settings_for
from tests.support.tables import stored_positions, watch_positions

TOPIC, ANNOUNCED = "raw-ingested", "visit-defined"
MOST, FEWEST = 4, 2
"""Replicas."""
_PATIENCE_S = 600
"""For whatever must happen in the end, on a machine that is busy with other things."""
_ENDS_S = 60
_REDEFINITIONS = 10
BROKERS = "brokers"
"""The name under which frozen brokers wait to be mended."""


class Stage:
    """Everything that runs, and what has been done to it that is not mended yet.

    Parameters
    ----------
    seed
        An odd one runs the replicas with the group protocol of KIP-848.
    folder
        For settings and logs.
    kafka, broker_proxy
        One broker, and the proxy before its listener ``PROXIED``.
    server, dsn
        PostgreSQL, and a migrated database.
    proxies
        Before PostgreSQL, one for each replica.

    Attributes
    ----------
    up
        The replicas that must be running now.
    set_to
        Offsets to which positions were set, one for each time.
    replayed
        Dead letters that were produced again.
    unfinished
        Instruments and nights in which exposures kept changing while they were redefined.
    """

    def __init__(
        self,
        seed: int,
        folder: Path,
        kafka: KafkaCluster,
        broker_proxy: Proxy,
        server: PostgresServer,
        dsn: str,
        proxies: list[Proxy],
    ) -> None:
        self.seed, self.kafka, self.server, self.dsn = seed, kafka, server, dsn
        self.broker_proxy, self.proxies = broker_proxy, proxies
        self.paddings = dict.fromkeys(INSTRUMENTS, 250)
        self.group, self.n_groups, self.n_partitions = "chaos-1", 1, PARTITIONS
        self.up: set[int] = set()
        self.set_to: list[int] = []
        self.replayed = 0
        self.unfinished: set[tuple[str, int]] = set()
        self._protocol = "consumer" if seed % 2 else "classic"
        self._folder = folder
        self._mends: dict[str, tuple[float, Callable[[], object]]] = {}
        self._replicas: list[Replica] = []
        self.configure()

    def settings(self, bootstrap: str, dsn: str) -> dict[str, Any]:
        """Make settings of the present group and paddings, with short timings."""
        instruments = {
            name: {**given, "regions": {"padding": self.paddings[name]}} for name, given in INSTRUMENTS.items()
        }
        return settings_for(
            bootstrap,
            dsn,
            kafka={"topics": [TOPIC], "group": self.group, "group_protocol": self._protocol},
            database={"idle_in_transaction_timeout_s": 3},
            batch={"max_messages": 200},
            announce={"topic": ANNOUNCED},
            closing={"next_group_grace_s": 1, "close_after_s": 3, "max_open_s": 20},
            instruments=instruments,
        )

    @property
    def operators(self) -> dict[str, Any]:
        """The settings of the operator's commands: past the proxies."""
        return self.settings(self.kafka.bootstrap, self.dsn)

    def configure(self) -> None:
        """Write the settings of the operator and of all replicas, which must be down."""
        (self._folder / "operator.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(self.operators))))
        name = self.dsn.rpartition("/")[2]
        self._replicas = [
            Replica(
                self._folder,
                self.settings(self.kafka.bootstrap_of("PROXIED"), self.server.dsn(name, port=proxy.port)),
                name=f"replica-{slot}",
            )
            for slot, proxy in enumerate(self.proxies)
        ]

    # Replicas

    @property
    def idle(self) -> list[int]:
        """The replicas that may be started."""
        return [slot for slot in range(MOST) if slot not in self.up and f"replica {slot}" not in self._mends]

    @property
    def sound(self) -> list[int]:
        """The replicas that run and have no harm of their own."""
        return [slot for slot in sorted(self.up) if f"replica {slot}" not in self._mends]

    def start(self, slot: int) -> None:
        """Start a replica."""
        self._replicas[slot].start()
        self.up.add(slot)

    def kill(self, slot: int) -> None:
        """End a replica with SIGKILL."""
        self._replicas[slot].kill()
        self.up.discard(slot)

    def stop(self, *slots: int) -> None:
        """End replicas with SIGTERM, and wait for it."""
        for slot in slots:
            self.mend(f"replica {slot}")
            self._replicas[slot].signal_end()
        for slot in slots:
            replica = self._replicas[slot]
            code = replica.wait_end(timeout_s=_ENDS_S)
            # One that was about to start has not said anything, and no handler of signals yet
            early = code == -signal.SIGTERM and not replica.lines()
            assert code == 0 or early, f"replica {slot} ended with {code} on SIGTERM\n{replica.log_tail()}"
            self.up.discard(slot)

    def freeze(self, slot: int, seconds: float) -> None:
        """Stop the clock of a replica for a while."""
        replica = self._replicas[slot]
        replica.signal(signal.SIGSTOP)
        self.later(f"replica {slot}", seconds, lambda: replica.signal(signal.SIGCONT))

    def assert_alive(self) -> None:
        """Hold every replica that should run to do so."""
        for slot in self.up:
            replica = self._replicas[slot]
            assert replica.running, f"replica {slot} ended by itself with {replica.returncode}\n{replica.log_tail()}"

    # Mending

    def later(self, name: str, after_s: float, mend: Callable[[], object]) -> None:
        """Remember how something is mended, and when; only one harm of a name at a time."""
        self._mends[name] = (time.monotonic() + after_s, mend)

    def mend(self, *names: str) -> None:
        """Mend what is named at once, where it is harmed."""
        for name in names:
            if name in self._mends:
                self._mends.pop(name)[1]()

    def mend_all(self) -> None:
        """Mend everything."""
        self.mend(*self._mends)

    def pause(self, seconds: float) -> None:
        """Mend what is due in the meantime."""
        end_s = time.monotonic() + seconds
        while True:
            now_s = time.monotonic()
            self.mend(*[name for name, (due_s, _) in self._mends.items() if due_s <= now_s])
            self.assert_alive()
            if now_s >= end_s:
                return
            time.sleep(0.05)

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait with great patience, and mend what is due in the meantime."""
        end_s = time.monotonic() + _PATIENCE_S
        while not condition():
            assert time.monotonic() < end_s, f"{what}: not after {_PATIENCE_S} s"
            self.pause(0.2)

    # The operator

    def command(self, *arguments: object) -> Any:  # JSON
        """Run a command, again where a server or a lock was not to be had, and read what it prints."""
        self.mend(BROKERS)
        end_s = time.monotonic() + _PATIENCE_S / 3
        while True:
            try:
                return invoke_json(*arguments, "--config", self._folder / "operator.yaml")
            except AssertionError:
                if time.monotonic() > end_s:
                    raise
            self.pause(1)

    def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Ask the database, past the proxies."""
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(sql.encode(), parameters or None).fetchall()

    def nights(self, instrument: str) -> list[int]:
        """Return the observing days of which exposures are stored."""
        sql = "SELECT DISTINCT day_obs FROM visits.exposure WHERE instrument = %s ORDER BY 1"
        return [day for (day,) in self.query(sql, instrument)]

    def redefine(self, instrument: str, day_obs: int) -> list[dict[str, Any]]:
        """Redefine a night until nothing of it changes meanwhile; return what is new, updated or removed."""
        self.unfinished.add((instrument, day_obs))
        changed = []
        for _ in range(_REDEFINITIONS):
            changes = self.command("redefine", "--instrument", instrument, "--day-obs", day_obs)
            changed += [each for each in changes if each["kind"] not in {ChangeKind.UNCHANGED, ChangeKind.WAITING}]
            if not any("changed just now" in each["detail"] for each in changes):
                self.unfinished.discard((instrument, day_obs))
                break
        return changed

    def caught_up(self) -> bool:
        """Whether everything is read, closed and announced."""
        return (
            stored_positions(self.dsn) == self.kafka.ends(TOPIC)
            and not self.query("SELECT FROM visits.open_group LIMIT 1")
            and not self.query("SELECT FROM visits.outbox WHERE sent_at IS NULL LIMIT 1")
        )

    def drain(self) -> None:
        """Mend everything, wait until all is read, closed and announced, and end the replicas."""
        self.mend_all()
        for slot in self.idle[: max(0, FEWEST - len(self.up))]:
            self.start(slot)
        self.wait_until(self.caught_up, "the end of the log")
        for instrument, day_obs in sorted(self.unfinished):
            self.redefine(instrument, day_obs)
        self.wait_until(self.caught_up, "the last announcements")
        self.stop(*self.up)


@contextlib.contextmanager
def set_stage(seed: int, folder: Path) -> Iterator[Stage]:
    """Start the servers, and end whatever runs in the end.

    Raises
    ------
    tests.support.jars.JarsUnavailableError
        When Kafka's jars cannot be had.
    """
    properties = {"group.consumer.session.timeout.ms": "5000", "group.consumer.heartbeat.interval.ms": "1000"}
    with contextlib.ExitStack() as stack:
        kafka = KafkaCluster(1, listeners={"PROXIED": "PLAINTEXT"}, properties=properties)
        (broker,) = kafka.brokers
        broker_proxy = stack.enter_context(Proxy(broker.ports["PROXIED"]))
        broker.advertised["PROXIED"] = f"127.0.0.1:{broker_proxy.port}"
        stack.enter_context(kafka)
        server = stack.enter_context(PostgresServer(wheel_binaries(), fast=True))
        dsn = stack.enter_context(server.database(prepare_database))
        proxies = [stack.enter_context(Proxy(server.port)) for _ in range(MOST)]
        kafka.create_topic(TOPIC, PARTITIONS)
        kafka.create_topic(ANNOUNCED, PARTITIONS)
        watch_positions(dsn)
        stage = Stage(seed, folder, kafka, broker_proxy, server, dsn, proxies)
        try:
            yield stage
        finally:
            for slot in list(stage.up):
                stage.kill(slot)


def write_stream(bootstrap: str, stream: Stream, stopped: Callable[[float], bool]) -> None:
    """Produce a stream, a second of it each second, until told to stop, and then its rest; each message once.

    Parameters
    ----------
    bootstrap
        Of brokers that may be away for as long as they like.
    stream
        To be produced whole.
    stopped
        Waits for so many seconds at most, and returns whether to stop.
    """
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "message.timeout.ms": 0,  # as long as it takes
            "topic.metadata.refresh.interval.ms": 1000,
            "log_level": 0,
        }
    )
    while True:
        last = stopped(1.0)
        for each in stream.rest() if last else stream.next_second():
            producer.produce(TOPIC, value=each.value, key=each.key, partition=each.partition)
            producer.poll(0)
        if last:
            break
    left = producer.flush(_PATIENCE_S)
    if left:
        raise TimeoutError(f"{left} messages were not delivered")
