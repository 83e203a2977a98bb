"""The server of the read-only port: a few threads, which read snapshots and change nothing."""

import gzip
import json
import socket
from email.message import Message
from http import HTTPStatus
from socketserver import BaseRequestHandler, TCPServer, ThreadingMixIn
from threading import BoundedSemaphore, Thread
from time import monotonic
from types import TracebackType
from typing import Any, Final, Self

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from consumer.errors import ConfigurationError
from consumer.logs import get_logger
from consumer.web.handler import Answer, ReadOnlyHandler
from consumer.web.health import Health, HealthSource
from consumer.web.status_page import status_page

MAX_CONNECTIONS: Final = 32
"""Connections served at once; more are closed unanswered, so that a flood costs neither threads nor memory."""

_log = get_logger(__name__)


class HttpServer:
    """Listens from its making on, answers between `start` and `stop`.

    Parameters
    ----------
    host, port
        Where to listen; port 0 takes a free one, see `address`.
    registry
        What ``/metrics`` shows.
    health
        What the other pages show; asked from other threads.

    Raises
    ------
    ConfigurationError
        If the address cannot be listened on.
    """

    def __init__(self, host: str, port: int, *, registry: CollectorRegistry, health: HealthSource) -> None:
        pages = {
            "/": lambda _: _html(health),
            "/metrics": lambda headers: _metrics(registry, headers),
            "/healthz": lambda _: _probe(health.alive()),
            "/readyz": lambda _: _probe(health.ready()),
        }
        handler = type("Handler", (ReadOnlyHandler,), {"pages": pages})
        try:
            self._server = _BoundedServer(host, port, handler)
        except OSError as error:
            raise ConfigurationError(
                f"http.host, http.port: cannot listen on {host} port {port} ({error.strerror}); choose another address"
            ) from error
        self._thread: Thread | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens on."""
        host, port = self._server.socket.getsockname()[:2]
        return str(host), int(port)

    @property
    def url(self) -> str:
        """Address for people and probes on this machine."""
        host, port = self.address
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # no binding: a name for a reader
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def start(self) -> Self:
        """Answer, from a thread that does not keep the process alive."""
        self._thread = Thread(target=self._server.serve_forever, args=(0.1,), name="http", daemon=True)
        self._thread.start()
        _log.info("http listening", url=self.url)
        return self

    def stop(self, timeout_s: float = 1.0) -> None:
        """Listen no more, and wait so long for answers under way. Can be called twice."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join(timeout_s)
            self._thread = None
        self._server.server_close()
        self._server.wait(timeout_s)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _BoundedServer(ThreadingMixIn, TCPServer):
    """A thread for each connection, up to `MAX_CONNECTIONS`."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, host: str, port: int, handler: type[BaseRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._slots = BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__((host, port), handler)

    def process_request(self, request: Any, client_address: Any) -> None:  # the base's types
        """Serve a connection from a thread, or close it when all are taken."""
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # the base's types
        """Serve one connection, then give the thread's place back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002  # the base's signature
        """Put a fault of ours into the log; the base would print it."""
        _log.exception("http connection failed")

    def wait(self, timeout_s: float) -> None:
        """Wait until no connection is served any more."""
        deadline = monotonic() + timeout_s
        taken = 0
        while taken < MAX_CONNECTIONS and self._slots.acquire(timeout=max(deadline - monotonic(), 0.0)):
            taken += 1
        for _ in range(taken):
            self._slots.release()


def _probe(health: Health) -> Answer:
    """Answer a probe: 200 or 503, with the reasons."""
    body = json.dumps({"ok": health.ok, "reasons": list(health.reasons)}) + "\n"
    status = HTTPStatus.OK if health.ok else HTTPStatus.SERVICE_UNAVAILABLE
    return Answer(body=body.encode(), content_type="application/json", status=status)


def _html(health: HealthSource) -> Answer:
    """Answer with the status page."""
    page = status_page(health.status(), health.alive(), health.ready())
    return Answer(body=page.encode(), content_type="text/html; charset=utf-8")


def _metrics(registry: CollectorRegistry, headers: Message) -> Answer:
    """Answer a scrape in the form that it asks for: Prometheus' text or OpenMetrics, compressed or not."""
    try:
        encode, content_type = choose_encoder(headers.get("Accept", ""))
    except (TypeError, ValueError):  # a version that is no number
        encode, content_type = choose_encoder("")
    body = encode(registry)
    accepted = {part.split(";")[0].strip().lower() for part in headers.get("Accept-Encoding", "").split(",")}
    if "gzip" in accepted:
        return Answer(body=gzip.compress(body, 1), content_type=content_type, content_encoding="gzip")
    return Answer(body=body, content_type=content_type)
