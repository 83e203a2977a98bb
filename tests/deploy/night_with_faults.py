"""A short night for a running consumer, with the faults that the alerts are for, and what Prometheus saw of it.

The consumer is the real one, ``visit-consumer run`` as a process, on librdkafka's mock cluster and PostgreSQL 18, and
so are the emitter and the sink beside it, ``visit-consumer emit watch`` and ``visit-consumer butler-sink``. The faults
are real too: a file that is no header, an emitter without brokers, a registry that does not know an instrument, bytes
that are no event, a record that contradicts the stored one, a detector that the camera does not have, an exposure that
never comes, an announcement that no broker takes, a night with findings, a frozen database, a killed process.
Only durations of the alerts are shortened, see `tests.deploy.prometheus_server.SHORTENED`.
"""

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import psycopg
import yaml
from confluent_kafka import Producer
from lsst.daf.butler import Butler

from consumer.events import RAW_INGESTED, encode, encode_record, record_of
from consumer.kafka.mock_cluster import EmbeddedBroker
from consumer.model import Exposure, ExposureIngested
from tests.deploy.boards import expressions
from tests.deploy.prometheus_server import PrometheusServer, shortened_rules
from tests.support.brokers import MockBroker
from tests.support.butler_repository import register_instrument
from tests.support.children import Child, free_port
from tests.support.exposures import DAY_OBS, exposure
from tests.support.postgres import PostgresServer
from tests.support.raws import raw_of

TOPIC = "raws-of-a-watched-night"
_INTERRUPTED_S = 32.0
"""The database is away for a little longer than the objective allows a visit to take."""
_LATE = 110
"""Visits that wait for it: more than the guards of the objective's alerts against low traffic."""


@dataclass(slots=True)
class Observed:
    """What was seen."""

    alerts_when_quiet: set[str] = field(default_factory=set)
    fired: set[str] = field(default_factory=set)
    results: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=dict)
    """What each expression of the board gave, while the faults showed."""
    recorded: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    metrics: str = ""
    """Text of ``/metrics``, the consumer's, the emitter's and the sink's."""
    rule_errors: list[str] = field(default_factory=list)


