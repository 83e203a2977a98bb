"""The product as its users run it: `visit-consumer run` as a child process, and what goes into and comes out of it."""

import contextlib
import json
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import yaml
from confluent_kafka import Producer

from consumer.config import Settings
from consumer.events import encode
from consumer.model import Exposure, RawIngested
from consumer.service.app import migrate_database
from tests.support.children import Child, ServerError

TOPIC = "raw-ingested"
INSTRUMENTS: dict[str, Any] = {"LSSTCam": {}, "LSSTComCam": {}}
"""What the services of the tests serve, unless told otherwise."""


class Probe(NamedTuple):
    """An answer of the service's port."""

    status: int
    body: str


def settings_for(bootstrap: str, dsn: str, **sections: Mapping[str, Any]) -> dict[str, Any]:
    """Make settings with short timings; each section given is laid over them."""
    settings: dict[str, Any] = {
        "kafka": {
            "bootstrap_servers": bootstrap,
            "topics": [TOPIC],
            "session_timeout_s": 3,
            "client": {"reconnect.backoff.max.ms": 500, "topic.metadata.refresh.interval.ms": 2000},
        },
        "database": {"conninfo": dsn, "retry_max_s": 0.5, "connect_timeout_s": 2},
        "batch": {"max_messages": 500, "close_interval_s": 0.2},
        "instruments": INSTRUMENTS,
        "http": {"port": 0},
    }
    for name, section in sections.items():
        if name == "instruments":
            settings[name] = dict(section)
        else:
            settings[name] = {**settings.get(name, {}), **section}
    return settings


def prepare_database(dsn: str) -> None:
    """Bring an empty database to the present schema; for `PostgresServer.database`."""
    migrate_database(Settings(**settings_for("nowhere:1", dsn)))


