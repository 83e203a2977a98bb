"""The JSON API below ``/api/v1``: parameters in, one question of `consumer.read` each, a bounded answer out."""

from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, FastAPI, HTTPException, Path, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from consumer import __version__
from consumer.config import Settings
from consumer.errors import DataRefusedError, VisitConsumerError
from consumer.events.validation import INT64_MAX
from consumer.logs import get_logger
from consumer.page import answers
from consumer.page.answering import Answers, Sessions
from consumer.page.broadcast import Broadcast
from consumer.page.shapes import status_of, trouble_of, visit_of
from consumer.page.watch import missed_events
from consumer.postgres.connection import Database
from consumer.read.explain import explain_exposure
from consumer.read.night_summary import read_night_lines, read_night_summary
from consumer.read.overview import read_overview, read_waiting_groups
from consumer.read.search import SkyPlace, parse_place, read_cone, read_hits
from consumer.read.trouble import read_audit_lines, read_dead_letter_page, read_first_dead_letters
from consumer.read.visit_rows import VisitId, read_night_page, read_visit_parts

PREFIX: Final = "/api/v1"
_LAST_DAY = 99_991_231
_RETRY_AFTER = {"Retry-After": "1"}
_NAME = r"^[^\x00]+$"
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_EVENT_ID = 4_102_444_800_000_000
"""The year 2100: a later one is none of ours."""

Day = Annotated[int, Path(ge=0, le=_LAST_DAY, description="Observing day, YYYYMMDD.")]
Id = Annotated[int, Path(ge=0, le=INT64_MAX)]
Name = Annotated[str, Path(min_length=1, max_length=256, pattern=_NAME)]
OneInstrument = Annotated[str | None, Query(max_length=256, pattern=_NAME, description="Only of this instrument.")]
After = Annotated[str | None, Query(max_length=300, pattern=_NAME, description="`next` of the page before.")]

_log = get_logger(__name__)


def api(settings: Settings, sessions: Sessions, shared: Answers, broadcast: Broadcast) -> FastAPI:
    """Make the application that answers below `PREFIX`.

    Parameters
    ----------
    settings
        Of the page, and the rules by which groups close.
    sessions
        For what a client that comes back has missed.
    shared
        Answers requests.
    broadcast
        Sends events.
    """
    app = FastAPI(
        title="Visit consumer",
        version=__version__,
        summary="What is stored, what waits and why: nights, visits, exposures, groups, trouble.",
        docs_url=None,
        redoc_url=None,
        openapi_url=f"{PREFIX}/openapi.json",
        redirect_slashes=False,
    )
    app.add_exception_handler(VisitConsumerError, _refuse)
    for router in (
        _nights(shared),
        _visits(settings, shared),
        _finding(shared),
        _service(settings, shared),
        _events(settings, sessions, broadcast),
    ):
        app.include_router(router, prefix=PREFIX)
    return app


def _nights(shared: Answers) -> APIRouter:
    """Return the routes of nights, and of the visits of one."""
    router = APIRouter(tags=["nights"])

    @router.get("/nights", response_model=answers.NightsAnswer)
    async def nights(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=100)] = 60,
        before: Annotated[int, Query(ge=0, le=_LAST_DAY, description="Only nights before this one.")] = _LAST_DAY,
    ) -> Response:
        """List nights of which exposures are stored, the newest first."""

        def make(database: Database) -> answers.NightsAnswer:
            lines = read_night_lines(database, before=before, limit=limit)
            following = lines[-1].day_obs if len(lines) == limit else None
            return answers.NightsAnswer.model_validate({"nights": lines, "next": following})

        return await shared.respond(request, make)

    @router.get("/nights/{day_obs}", response_model=answers.NightAnswer)
    async def night(request: Request, day_obs: Day | Literal["latest"]) -> Response:
        """Count a night by instrument and filter; `latest` is the last of which an exposure is stored."""
        day = None if day_obs == "latest" else day_obs
        return await shared.respond(request, lambda db: answers.NightAnswer.model_validate(read_night_summary(db, day)))

    @router.get("/nights/{day_obs}/visits", response_model=answers.VisitPageAnswer)
    async def visits(
        request: Request,
        day_obs: Day,
        instrument: OneInstrument = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
        after: After = None,
    ) -> Response:
        """List visits of a night, by instrument and id."""
        start = _visit_id(after)

        def make(database: Database) -> answers.VisitPageAnswer:
            rows = read_night_page(database, day_obs, instrument=instrument, limit=limit, after=start)
            return answers.VisitPageAnswer.model_validate({"visits": rows, "next": _next(rows, limit)})

        return await shared.respond(request, make)

    @router.get("/nights/{day_obs}/footprints", response_model=answers.FootprintsAnswer)
    async def footprints(
        request: Request,
        day_obs: Day,
        instrument: OneInstrument = None,
        limit: Annotated[int, Query(ge=1, le=5000)] = 2000,
        after: After = None,
    ) -> Response:
        """List where the visits of a night looked, one polygon each, by instrument and id."""
        start = _visit_id(after)

        def make(database: Database) -> answers.FootprintsAnswer:
            rows = read_night_page(database, day_obs, instrument=instrument, limit=limit, after=start)
            own = {"day_obs": day_obs, "footprints": rows, "next": _next(rows, limit)}
            return answers.FootprintsAnswer.model_validate(own)

        return await shared.respond(request, make)

    return router


