"""An ASGI server in a thread of its own, which slow or hostile clients cannot keep from answering."""

import asyncio
import socket
from threading import Thread
from types import TracebackType
from typing import Any, ClassVar, Final, Self

from starlette.types import ASGIApp
from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from consumer.errors import ConfigurationError
from consumer.logs import get_logger

REQUEST_TIMEOUT_S: Final = 5.0
"""How long a connection may take to bring a whole request, and as long again to take the answer.

An answer that goes on for ever may be taken for ever, by a client that reads what was sent.
"""
MAX_CONNECTIONS: Final = 256
"""Open at once, well below the usual bound on file descriptors. The one that has waited longest makes room."""
MAX_HEAD_BYTES: Final = 16_384
"""Request line and headers together."""
_TAKEN_AT_ONCE: Final = 64
"""Connections taken in one turn of the loop: a request is answered 3 turns later, before newer ones push it out."""
_BACKLOG: Final = 4096
"""Connections that wait in the kernel to be taken, as many as Linux allows by default.

A client that finds no place there tries again after a second, which is too late for a probe.
"""

_log = get_logger(__name__)


class _BoundedProtocol(H11Protocol):
    """uvicorn's protocol, with bounds on the time of a request and on the number of connections."""

    oldest_first: ClassVar[dict["_BoundedProtocol", None]]
    """The open connections of one server, by when each answered last; every server has a subclass of its own."""
    max_connections: ClassVar[int]
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:  # the base's type
        """Take a connection; where there are too many, drop the one that has not asked anything for longest."""
        super().connection_made(transport)
        self.oldest_first[self] = None
        if len(self.oldest_first) > self.max_connections:
            oldest = next(iter(self.oldest_first))
            del self.oldest_first[oldest]  # its end is reported later, perhaps after further connections
            oldest.transport.abort()
        self._restart_timer()

    def handle_events(self) -> None:
        """Count the time of a request, and then of its answer, from when its head has come."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before and self in self.oldest_first:
            self._restart_timer()

    def on_response_complete(self) -> None:
        """Allow as much time for the next request."""
        super().on_response_complete()
        if self in self.oldest_first:
            self.oldest_first[self] = self.oldest_first.pop(self)
            self._restart_timer()

    def send_400_response(self, msg: str) -> None:
        """Refuse bytes that are no HTTP; where a request has come before them, its answer is the last."""
        if self.cycle is None:
            super().send_400_response(msg)  # type: ignore[unreachable]  # before the first request, whatever its type says
        elif self.cycle.response_complete:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self.oldest_first.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _restart_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(REQUEST_TIMEOUT_S, self._expire)

    def _expire(self) -> None:
        """End the connection, unless an answer is under way and the client has taken what there is of it."""
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request, whatever its type says
        answers = cycle is not None and cycle.response_started and not cycle.response_complete
        if answers and not self.transport.get_write_buffer_size():
            self._restart_timer()
        else:
            self.transport.abort()


class _Server(Server):
    """uvicorn's server, which takes few connections at once and still lets many wait."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; asyncio has one number for both, so the kernel's is set again."""
        await super().startup(sockets)
        for each in sockets or ():
            each.listen(_BACKLOG)


class HttpServer:
    """Listens from its making on, answers between `start` and `stop`.

    Parameters
    ----------
    host, port
        Where to listen; port 0 takes a free one, see `address`.
    app
        What it serves.
    setting
        Where the address is set, for an error's message.
    purpose
        What it does, for the log.
    max_connections
        Open at once; None: `MAX_CONNECTIONS`.

    Raises
    ------
    ConfigurationError
        If the address cannot be listened on.
    """

    def __init__(
        self,
        host: str,
        port: int,
        app: ASGIApp,
        *,
        setting: str = "http.host, http.port",
        purpose: str = "listening",
        max_connections: int | None = None,
    ) -> None:
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._socket = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        except OSError as error:
            raise ConfigurationError(
                f"{setting}: cannot listen on {host} port {port} ({error.strerror}); choose another address"
            ) from error
        self._server = _Server(
            Config(
                app,
                http=type(
                    "BoundedProtocol",
                    (_BoundedProtocol,),
                    {"oldest_first": {}, "max_connections": max_connections or MAX_CONNECTIONS},
                ),
                ws="none",
                loop="asyncio",
                lifespan="off",
                h11_max_incomplete_event_size=MAX_HEAD_BYTES,
                timeout_graceful_shutdown=1,
                backlog=_TAKEN_AT_ONCE,
                server_header=False,
                proxy_headers=False,
                log_config=None,
                log_level="critical",  # what clients do wrong is no news; faults of pages are logged by them
                access_log=False,
            )
        )
        self._purpose = purpose
        self._thread: Thread | None = None
        bound_host, bound_port = self._socket.getsockname()[:2]
        self._address = (str(bound_host), int(bound_port))

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens on."""
        return self._address

    @property
    def url(self) -> str:
        """Address for people and probes on this machine."""
        host, port = self.address
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # no binding: a name for a reader
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def start(self) -> Self:
        """Answer, from a thread that does not keep the process alive."""
        self._thread = Thread(target=self._serve, name="http", daemon=True)
        self._thread.start()
        _log.info(self._purpose, url=self.url)
        return self

    def stop(self, timeout_s: float = 2.0) -> None:
        """Listen no more, and wait so long for answers under way. Can be called twice."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(timeout_s)
            self._thread = None
        self._socket.close()

    def _serve(self) -> None:
        asyncio.run(self._server.serve([self._socket]))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
