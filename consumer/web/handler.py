"""One request, bounded in bytes and in time, and its answer.

The head is read here, with one deadline for the whole: the standard library's reader takes megabytes of headers, and
any time as long as a byte arrives now and then. Parsing it is left to the standard library.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from socket import SHUT_WR
from time import monotonic
from typing import Final
from urllib.parse import urlsplit

from consumer.logs import get_logger

REQUEST_TIMEOUT_S: Final = 5.0
"""How long reading a request may take, and how long writing its answer."""
MAX_HEAD_BYTES: Final = 16_384
"""Request line and headers together."""
_MAX_DRAINED_BYTES: Final = 65_536

SECURITY_HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one page says."""

    body: bytes
    content_type: str
    status: HTTPStatus = HTTPStatus.OK
    content_encoding: str | None = None

    @classmethod
    def text(cls, status: HTTPStatus) -> "Answer":
        """Return a status as one line of text."""
        return cls(
            body=f"{status.value} {status.phrase}\n".encode(), content_type="text/plain; charset=utf-8", status=status
        )


Page = Callable[[Message], Answer]
"""Makes an answer from a request's headers."""


class ReadOnlyHandler(BaseHTTPRequestHandler):
    """Answers one GET or HEAD, then the connection is closed. Subclassed with its ``pages``."""

    pages: Mapping[str, Page]
    """By path; queries are ignored."""
    timeout = REQUEST_TIMEOUT_S

    def handle(self) -> None:
        """Read one request, answer it, and leave."""
        try:
            head = self._read_head()
            if not head:
                return
            self.rfile = BytesIO(head)
            self.raw_requestline = self.rfile.readline(MAX_HEAD_BYTES)
            if len(head) > MAX_HEAD_BYTES:
                self.request_version, self.command = "HTTP/1.0", "GET"
                self._send(Answer.text(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE))
            elif self.parse_request():
                self._respond()
            self._drain()
        except (ConnectionError, TimeoutError):
            # The other side left, or is too slow: nobody is there to be told.
            return

    def _read_head(self) -> bytes:
        """Read up to the empty line that ends the head; at most one byte more than is allowed."""
        deadline = monotonic() + REQUEST_TIMEOUT_S
        head = bytearray()
        while b"\r\n\r\n" not in head and b"\n\n" not in head and len(head) <= MAX_HEAD_BYTES:
            self.connection.settimeout(max(deadline - monotonic(), 0.001))
            piece = self.connection.recv(MAX_HEAD_BYTES + 1 - len(head))
            if not piece:
                break
            head += piece
        self.connection.settimeout(REQUEST_TIMEOUT_S)
        return bytes(head)

    def _respond(self) -> None:
        """Send the page that is asked for."""
        page = self.pages.get(urlsplit(self.path).path)
        if self.command not in {"GET", "HEAD"}:
            self._send(Answer.text(HTTPStatus.METHOD_NOT_ALLOWED))
        elif page is None:
            self._send(Answer.text(HTTPStatus.NOT_FOUND))
        else:
            try:
                answer = page(self.headers)
            except Exception:  # noqa: BLE001  # the top of this thread: a page that fails must not show why
                _log.exception("page failed", path=self.path)
                answer = Answer.text(HTTPStatus.INTERNAL_SERVER_ERROR)
            self._send(answer)

    def _send(self, answer: Answer) -> None:
        """Send an answer; its body only where the method wants one."""
        self.send_response_only(answer.status)
        self.send_header("Date", self.date_time_string())
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Connection", "close")
        if answer.content_encoding is not None:
            self.send_header("Content-Encoding", answer.content_encoding)
            self.send_header("Vary", "Accept-Encoding")
        if answer.status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        for name, value in SECURITY_HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def _drain(self) -> None:
        """Take in, for a moment, what was sent beyond the head: closing with it unread would revoke the answer."""
        self.connection.shutdown(SHUT_WR)
        self.connection.settimeout(0.05)
        taken = 0
        while taken < _MAX_DRAINED_BYTES and (piece := self.connection.recv(4096)):
            taken += len(piece)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002  # the signature is the base's; its texts repeat the request
        """Send what parsing has to say, as a bare status."""
        self.command = self.command or "GET"
        self._send(Answer.text(HTTPStatus(code)))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the signature is the base's
        """Say nothing: probes and scrapes would fill the log."""