def _visits(settings: Settings, shared: Answers) -> APIRouter:
    """Return the routes of one visit, and of one exposure."""
    router = APIRouter(tags=["visits"])

    @router.get("/visits/{instrument}/{visit}", response_model=answers.VisitAnswer)
    async def visit(request: Request, instrument: Name, visit: Id) -> Response:
        """Show a visit with its exposures and the regions of its detectors."""

        def make(database: Database) -> answers.VisitAnswer:
            parts = read_visit_parts(database, instrument, visit)
            if parts is None:
                raise HTTPException(HTTPStatus.NOT_FOUND, "there is no such visit")
            return visit_of(parts)

        return await shared.respond(request, make)

    @router.get("/exposures/{exposure}", response_model=answers.ExplanationsAnswer)
    async def exposure(request: Request, exposure: Id, instrument: OneInstrument = None) -> Response:
        """Explain what became of an exposure, for each instrument that has one of this id."""

        def make(database: Database) -> answers.ExplanationsAnswer:
            return answers.ExplanationsAnswer(explanations=explain_exposure(database, settings, exposure, instrument))

        return await shared.respond(request, make)

    return router


def _finding(shared: Answers) -> APIRouter:
    """Return the routes that find visits and exposures."""
    router = APIRouter(tags=["search"])

    @router.get("/cone", response_model=answers.ConeAnswer)
    async def cone(
        request: Request,
        ra_deg: Annotated[float, Query(ge=0, le=360, description="Right ascension, ICRS.")],
        dec_deg: Annotated[float, Query(ge=-90, le=90, description="Declination, ICRS.")],
        radius_deg: Annotated[float, Query(ge=0, le=5, description="0: visits that contain the place.")] = 0.0,
        instrument: OneInstrument = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
    ) -> Response:
        """List the visits whose regions contain a place, or overlap a circle around it; the newest night first."""
        place = SkyPlace(ra_deg, dec_deg)

        def make(database: Database) -> answers.ConeAnswer:
            rows, truncated = read_cone(database, place, radius_deg=radius_deg, instrument=instrument, limit=limit)
            return answers.ConeAnswer.model_validate({"visits": rows, "truncated": truncated})

        return await shared.respond(request, make)

    @router.get("/search", response_model=answers.FoundAnswer)
    async def search(
        request: Request,
        q: Annotated[str, Query(min_length=1, max_length=200, pattern=_NAME)],
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
    ) -> Response:
        """Find visits and exposures by id, obs_id, name, group, the beginning of a target's name, or a position."""
        text = q.strip()
        place = parse_place(text)

        def make(database: Database) -> answers.FoundAnswer:
            if place is None:
                hits: list[Any] = list(read_hits(database, text, limit=limit + 1))
                truncated = len(hits) > limit
            else:
                rows, truncated = read_cone(database, place, limit=limit)
                hits = [
                    answers.HitAnswer(
                        kind="visit", instrument=x.instrument, id=x.visit, label=x.name, day_obs=x.day_obs
                    )
                    for x in rows
                ]
            own = {"q": q, "position": place, "results": hits[:limit], "truncated": truncated}
            return answers.FoundAnswer.model_validate(own)

        return await shared.respond(request, make)

    return router