class WatchedNight:
    """The story; `run` tells it once.

    Parameters
    ----------
    folder
        For files of the processes.
    broker
        With no topic of this name yet.
    postgres
        A server of this test's own, since it is frozen; migrated.
    dsn
        The database on it.
    """

    def __init__(self, folder: Path, broker: MockBroker, postgres: PostgresServer, dsn: str) -> None:
        self._postgres = postgres
        self._dsn = dsn
        self._producer = Producer({"bootstrap.servers": broker.bootstrap})
        self._number = 0
        self._port = free_port()
        broker.create_topic(TOPIC)
        self._config = folder / "config.yaml"
        self._config.write_text(yaml.safe_dump(_settings(broker.bootstrap, dsn, self._port)))
        self._folder = folder
        self._seen = Observed()

    def run(self) -> Observed:
        """Run consumer, emitter and Prometheus, feed them, and return what was seen."""
        with ExitStack() as stack:
            consumer = self._start(stack, "run", "--config", self._config)
            emitter = _Emitter(self._folder)
            stack.callback(emitter.end_broker)
            self._start(stack, "emit", "watch", emitter.landing, "--config", emitter.config)
            sink = self._start_sink(stack)
            ports = (self._port, emitter.port, sink)
            targets = [f"127.0.0.1:{port}" for port in ports]
            with PrometheusServer(self._folder, targets, shortened_rules()) as prometheus:
                self._tell(consumer, emitter, prometheus, ports)
        return self._seen

    def _start_sink(self, stack: ExitStack) -> int:
        """Start a sink over a registry that knows one instrument of three; return its port."""
        repository, port = self._folder / "repository", free_port()
        Butler.makeRepo(str(repository))
        register_instrument(str(repository), "LSSTComCam", ["r_03", "g_01"], 9)
        config = self._folder / "sink.yaml"
        butler = {"repository": str(repository), "exposures": "insert", "interval_s": 0.5, "http_port": port}
        settings = yaml.safe_load(self._config.read_text()) | {"butler": butler}
        config.write_text(yaml.safe_dump(settings))
        self._start(stack, "butler-sink", "--config", config)
        return port

    def _start(self, stack: ExitStack, *arguments: str | Path) -> Child:
        child = Child([sys.executable, "-m", "consumer", *map(str, arguments)], self._folder / f"{arguments[0]}.log")

        def end() -> None:
            if child.running:
                child.signal(signal.SIGKILL)
                child.wait(10)

        stack.callback(end)
        return child

    def _tell(self, consumer: Child, emitter: "_Emitter", prometheus: PrometheusServer, ports: Sequence[int]) -> None:
        prometheus.wait_for(lambda: _value(prometheus, "sum(visit_consumer_ready)") == 1, what="ready", timeout_s=40)
        emitter.land()
        wanted = "sum(visit_consumer_source_events_total)"
        prometheus.wait_for(lambda: _value(prometheus, wanted) == 1, what="an event of a file", timeout_s=40)
        self._undisturbed(prometheus)
        self._bad_data(prometheus)
        self._refused_announcement(prometheus)
        self._frozen_database(emitter, prometheus)
        # The boards look at the last minute, and the first one may be longer ago.
        letters = "sum(visit_consumer_dead_letters_total)"
        before = _value(prometheus, letters) or 0
        self._producer.produce(TOPIC, b"no event either")
        prometheus.wait_for(lambda: (_value(prometheus, letters) or 0) > before, what="a dead letter", timeout_s=30)
        self._seen.results = {key: prometheus.query(text) for key, text in expressions().items()}
        rules = yaml.safe_load(shortened_rules())["groups"]
        names = [rule["record"] for group in rules for rule in group["rules"] if "record" in rule]
        self._seen.recorded = {name: prometheus.query(name) for name in names}
        self._seen.metrics = "".join(map(_get, ports))
        self._seen.rule_errors = prometheus.rule_errors()
        consumer.signal(signal.SIGKILL)
        self._expect(prometheus, "Down", timeout_s=20)

    def _undisturbed(self, prometheus: PrometheusServer) -> None:
        """Feed good exposures, let the consumer come to the end of the log, and look at the alerts for a while."""
        for _ in range(10):
            self._send(self._next(), detectors=(0, 1, 2))
        dark = self._next(can_see_sky=False, observation_type="dark")
        self._send(dark, detectors=(0,))
        expected = ExposureIngested(exposure=dark, expected_detectors=frozenset({0, 1}))
        self._producer.produce(TOPIC, encode(expected))  # a raw is missing
        wanted = 'sum(visit_consumer_visits_written_total{result="new"})'
        prometheus.wait_for(lambda: _value(prometheus, wanted) == 10, what="ten visits", timeout_s=30)
        until = time.monotonic() + 6
        while time.monotonic() < until:
            self._seen.alerts_when_quiet |= prometheus.active_alerts("firing")
            time.sleep(0.3)

    def _bad_data(self, prometheus: PrometheusServer) -> None:
        self._producer.produce(TOPIC, b"no event at all")
        good = self._next()
        self._send(good, detectors=(0,))
        self._send(replace(good, physical_filter="g_01"), detectors=(1,))
        self._expect(prometheus, "DeadLetters", "Conflicts", timeout_s=20)
        self._audit()
        # A correction: the visit's second revision.
        self._send(replace(good, target_name="another field", record_version=1), detectors=(0,))
        self._send(self._next(), detectors=(200,))  # LSSTComCam has nine detectors
        self._expect(prometheus, "DetectorRegionsMissing", timeout_s=20)
        # One exposure of two; LATISS waits for the other one longer than the alert allows, LSSTCam for a second.
        self._send(self._next(instrument="LATISS", group_size=2), detectors=(0,))
        self._send(self._next(instrument="LSSTCam", group_size=2), detectors=(0,))
        self._expect(prometheus, "GroupStuck", "ButlerSinkBehind", "AuditFindings", timeout_s=40)

    def _refused_announcement(self, prometheus: PrometheusServer) -> None:
        """Put an announcement into the outbox that no broker takes: it is too large, and those behind it wait."""
        with psycopg.connect(self._dsn) as connection:
            connection.execute(
                "INSERT INTO visits.outbox (instrument, visit, revision, payload) VALUES ('LSSTComCam', 1, 1, %s)",
                (bytes(3_000_000),),
            )
        self._expect(prometheus, "AnnouncementsStuck", timeout_s=30)
        with psycopg.connect(self._dsn) as connection:
            connection.execute("DELETE FROM visits.outbox WHERE visit = 1")

    def _audit(self) -> None:
        """Audit the night, which lacks raws and has a dead letter."""
        command = ("audit", "--day-obs", str(DAY_OBS), "--grace", "0", "--config", str(self._config))
        done = subprocess.run(
            [sys.executable, "-m", "consumer", *command], check=False, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 1, done.stderr

    def _bad_files(self, emitter: "_Emitter", prometheus: PrometheusServer) -> None:
        broken = emitter.landing / "MC_O_20261101_000001_R01_S01.json"
        broken.write_text('{"OBSID": "MC_O_20261101_000001"}')  # of which instrument?
        self._expect(prometheus, "SourceRejecting", timeout_s=20)
        emitter.end_broker()
        emitter.land()
        self._expect(prometheus, "SourceStalled", timeout_s=20)

    def _frozen_database(self, emitter: "_Emitter", prometheus: PrometheusServer) -> None:
        self._postgres.pause()
        try:
            frozen_s = time.monotonic()
            for _ in range(_LATE):
                self._send(self._next(), detectors=(4,))
            self._bad_files(emitter, prometheus)
            self._expect(prometheus, "Stalled", "LagAge", timeout_s=_INTERRUPTED_S + 5)
            time.sleep(max(_INTERRUPTED_S - (time.monotonic() - frozen_s), 0))
        finally:
            self._postgres.resume()
        self._expect(prometheus, "FastBurn", "SlowBurn", timeout_s=40)

    def _expect(self, prometheus: PrometheusServer, *names: str, timeout_s: float) -> None:
        wanted = {f"VisitConsumer{name}" for name in names}
        prometheus.wait_for(
            lambda: wanted <= prometheus.active_alerts("firing"), what=f"{sorted(wanted)} fire", timeout_s=timeout_s
        )
        self._seen.fired |= wanted

    def _next(self, **changes: Any) -> Exposure:
        self._number += 1
        return exposure(self._number, **({"tracking_ra": 100.0 + self._number / 10} | changes))

    def _send(self, one: Exposure, *, detectors: tuple[int, ...]) -> None:
        for detector in detectors:
            value = encode_record(record_of(raw_of(one, detector)), RAW_INGESTED)
            self._producer.produce(TOPIC, value, key=f"{one.instrument}/{one.group}".encode())
        assert self._producer.flush(10) == 0


class _Emitter:
    """What ``emit watch`` is given: a folder, and a broker of its own, which can go away."""

    def __init__(self, folder: Path) -> None:
        self.landing = folder / "landing"
        self.landing.mkdir()
        self.config = folder / "emitter.yaml"
        self.port = free_port()
        self._broker = ExitStack()
        broker = self._broker.enter_context(EmbeddedBroker())
        for topic in (TOPIC, "raw-rejected", "raw-waiting"):
            broker.create_topic(topic)
        settings = {
            "kafka": {"bootstrap_servers": broker.bootstrap, "topics": [TOPIC]},
            "database": {"conninfo": "host=/nowhere dbname=none"},
            "source": {"http_port": self.port},
        }
        self.config.write_text(yaml.safe_dump(settings))
        text = files("consumer.demo").joinpath("landing_headers.json").read_text(encoding="utf-8")
        self._headers = iter(json.loads(text).items())

    def land(self) -> None:
        """Write the next good sidecar into the folder."""
        name, header = next(self._headers)
        (self.landing / name).write_text(json.dumps(header))

    def end_broker(self) -> None:
        """End the broker; a second time, nothing."""
        self._broker.close()


def _settings(bootstrap: str, dsn: str, port: int) -> dict[str, object]:
    return {
        "kafka": {"bootstrap_servers": bootstrap, "topics": [TOPIC], "group": "watched"},
        "database": {"conninfo": dsn},
        "instruments": {
            "LSSTComCam": None,
            "LATISS": {
                "group_exposures": "by-group-metadata",
                "closing": {"close_after_s": 10_000, "max_open_s": 10_000},
            },
            "LSSTCam": {"group_exposures": "by-group-metadata", "closing": {"close_after_s": 1}},
        },
        "announce": {"topic": "visits-of-a-watched-night"},
        "http": {"port": port},
    }


def _value(prometheus: PrometheusServer, expression: str) -> float | None:
    found = prometheus.query(expression)
    return float(found[0]["value"][1]) if found else None


def _get(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return str(answer.read().decode())
