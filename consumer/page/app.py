"""The whole application of the page: the API, the bundle's files, probes; and what every answer has in common."""

from http import HTTPStatus
from importlib.resources import files
from pathlib import Path
from typing import Final, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from consumer.page.api import PREFIX
from consumer.web import Health
from consumer.web.read_only import SECURITY_HEADERS, ReadOnly, failed, not_found

PAGE_HEADERS: Final = {name: value for name, value in SECURITY_HEADERS.items() if name != "Cache-Control"} | {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
"""Nothing is loaded from elsewhere, and no script stands in the page itself."""
_INDEX: Final = "index.html"
_MISSING: Final = """The bundle of the page is missing: a wheel has it, a checkout builds it with `make page`.

The API works: /api/v1/openapi.json describes it.
"""


class PageHealth(Protocol):
    """What probes ask."""

    def alive(self) -> Health:
        """Whether the process should go on."""
        ...

    def ready(self) -> Health:
        """Whether it should be sent requests."""
        ...


def bundle_folder() -> Path:
    """Return where the bundle's files are, in an installation that has them."""
    return Path(str(files("consumer.page"))) / "static"


def page_app(api: ASGIApp, health: PageHealth, bundle: Path) -> ASGIApp:
    """Make the application.

    Parameters
    ----------
    api
        Answers below ``/api``.
    health
        What probes ask.
    bundle
        Folder of the files; one without an ``index.html`` is said to be missing.
    """

    async def healthz(_: Request) -> Response:
        return _probe(health.alive())

    async def readyz(_: Request) -> Response:
        return _probe(health.ready())

    async def missing(_: Request) -> Response:
        return PlainTextResponse(_MISSING, HTTPStatus.SERVICE_UNAVAILABLE, {"Cache-Control": "no-store"})

    has_bundle = (bundle / _INDEX).is_file()
    shown = Mount("/", _Bundle(directory=bundle, html=True)) if has_bundle else Route("/", missing)
    app = Starlette(
        routes=[Route("/healthz", healthz), Route("/readyz", readyz), shown],
        exception_handlers={HTTPStatus.NOT_FOUND: not_found, Exception: failed},
    )
    app.router.redirect_slashes = False

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        """Pick the application by path; the API has routes for GET alone, and the server sends no body to HEAD."""
        path = scope["path"]
        if not path.startswith("/api/"):
            await app(scope, receive, send)
        elif path == f"{PREFIX}/events":
            await api(scope, receive, send)
        else:
            await api({**scope, "method": "GET"}, receive, send)

    return ReadOnly(route, PAGE_HEADERS)


class _Bundle(StaticFiles):
    """The bundle's files; any other path without a dot is one of the page's own, and shows the page."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Answer with a file."""
        try:
            response = await super().get_response(path, scope)
        except HTTPException as error:
            if error.status_code != HTTPStatus.NOT_FOUND or "." in path:
                raise
            response = await super().get_response(_INDEX, scope)
        # The names of assets have a digest of what they hold.
        for_ever = path.startswith("assets/") and response.status_code == HTTPStatus.OK
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if for_ever else "no-cache"
        return response


def _probe(health: Health) -> Response:
    status = HTTPStatus.OK if health.ok else HTTPStatus.SERVICE_UNAVAILABLE
    return JSONResponse({"ok": health.ok, "reasons": list(health.reasons)}, status, {"Cache-Control": "no-store"})