def _service(settings: Settings, shared: Answers) -> APIRouter:
    """Return the routes of the service itself: what waits, and what is wrong."""
    router = APIRouter(tags=["service"])
    page = settings.page

    @router.get("/about", response_model=answers.AboutAnswer)
    async def about(request: Request) -> answers.AboutAnswer:
        """Name the release, the user and the site."""
        user = request.headers.get(page.user_header) if page.user_header else None
        site = None if page.site is None else answers.SiteAnswer.model_validate(page.site)
        return answers.AboutAnswer(version=__version__, user=user, site=site)

    @router.get("/groups", response_model=answers.GroupsAnswer)
    async def groups(request: Request, limit: Annotated[int, Query(ge=1, le=500)] = 100) -> Response:
        """List open groups, the oldest first, and what each waits for."""
        return await shared.respond(
            request, lambda db: answers.GroupsAnswer.model_validate(read_waiting_groups(db, limit=limit))
        )

    @router.get("/status", response_model=answers.StatusAnswer)
    async def status(request: Request) -> Response:
        """Show the whole service: problems, replicas, partitions."""
        return await shared.respond(request, lambda db: status_of(read_overview(db)))

    @router.get("/trouble", response_model=answers.TroubleAnswer)
    async def trouble(request: Request) -> Response:
        """Show what is wrong: dead letters by reason, partitions that are not read, findings of audits."""
        return await shared.respond(
            request, lambda db: trouble_of(read_overview(db), read_first_dead_letters(db), read_audit_lines(db))
        )

    @router.get("/dead-letters", response_model=answers.DeadLettersAnswer)
    async def dead_letters(
        request: Request,
        reason: Annotated[str | None, Query(max_length=256, pattern=_NAME)] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
        after: Annotated[int, Query(ge=0, le=INT64_MAX, description="`next` of the page before.")] = 0,
    ) -> Response:
        """List open dead letters, oldest first."""

        def make(database: Database) -> answers.DeadLettersAnswer:
            lines = read_dead_letter_page(database, after=after, limit=limit, reason=reason)
            following = lines[-1].id if len(lines) == limit else None
            return answers.DeadLettersAnswer.model_validate({"dead_letters": lines, "next": following})

        return await shared.respond(request, make)

    return router


def _events(settings: Settings, sessions: Sessions, broadcast: Broadcast) -> APIRouter:
    router = APIRouter(tags=["events"])

    def missed(event_id: int) -> list[tuple[str, bytes, int]]:
        try:
            with sessions.lend() as database:
                return missed_events(database, _EPOCH + event_id * _MICROSECOND, event_id)
        except VisitConsumerError:
            return [("reload", b"{}", event_id)]

    @router.get("/events", response_class=StreamingResponse, responses={200: {"content": {"text/event-stream": {}}}})
    async def events(request: Request) -> Response:
        """Stream what changes, as server-sent events: `state`, `visits`, `groups`, `reload`, `stale`, `heartbeat`."""
        if broadcast.clients >= settings.page.max_clients:
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, "too many pages are open", _RETRY_AFTER)
        last = request.headers.get("Last-Event-ID", "")
        event_id = int(last) if last.isascii() and last.isdigit() and len(last) <= len(str(_LAST_EVENT_ID)) else 0
        ours = 0 < event_id < _LAST_EVENT_ID
        stream = broadcast.stream((lambda: missed(event_id)) if ours else None)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)

    return router


def _refuse(_: Request, error: Exception) -> Response:
    """Answer where the tables cannot be asked; what PostgreSQL says of it is for the log alone."""
    if isinstance(error, DataRefusedError):
        return JSONResponse({"detail": "the database takes no such value"}, HTTPStatus.UNPROCESSABLE_ENTITY)
    _log.warning("a question failed", error=str(error))
    detail = {"detail": "the database cannot be asked now"}
    return JSONResponse(detail, HTTPStatus.SERVICE_UNAVAILABLE, _RETRY_AFTER)


def _visit_id(text: str | None) -> VisitId | None:
    """Read where a page begins: an instrument and a visit."""
    if text is None:
        return None
    instrument, slash, visit = text.rpartition("/")
    if not slash or not visit.isascii() or not visit.isdigit() or int(visit) > INT64_MAX:
        raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, "after is none that a page named as its next")
    return instrument, int(visit)


def _next(rows: list[Any], limit: int) -> str | None:
    return f"{rows[-1].instrument}/{rows[-1].visit}" if len(rows) == limit else None
