"""Where object stores push notifications to: a POST is answered once the brokers have what follows from it.

An answer of 503 has a ``Retry-After``; not every store heeds it, so a scan has to find what a push has lost.
"""

import asyncio
import hmac
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Final, Protocol

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from consumer.web.read_only import SECURITY_HEADERS, failed, not_found, status_line
from consumer.web.server import REQUEST_TIMEOUT_S

_ANSWER_WITHIN_S: Final = REQUEST_TIMEOUT_S - 1
"""The server ends a connection that has no answer by then."""
_RETRY_AFTER_S: Final = "5"


class NotificationSink(Protocol):
    """Takes what was pushed; called from the server's thread."""

    def accept(self, body: bytes, done: Callable[[], None]) -> bool:
        """Take one body; return False where it cannot be taken now.

        Parameters
        ----------
        body
            As it was sent.
        done
            Called from any thread, once the brokers have what follows from it.
        """
        ...


def notification_port(sink: NotificationSink, *, token: Callable[[], str | None], max_body_bytes: int) -> ASGIApp:
    """Make the application that takes notifications.

    Parameters
    ----------
    sink
        Takes them.
    token
        Returns the bearer token that requests must carry; None: they need none.
    max_body_bytes
        A longer body is refused before it is read.
    """

    async def notify(request: Request) -> Response:
        if not _is_allowed(request, token()):
            return _answer(HTTPStatus.UNAUTHORIZED, WWW_Authenticate="Bearer")
        try:
            body = await _read(request, max_body_bytes)
        except ClientDisconnect:
            return _answer(HTTPStatus.BAD_REQUEST)
        if body is None:
            return _answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, Connection="close")
        if not await _deliver(sink, body):
            return _answer(HTTPStatus.SERVICE_UNAVAILABLE, Retry_After=_RETRY_AFTER_S)
        return _answer(HTTPStatus.OK)

    app = Starlette(
        routes=[Route("/", notify, methods=["POST"]), Route("/notifications", notify, methods=["POST"])],
        exception_handlers={HTTPStatus.NOT_FOUND: not_found, Exception: failed},
    )
    app.router.redirect_slashes = False
    return app


def _is_allowed(request: Request, token: str | None) -> bool:
    if token is None:
        return True
    given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
    return hmac.compare_digest(given, b"Bearer " + token.encode())


async def _read(request: Request, max_bytes: int) -> bytes | None:
    """Return the body, or None where it is too long."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > max_bytes:
            return None
    return bytes(body)


async def _deliver(sink: NotificationSink, body: bytes) -> bool:
    """Hand a body over; return whether the brokers have what follows from it."""
    loop = asyncio.get_running_loop()
    delivered: asyncio.Future[None] = loop.create_future()

    def set_delivered() -> None:
        if not delivered.done():
            delivered.set_result(None)

    def done() -> None:
        with suppress(RuntimeError):  # the server has ended, and its loop with it
            loop.call_soon_threadsafe(set_delivered)

    if not sink.accept(body, done):
        return False
    try:
        await asyncio.wait_for(delivered, _ANSWER_WITHIN_S)
    except TimeoutError:
        return False
    return True


def _answer(status: HTTPStatus, **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status_line(status, **SECURITY_HEADERS, **named)
