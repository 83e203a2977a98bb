"""What has to be asked of the brokers again and again, in threads of their own: identity and end of the logs."""

from collections.abc import Collection, Iterable
from concurrent.futures import Future

from consumer.errors import TransientError
from consumer.model import OffsetUpdate, PartitionId
from consumer.service.batch import Batch
from consumer.service.leases import Log, PartitionLease, belonging_to_another_log, identify_topics
from consumer.service.runtime import Runtime

_WATCH_EVERY_S = 5.0
"""How often topics are asked for their ids."""
_ENOUGH_FAILURES = 2
"""Unanswered questions after which no further partition is asked about in one go."""


class TopicWatch:
    """Asks whether the topics that are read are still the same logs.

    A topic that was deleted and recreated under its name has another id. Kafka's client does not report it: where the
    new log is long enough already, it reads on in its middle. What was read of it by then is read again, from its
    start; raws that are read twice change nothing, and what would be dead-lettered twice waits for `recreated_logs`.

    Parameters
    ----------
    log
        Kafka.
    runtime
        Starts the thread.
    """

    def __init__(self, log: Log, runtime: Runtime) -> None:
        self._log = log
        self._worker = runtime.start_worker("topics")
        self._asked: Future[dict[str, tuple[str, str]]] | None = None
        self._next_s = 0.0

    def recreated(self, leases: Collection[PartitionLease], now_s: float) -> list[PartitionId]:
        """Return the partitions that belong to another log than was leased, as far as is known; never waits."""
        asked = self._asked
        if asked is None:
            if leases and now_s >= self._next_s:
                topics = {lease.partition.topic for lease in leases}
                self._asked = self._worker.submit(lambda: identify_topics(self._log, topics))
            return []
        if not asked.done():
            return []
        self._asked, self._next_s = None, now_s + _WATCH_EVERY_S
        return belonging_to_another_log(leases, asked.result())

    def end(self) -> None:
        """End the thread; does not wait."""
        self._worker.end()


class EndWatch:
    """Asks whether logs still end where a tick assumes: only then it may close groups.

    This replica may have been frozen, or cut off from the brokers, since it read to the end; then groups seem idle
    whose exposures wait in the log. A partition whose broker did not answer comes last the next time.

    Parameters
    ----------
    log
        Kafka.
    runtime
        Starts the thread.
    """

    def __init__(self, log: Log, runtime: Runtime) -> None:
        self._log = log
        self._worker = runtime.start_worker("ends")
        self._silent: set[int] = set()
        self._tick: Batch | None = None
        self._asked: Future[set[int]] | None = None

    @property
    def asking(self) -> bool:
        """Whether a question is open, or its answer was not taken yet."""
        return self._asked is not None

    def ask(self, tick: Batch) -> None:
        """Ask about the partitions of a tick; returns at once."""
        self._tick, self._asked = tick, self._worker.submit(lambda: self._at_end(tick.offset_updates))

    def answer(self) -> Batch | None:
        """Take the part of the tick that is confirmed; None while that is not known, or where nothing is."""
        if self._asked is None or self._tick is None or not self._asked.done():
            return None
        tick, asked = self._tick, self._asked
        self._tick = self._asked = None
        return tick.restricted_to(asked.result())

    def end(self) -> None:
        """End the thread; does not wait."""
        self._worker.end()

    def _at_end(self, updates: Iterable[OffsetUpdate]) -> set[int]:
        at_end: set[int] = set()
        silent: set[int] = set()
        for update in sorted(updates, key=lambda each: each.offset_id in self._silent):
            if len(silent) == _ENOUGH_FAILURES:
                break  # the others might time out too, one after the other
            try:
                _, high = self._log.watermarks(update.partition)
            except TransientError:
                silent.add(update.offset_id)
                continue
            self._silent.discard(update.offset_id)
            if update.next_offset is not None and update.next_offset >= high:
                at_end.add(update.offset_id)
        self._silent |= silent
        return at_end
