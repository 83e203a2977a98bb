"""SIGTERM and SIGINT ask a process to stop; one that does not within its time is ended by force."""

import faulthandler
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol

WATCHDOG_EXIT_CODE = 70
"""EX_SOFTWARE: a shutdown that hung was ended by force. Nothing is lost by it."""


class ShutdownLog(Protocol):
    """As much of a logger as a shutdown needs; see `consumer.logs.get_logger`."""

    def info(self, event: str, **facts: Any) -> object:
        """Log what goes well."""

    def error(self, event: str, **facts: Any) -> object:
        """Log what does not."""


@contextmanager
def stops_on_signals(stop: Callable[[], None], *, timeout_s: float, log: ShutdownLog) -> Iterator[None]:
    """Call `stop` on SIGTERM and SIGINT while the body runs, and end the process where that takes too long.

    Parameters
    ----------
    stop
        Sets flags; it runs within a signal handler, whatever the main thread is doing.
    timeout_s
        From the first signal to the end by force.
    log
        Says both.
    """

    def handle(number: int, _: FrameType | None) -> None:
        # Flags first: a log line that was interrupted by the signal may make the one here fail.
        stop()
        if watchdog.ident is None:  # a second signal is no second start
            watchdog.start()
        log.info("asked to stop", signal=signal.Signals(number).name)

    def exit_now() -> None:
        log.error("the shutdown hangs, ended by force", timeout_s=timeout_s)
        faulthandler.dump_traceback()  # to standard error: where each thread is
        os._exit(WATCHDOG_EXIT_CODE)

    watchdog = threading.Timer(timeout_s, exit_now)
    watchdog.daemon = True
    former = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        watchdog.cancel()
        for number, handler in former.items():
            signal.signal(number, handler)
