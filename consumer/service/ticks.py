"""When the wall clock may close groups: at the end of a log, where a group is due, once the brokers confirm the end."""

from collections.abc import Callable

from consumer.service.batch import MOST_GROUPS_OF_A_TICK, Batch, BatchResult
from consumer.service.batch_builder import BatchBuilder
from consumer.service.log_watch import EndWatch

_NEVER_MS = 2**63


class TickScheduler:
    """Decides when the next tick is written, and for which partitions.

    Parameters
    ----------
    builder
        Knows which partitions are read to their end.
    ends
        Asks the brokers whether that is the end.
    interval_s
        Pause between two ticks, seconds of the monotonic clock.
    idle
        Called when every partition is read to its end and nothing is gathered.
    """

    def __init__(
        self, builder: BatchBuilder, ends: EndWatch, *, interval_s: float, idle: Callable[[], None] = lambda: None
    ) -> None:
        self._builder = builder
        self._ends = ends
        self._interval_s = interval_s
        self._idle = idle
        self._next_s = 0.0
        self._deadlines_ms: dict[int, int] = {}
        """When the earliest open group of a position is due, UTC milliseconds; unknown until something is written."""

    def next(self, now_s: float, now_ms: int) -> Batch | None:
        """Return the tick that is to be written now, for the partitions whose end the brokers confirm.

        What moved since the brokers were asked is left out.

        Parameters
        ----------
        now_s
            Of the monotonic clock.
        now_ms
            The wall clock, UTC milliseconds.
        """
        if not self._ends.asking and now_s >= self._next_s:
            tick = self._due(now_s, now_ms)
            if tick is not None:
                self._ends.ask(tick)
        confirmed = self._ends.answer()
        return None if confirmed is None else self._builder.still_idle(confirmed)

    def committed(self, batch: Batch, result: BatchResult) -> None:
        """Note when groups are due next, after a batch or a tick was committed."""
        for offset_id in batch.stream_times_ms:
            waiting = result.waiting.get(offset_id)
            self._deadlines_ms[offset_id] = _NEVER_MS if waiting is None else waiting.next_deadline_ms
        if not batch.events and len(result.closed) == MOST_GROUPS_OF_A_TICK:
            self._next_s = 0.0  # more may be due already

    def forget(self, offset_id: int) -> None:
        """Forget what was known of a position: another replica may have opened groups on it."""
        self._deadlines_ms.pop(offset_id, None)

    def end(self) -> None:
        """End the thread that asks the brokers."""
        self._ends.end()

    def _due(self, now_s: float, now_ms: int) -> Batch | None:
        """Make a tick for the partitions at whose end a group may be due by the wall clock."""
        tick = self._builder.tick(now_ms)
        if tick is None:
            return None
        self._next_s = now_s + self._interval_s
        if not self._builder.gathered.messages and not self._builder.stalled and self._builder.caught_up:
            self._idle()
        # A position that was not written to yet may have groups from the partition's former owner.
        return tick.restricted_to(
            {id_ for id_, at_ms in tick.stream_times_ms.items() if self._deadlines_ms.get(id_, 0) <= at_ms}
        )