class Replica:
    """One ``visit-consumer run`` as a child process. It ends with the test, at the latest.

    Parameters
    ----------
    folder
        Of the test's own, for the settings and the output.
    settings
        As `settings_for` makes them.
    name
        Tells several replicas of one folder apart.
    environment
        Additional environment variables.
    command
        Of ``visit-consumer``: the service, or an emitter.

    Attributes
    ----------
    config
        The settings as a file, for commands.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        *,
        name: str = "replica",
        environment: Mapping[str, str] | None = None,
        command: Sequence[str] = ("run",),
    ) -> None:
        self._command = command
        self.config = folder / f"{name}.yaml"
        self.config.write_text(yaml.safe_dump(json.loads(json.dumps(settings))))
        self._log = folder / f"{name}.log"
        self._environment = environment
        self._child: Child | None = None
        self._begin = 0

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._child is not None and self._child.running

    @property
    def returncode(self) -> int | None:
        """Exit code of a process that has ended."""
        return self._started().returncode

    @property
    def pid(self) -> int:
        """The process id."""
        return self._started().pid

    def start(self) -> None:
        """Start the process, again after its end, and return at once."""
        if self.running:
            raise ServerError("the replica runs already")
        self._begin = self._log.stat().st_size if self._log.exists() else 0
        command = [sys.executable, "-m", "consumer", *self._command, "--config", str(self.config)]
        self._child = Child(command, self._log, environment=self._environment)

    def lines(self, event: str | None = None) -> list[dict[str, Any]]:
        """Return what this process has logged since it was started last, optionally of one event only."""
        with self._log.open("rb") as file:
            file.seek(self._begin)
            texts = file.read().decode(errors="replace").splitlines()
        logged = []
        for text in texts:
            with contextlib.suppress(json.JSONDecodeError):
                line = json.loads(text)
                if isinstance(line, dict) and (event is None or line.get("event") == event):
                    logged.append(line)
        return logged

    def wait_for_line(self, event: str, *, timeout_s: float = 30, number: int = 1) -> dict[str, Any]:
        """Wait until an event was logged so often, and return the last of them."""
        self.wait_until(lambda: len(self.lines(event)) >= number, what=f"log line {event!r}", timeout_s=timeout_s)
        return self.lines(event)[-1]

    def wait_ready(self, *, timeout_s: float = 30) -> None:
        """Wait until ``/readyz`` agrees."""
        self.wait_until(lambda: self.get("/readyz").status == 200, what="/readyz", timeout_s=timeout_s)

    def wait_until(self, condition: Callable[[], bool], *, what: str, timeout_s: float = 30) -> float:
        """Wait for anything while the process lives; return how long it took, seconds."""
        begin = time.monotonic()
        self._started().wait_until(condition, what=what, timeout_s=timeout_s)
        return time.monotonic() - begin

    def get(self, path: str) -> Probe:
        """Ask the process' port; status 0 when nobody answers."""
        listening = self.lines("listening")
        if not listening:
            return Probe(0, "")
        try:
            with urllib.request.urlopen(listening[-1]["url"].rstrip("/") + path, timeout=5) as answer:  # noqa: S310 - our own http:// address
                return Probe(answer.status, answer.read().decode())
        except urllib.error.HTTPError as error:
            return Probe(error.code, error.read().decode())
        except OSError:
            return Probe(0, "")

    def metric(self, name: str, **labels: str) -> float:
        """Sum the samples of a metric that have these labels."""
        total = 0.0
        for line in self.get("/metrics").body.splitlines():
            sample, _, value = line.rpartition(" ")
            if sample.partition("{")[0] == name and all(f'{key}="{text}"' in sample for key, text in labels.items()):
                total += float(value)
        return total

    def terminate(self, *, timeout_s: float = 20) -> tuple[int, float]:
        """Ask the process to end (SIGTERM); return its exit code and how long it took, seconds."""
        begin = time.monotonic()
        self.signal_end()
        return self.wait_end(timeout_s=timeout_s), time.monotonic() - begin

    def wait_end(self, *, timeout_s: float = 20) -> int:
        """Wait until the process has ended, and return its exit code."""
        self._started().wait(timeout_s)
        code = self._started().returncode
        assert code is not None
        return code

    def signal_end(self) -> None:
        """Ask the process to end (SIGTERM), and return at once."""
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the process at once (SIGKILL), also a paused one."""
        if self._child is not None:
            self._child.signal(signal.SIGKILL)
            self._child.wait(10)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; SIGSTOP freezes the process, SIGCONT lets it go on."""
        self._started().signal(number)

    def log_tail(self, lines: int = 40) -> str:
        """Return the last lines of the output."""
        return self._started().log_tail(lines)

    def _started(self) -> Child:
        if self._child is None:
            raise ServerError("the replica was never started")
        return self._child

    def __enter__(self) -> Self:
        """Start the process, unless it runs already."""
        if not self.running:
            self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        if error is not None and self._child is not None:
            print(self.log_tail())  # noqa: T201 - pytest shows it with the failure
        self.kill()


class Wire(NamedTuple):
    """One message to be produced."""

    value: bytes | None
    key: bytes | None = None
    partition: int = -1
    """-1: by the key."""
    timestamp_ms: int = 0
    """0: now."""


def raws_of(exposures: Iterable[Exposure], detectors: Iterable[int]) -> list[Wire]:
    """Encode every raw of exposures, detector after detector, keyed by instrument and group."""
    wanted = list(detectors)
    return [
        Wire(encode(RawIngested(exposure=one, detector=detector)), f"{one.instrument}/{one.group}".encode())
        for one in exposures
        for detector in wanted
    ]


def produce(bootstrap: str, messages: Sequence[Wire], topic: str = TOPIC) -> None:
    """Append messages to a topic and wait until the broker has all of them."""
    failed: list[str] = []
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "linger.ms": 20,
            "queue.buffering.max.messages": 1_000_000,
            "message.max.bytes": 10_000_000,
            "log_level": 0,
        }
    )
    for each in messages:
        producer.produce(
            topic,
            value=each.value,
            key=each.key,
            partition=each.partition,
            timestamp=each.timestamp_ms,
            on_delivery=lambda error, _: failed.append(str(error)) if error else None,
        )
        producer.poll(0)
    left = producer.flush(60)
    if left or failed:
        raise ServerError(f"{left} messages were not delivered; {failed[:3]}")
