"""The composition root of a sink: a session of the tables, a registry, a loop, a port."""

import os
import socket
import threading
from contextlib import ExitStack
from datetime import UTC, datetime
from time import monotonic
from typing import Self

from prometheus_client import CollectorRegistry

from consumer import __version__
from consumer.butler.changes import SinkResult
from consumer.butler.registry import ButlerRegistry
from consumer.butler.sink import NOTED, ButlerSink
from consumer.config import Settings
from consumer.errors import ConfigurationError
from consumer.logs import get_logger
from consumer.metrics.butler import ButlerMetrics
from consumer.postgres.connection import Database
from consumer.postgres.migrate import check_schema
from consumer.postgres.sink_positions import SinkPositions
from consumer.postgres.wake import Wake
from consumer.process import stops_on_signals, tune_interpreter
from consumer.web import Health, HttpServer, ServiceStatus, read_only_port

_STALLED_AFTER_S = 120.0

_log = get_logger(__name__)


class SinkProcess:
    """One process that writes visits into a Butler registry. A context manager that ends its sessions.

    Parameters
    ----------
    settings
        Validated; `settings.butler` names the repository.
    from_night
        Only visits of this observing day and later ones; None: all.
    writeable
        Whether it writes at all.

    Raises
    ------
    ConfigurationError
        When no repository is named.
    """

    def __init__(self, settings: Settings, *, from_night: int | None = None, writeable: bool = True) -> None:
        own = settings.butler
        if own.repository is None:
            raise ConfigurationError("butler.repository: names no repository, and none is given as --repo")
        self._settings = settings
        self._repository = own.repository
        self._metrics = ButlerMetrics(CollectorRegistry(), results=SinkResult, noted=NOTED, process=True)
        self._registry = ButlerRegistry(own.repository, writeable=writeable)
        # The process is in the name: behind a pooler it is the owner of the lease.
        process = f"{socket.gethostname()}/{os.getpid()}"
        database = Database(settings.database, application_name=f"visit-consumer butler-sink {own.name} {process}")
        self.positions = SinkPositions(database, own.name)
        self._wake = Wake(settings.database, application_name=f"visit-consumer butler-sink wake {process}")
        self.sink = ButlerSink(
            self.positions,
            self._registry,
            own,
            self._metrics,
            from_night=from_night,
            retry_max_s=settings.database.retry_max_s,
        )
        self._stopping = threading.Event()
        self._turned_at_s = monotonic()
        self._started_at = datetime.now(UTC)

    def __enter__(self) -> Self:
        """Return the process itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """End the sessions."""
        self._wake.close()
        self.positions.close()
        self._registry.close()

    def prepare(self) -> None:
        """Look at the schema, and take note of the repository.

        Raises
        ------
        ConfigurationError
            When the name of the sink is that of another repository's.
        FatalError
            When the schema is not this release's.
        """
        check_schema(self.positions.database)
        self.positions.register(self._repository)

    def run(self) -> None:
        """Write until SIGTERM or SIGINT.

        Raises
        ------
        VisitConsumerError
            When going on is useless.
        """
        http, own = self._settings.http, self._settings.butler
        with ExitStack() as stack:
            if http.enabled:
                port = read_only_port(self._metrics.registry, self)
                server = HttpServer(http.host, own.http_port, port, setting="butler.http_port")
                stack.callback(server.stop)
                server.start()
            timeout_s = self._settings.shutdown.timeout_s
            stack.enter_context(stops_on_signals(self._stopping.set, timeout_s=timeout_s, log=_log))
            tune_interpreter()
            _log.info("sink started", sink=own.name, repository=self._repository)
            self.sink.run(
                self._stopping,
                prepare=self.prepare,
                turned=self._turned,
                rest=lambda seconds: self._wake.wait(seconds, self._stopping.is_set),
            )

    def alive(self) -> Health:
        """Whether the loop has turned recently."""
        silent_s = monotonic() - self._turned_at_s
        ok = silent_s < _STALLED_AFTER_S
        return Health(ok=ok, reasons=() if ok else (f"the sink has not turned for {silent_s:.0f} s",))

    def ready(self) -> Health:
        """Whether both databases answered at the last turn."""
        problem = self.sink.problem
        return Health(ok=not problem, reasons=(problem,) if problem else ())

    def status(self) -> ServiceStatus:
        """Return what the status page shows."""
        return ServiceStatus(
            version=__version__,
            state="stopping" if self._stopping.is_set() else "running",
            started_at=self._started_at,
            counts={f"visits {name}": count for name, count in sorted(self.sink.counts.items())}
            | {"visits waiting": self.sink.waiting},
        )

    def _turned(self) -> None:
        self._turned_at_s = monotonic()
