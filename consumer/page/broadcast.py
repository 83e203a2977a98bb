"""Server-sent events to every open page (the event stream of the HTML standard, section 9.2).

An event is encoded once and put into the queue of each client. A client that does not take its events in time is
disconnected; it comes back by itself, and says which event it has seen last.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime
from threading import Event
from typing import Final

from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool

HEARTBEAT_S: Final = 5.0
"""A client that has heard nothing for three of them is cut off."""
_WAITING: Final = 32
"""Events that may wait for one client."""
_RETRY_MS: Final = 2000
_REPLACED: Final = ("state", "groups", "stale")
"""Events that replace the last one of their name: a new client is sent them at once."""


class Broadcast:
    """The open pages. Its methods run in the server's event loop, unless they say otherwise."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queues: set[asyncio.Queue[bytes | None]] = set()
        self._last: dict[str, bytes] = {}
        self.watched = Event()
        """Set while a page is open; may be waited for in any thread."""
        self.first_pages = 0
        """How often a page was opened while no other was: it has to be sent everything."""

    @property
    def clients(self) -> int:
        """Number of open pages."""
        return len(self._queues)

    def publish(self, name: str, data: bytes, event_id: int) -> None:
        """Send an event to every client; called from any thread.

        Parameters
        ----------
        name
            Of the event.
        data
            JSON on one line.
        event_id
            What a client that comes back says it has seen.
        """
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # the server has ended, and its loop with it
                loop.call_soon_threadsafe(self._deliver, name, _frame(name, data, event_id))

    async def stream(self, missed: Callable[[], list[tuple[str, bytes, int]]] | None) -> AsyncIterator[bytes]:
        """Yield what one client is sent, until it goes.

        Parameters
        ----------
        missed
            Reads, in another thread, what a client that comes back has missed: names, data and ids of events.
        """
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(_WAITING)
        self._loop = asyncio.get_running_loop()
        self.first_pages += not self._queues
        self._queues.add(queue)
        self.watched.set()
        try:
            yield b"retry: %d\n\n" % _RETRY_MS
            for frame in list(self._last.values()):
                yield frame
            if missed is not None:
                for name, data, event_id in await run_in_threadpool(missed):
                    yield _frame(name, data, event_id)
            while (following := await _next(queue)) is not None:
                yield following
        finally:
            self._queues.discard(queue)
            if not self._queues:
                self.watched.clear()
                self._last.clear()

    def _deliver(self, name: str, frame: bytes) -> None:
        if not self._queues:
            return  # the last client went while this was on its way
        if name in _REPLACED:
            self._last[name] = frame
        if name == "state":
            self._last.pop("stale", None)
        for queue in list(self._queues):
            try:
                queue.put_nowait(frame)
            except asyncio.QueueFull:
                self._queues.discard(queue)
                while not queue.empty():
                    queue.get_nowait()
                queue.put_nowait(None)


async def _next(queue: "asyncio.Queue[bytes | None]") -> bytes | None:
    try:
        return await asyncio.wait_for(queue.get(), HEARTBEAT_S)
    except TimeoutError:
        return b"event: heartbeat\ndata: %b\n\n" % to_json({"at": datetime.now(UTC)})


def _frame(name: str, data: bytes, event_id: int) -> bytes:
    return b"event: %b\nid: %d\ndata: %b\n\n" % (name.encode(), event_id, data)
