"""Answers that many clients share: asked of the tables once for each look of the watcher, and encoded once.

Two hundred open pages ask the same questions at the same moment. An answer holds until the watcher has looked again,
and for a second at most.
"""

import gzip
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from hashlib import blake2b
from http import HTTPStatus
from queue import Empty, LifoQueue
from threading import Lock
from time import monotonic
from typing import Final

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from consumer.config import DatabaseSettings
from consumer.errors import TransientError
from consumer.postgres.connection import Database

_HOLDS_S: Final = 1.0
_KEPT: Final = 64
"""Answers; the largest are some megabytes."""
_COMPRESSED_FROM_BYTES: Final = 1024
_SESSION_WITHIN_S: Final = 4.0
"""A request that finds no free session in this time is answered 503."""
_STATEMENT_TIMEOUT_S: Final = 5.0

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
        self.etag = f'W/"{blake2b(body, digest_size=12).hexdigest()}"'

    @cached_property
    def compressed(self) -> bytes:
        """The same, by gzip."""
        return gzip.compress(self.body, compresslevel=1, mtime=0)


class _Slot:
    """One question while it is being asked, and its answer."""

    def __init__(self, look: int) -> None:
        self.look = look
        self.made_at_s = monotonic()
        self.lock = Lock()
        self.answer: _Encoded | None = None


class Answers:
    """Answers requests from the tables. Thread-safe.

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
        self._lock = Lock()
        self._slots: OrderedDict[str, _Slot] = OrderedDict()

    def respond(self, request: Request, make: Callable[[Database], BaseModel]) -> Response:
        """Answer a request: 200, or 304 where the client has it already.

        Parameters
        ----------
        request
            Its path and its query name the answer.
        make
            Asks the tables; it raises `VisitConsumerError` where they cannot be asked, and HTTPException.
        """
        slot = self._slot(f"{request.url.path}?{request.url.query}")
        with slot.lock:
            if slot.answer is None:
                with self._sessions.lend() as database:
                    answer = make(database)
                slot.answer = _Encoded(answer.model_dump_json().encode())
            return _response(request, slot.answer)

    def _slot(self, name: str) -> _Slot:
        look = self._look()
        with self._lock:
            slot = self._slots.pop(name, None)
            if slot is None or slot.look != look or monotonic() - slot.made_at_s > _HOLDS_S:
                slot = _Slot(look)
            self._slots[name] = slot
            if len(self._slots) > _KEPT:
                self._slots.popitem(last=False)
            return slot


def _response(request: Request, answer: _Encoded) -> Response:
    headers = {"ETag": answer.etag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    known = {each.strip() for each in request.headers.get("If-None-Match", "").split(",")}
    if answer.etag in known:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    body = answer.body
    if len(body) >= _COMPRESSED_FROM_BYTES and "gzip" in request.headers.get("Accept-Encoding", ""):
        body = answer.compressed
        headers["Content-Encoding"] = "gzip"
    return Response(body, media_type="application/json", headers=headers)
