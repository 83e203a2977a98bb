"""The service's port: what Prometheus, Kubernetes and people ask of one replica."""

from http import HTTPStatus

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from consumer.web.health import Health, HealthSource
from consumer.web.read_only import ReadOnly, failed, not_found
from consumer.web.status_page import status_page

_COMPRESSED_FROM_BYTES = 1024


def read_only_port(registry: CollectorRegistry, health: HealthSource) -> ASGIApp:
    """Make the application of the service's port.

    Parameters
    ----------
    registry
        What ``/metrics`` shows.
    health
        What the other pages show; asked from the server's thread.
    """

    async def status(_: Request) -> Response:
        return HTMLResponse(status_page(health.status(), health.alive(), health.ready()))

    async def metrics(request: Request) -> Response:
        """Answer a scrape in the form that it asks for: Prometheus' text or OpenMetrics."""
        try:
            encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        except (TypeError, ValueError):  # a version that is no number
            encode, content_type = choose_encoder("")
        return Response(encode(registry), headers={"Content-Type": content_type})

    async def healthz(_: Request) -> Response:
        return _probe(health.alive())

    async def readyz(_: Request) -> Response:
        return _probe(health.ready())

    app = Starlette(
        routes=[
            Route("/", status),
            Route("/metrics", metrics),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
        ],
        middleware=[Middleware(GZipMiddleware, minimum_size=_COMPRESSED_FROM_BYTES, compresslevel=1)],
        exception_handlers={HTTPStatus.NOT_FOUND: not_found, Exception: failed},
    )
    app.router.redirect_slashes = False
    return ReadOnly(app)


def _probe(health: Health) -> Response:
    """Answer a probe: 200 or 503, with the reasons."""
    status = HTTPStatus.OK if health.ok else HTTPStatus.SERVICE_UNAVAILABLE
    return JSONResponse({"ok": health.ok, "reasons": list(health.reasons)}, status_code=status)
