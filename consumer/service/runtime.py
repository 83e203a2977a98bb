"""Where the process reads time, starts threads, sleeps and draws random numbers: everything else gets a `Runtime`.

So a test, or a simulation of the whole service, decides what time it is and which thread goes on when.
"""

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, perf_counter, time
from typing import Protocol

from consumer.service.worker import Executor, Worker


class StopFlag(Protocol):
    """Set once, when the process ends; what sleeps, sleeps on it. See `threading.Event`."""

    def is_set(self) -> bool:
        """Return whether the process ends."""

    def set(self) -> None:
        """Wake what sleeps, from any thread or a signal handler."""

    def wait(self, timeout: float | None = None) -> bool:
        """Sleep for so many seconds at most; return whether the process ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What a process has of the machine it runs on."""

    monotonic_s: Callable[[], float]
    """Never goes back; for timeouts and intervals, seconds."""
    wall_s: Callable[[], float]
    """UTC seconds since the Unix epoch."""
    stopwatch_s: Callable[[], float]
    """The finest clock there is; for durations in metrics, seconds."""
    start_worker: Callable[[str], Executor]
    """Starts a thread of this name that works through calls in their order."""
    new_stop_flag: Callable[[], StopFlag]
    random: Callable[[], float]
    """Returns numbers in [0, 1)."""

    def now_ms(self) -> int:
        """Return the wall clock as Kafka stamps messages, UTC milliseconds since the Unix epoch."""
        return int(self.wall_s() * 1000)


SYSTEM = Runtime(
    monotonic_s=monotonic,
    wall_s=time,
    stopwatch_s=perf_counter,
    start_worker=Worker,
    new_stop_flag=threading.Event,
    random=random.random,
)
"""The machine itself."""
