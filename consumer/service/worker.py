"""One thread that works through calls in their order, and does not keep the process from ending.

`concurrent.futures` joins its threads when the interpreter ends, however long a call takes: a statement to a database
that is frozen would outlive every shutdown timeout.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Protocol, TypeVar

Answer = TypeVar("Answer")


class Executor(Protocol):
    """Runs calls one after the other, outside the caller's thread; see `Worker`."""

    def submit(self, call: Callable[[], Answer]) -> "Future[Answer]":
        """Queue a call; the future holds what it returns or raises."""

    def end(self) -> None:
        """End once the calls that are queued are done; does not wait."""


class Worker:
    """A daemon thread with a queue of calls.

    Parameters
    ----------
    name
        Of the thread.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def submit(self, call: Callable[[], Answer]) -> "Future[Answer]":
        """Queue a call; the future holds what it returns or raises."""
        future: Future[Answer] = Future()

        def answer() -> None:
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 -- whatever it is, it belongs to the reader of the future
                future.set_exception(error)

        self._calls.put(answer)
        return future

    def end(self) -> None:
        """End the thread once the calls that are queued are done; does not wait."""
        self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
