"""What every answer has in common: GET and HEAD alone, security headers, and no word about a fault."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from consumer.logs import get_logger

SECURITY_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_log = get_logger(__name__)


def status_line(status: HTTPStatus, **headers: str) -> Response:
    """Return a bare status as one line of text; nothing of the request is repeated."""
    return PlainTextResponse(f"{status.value} {status.phrase}\n", status_code=status, headers=headers)


async def not_found(_: Request, __: Exception) -> Response:
    """Answer a path that there is not (an exception handler of Starlette)."""
    return status_line(HTTPStatus.NOT_FOUND)


async def failed(_: Request, __: Exception) -> Response:
    """Answer where a page failed; Starlette raises what it raised again, and `ReadOnly` logs it."""
    return status_line(HTTPStatus.INTERNAL_SERVER_ERROR)


class ReadOnly:
    """ASGI middleware around a whole application.

    Parameters
    ----------
    app
        The application; what it raises is logged.
    headers
        Of every answer.
    """

    def __init__(self, app: ASGIApp, headers: Mapping[str, str] = SECURITY_HEADERS) -> None:
        self._app = app
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        if scope["method"] not in {"GET", "HEAD"}:
            refused = status_line(HTTPStatus.METHOD_NOT_ALLOWED, Allow="GET, HEAD", Connection="close")
            await refused(scope, receive, guarded)
            return
        try:
            await self._app(scope, receive, guarded)
        except Exception:  # noqa: BLE001 -- the top of this request: a page that fails must not show why
            _log.exception("page failed", path=scope["path"])
