"""Answers that many clients share: asked of the tables once for each look of the watcher, and encoded once.

Two hundred open pages ask the same questions at the same moment. An answer holds until the watcher has looked again,
and for a second at most.
"""

import asyncio
import gzip
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from http import HTTPStatus
from queue import Empty, LifoQueue
from time import monotonic
from typing import Final

from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from consumer.config import DatabaseSettings
from consumer.errors import TransientError
from consumer.postgres.connection import Database

_HOLDS_S: Final = 1.0
_KEPT: Final = 64
"""Answers; the largest are some megabytes."""
_COMPRESSED_FROM_BYTES: Final = 1024
_SESSION_WITHIN_S: Final = 1.5
"""A request that finds no free session in this time is answered 503."""
_STATEMENT_TIMEOUT_S: Final = 3.0
"""With the time before it, less than a connection is given for its answer (`consumer.web.server`)."""

READ_ONLY: Final = {"default_transaction_read_only": "on"}
"""What every session of the page has set."""


def page_database(settings: DatabaseSettings) -> DatabaseSettings:
    """Return the settings of the page's sessions: no person waits as long as a service may."""
    within = min(settings.statement_timeout_s, _STATEMENT_TIMEOUT_S)
    return settings.model_copy(update={"statement_timeout_s": within})


class Sessions:
    """Some sessions, each lent to one thread at a time and opened at first use.

    Parameters
    ----------
    settings
        Where; the reader role is enough.
    number
        How many at most.
    """

    def __init__(self, settings: DatabaseSettings, number: int) -> None:
        self._free: LifoQueue[Database] = LifoQueue()
        for _ in range(number):
            own = page_database(settings)
            self._free.put(Database(own, application_name="visit-consumer page", session=READ_ONLY))

    @contextmanager
    def lend(self) -> Iterator[Database]:
        """Lend a session; raises TransientError where none becomes free in time."""
        try:
            database = self._free.get(timeout=_SESSION_WITHIN_S)
        except Empty:
            raise TransientError("every session of the page is busy") from None
        try:
            yield database
        finally:
            self._free.put(database)

    def close(self) -> None:
        """End the sessions that are not lent."""
        while True:
            try:
                self._free.get_nowait().close()
            except Empty:
                return


class _Encoded:
    """An answer as bytes."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.compressed = gzip.compress(body, compresslevel=1, mtime=0) if len(body) >= _COMPRESSED_FROM_BYTES else body
        self.etag = f'W/"{blake2b(body, digest_size=12).hexdigest()}"'


class _Slot:
    """One question that is being asked, or its answer."""

    def __init__(self, look: int, asked: "asyncio.Future[_Encoded]") -> None:
        self.look = look
        self.made_at_s = monotonic()
        self.asked = asked


class Answers:
    """Answers requests from the tables, in one event loop; the questions are asked in threads.

    Parameters
    ----------
    sessions
        For the questions.
    look
        Returns the number of times that the watcher has looked: answers of former looks hold no more.
    """

    def __init__(self, sessions: Sessions, look: Callable[[], int]) -> None:
        self._sessions = sessions
        self._look = look
        self._slots: OrderedDict[str, _Slot] = OrderedDict()

    async def respond(self, request: Request, make: Callable[[Database], BaseModel]) -> Response:
        """Answer a request: 200, or 304 where the client has it already.

        Parameters
        ----------
        request
            Its path and its query name the answer.
        make
            Asks the tables, in a thread; what it raises, all that wait for this answer get.
        """
        # One client that leaves does not take the answer from the others.
        answer = await asyncio.shield(self._asked(f"{request.url.path}?{request.url.query}", make))
        return _response(request, answer)

    def _asked(self, name: str, make: Callable[[Database], BaseModel]) -> "asyncio.Future[_Encoded]":
        look = self._look()
        slot = self._slots.pop(name, None)
        if slot is None or slot.look != look or monotonic() - slot.made_at_s > _HOLDS_S or _has_failed(slot.asked):
            slot = _Slot(look, asyncio.ensure_future(run_in_threadpool(self._ask, make)))
            slot.asked.add_done_callback(_has_failed)  # asyncio complains of an error that is never looked at
        self._slots[name] = slot
        if len(self._slots) > _KEPT:
            self._slots.popitem(last=False)
        return slot.asked

    def _ask(self, make: Callable[[Database], BaseModel]) -> _Encoded:
        with self._sessions.lend() as database:
            answer = make(database)
        return _Encoded(answer.model_dump_json().encode())


def _has_failed(asked: "asyncio.Future[_Encoded]") -> bool:
    return asked.done() and (asked.cancelled() or asked.exception() is not None)


def _response(request: Request, answer: _Encoded) -> Response:
    headers = {"ETag": answer.etag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    known = {each.strip() for each in request.headers.get("If-None-Match", "").split(",")}
    if answer.etag in known:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    body = answer.body
    if answer.compressed is not body and "gzip" in request.headers.get("Accept-Encoding", ""):
        body = answer.compressed
        headers["Content-Encoding"] = "gzip"
    return Response(body, media_type="application/json", headers=headers)
