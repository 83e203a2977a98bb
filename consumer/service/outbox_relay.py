"""Sends what the outbox holds, and removes what is done and old: one process at a time, in a thread of its own.

Delivery: each announcement at least once, the revisions of one visit in their order, none before its rows can be read.
What was sent and not yet marked when a process dies is sent again by the next leader.

While brokers or database are unavailable the thread tries again, with growing pauses. What cannot get better by itself
(a missing table, a missing right) ends the process, as it does in the loop.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Protocol

from consumer.config import Settings
from consumer.errors import FatalError, TransientError, VisitConsumerError
from consumer.events.visit_defined import Announcement, Sent, one_revision_each
from consumer.logs import get_logger
from consumer.metrics import Metrics
from consumer.postgres.backoff import Backoff
from consumer.postgres.connection import error_class
from consumer.postgres.outbox import Outbox
from consumer.service.runtime import Runtime

_LEAD_AGAIN_S = 1.0
"""How often a process that does not hold the lock asks for it: for so long nothing is sent after the leader died."""
_COUNT_EVERY_S = 1.0


class Announcer(Protocol):
    """Who brings announcements to the brokers; see `consumer.kafka.announcer.KafkaAnnouncer`."""

    def send(self, announcements: Sequence[Announcement], stopping: Callable[[], bool]) -> Sent:
        """Send, and wait until the brokers have them or will not have them."""

    def abandon(self) -> None:
        """Drop what is not acknowledged."""


class OutboxRelay:
    """The relay of one process, in a thread of its own.

    Parameters
    ----------
    outbox
        Over a session of its own.
    connect
        Makes an announcer, again after each failure; None: nothing is announced, and old rows are removed alone.
    metrics
        Counts what is sent and what waits.
    settings
        Of the relay.
    give_up
        Called, in the relay's thread, once going on is useless; `failure` says why.
    runtime
        Clocks, threads, pauses and their jitter.
    """

    def __init__(
        self,
        outbox: Outbox,
        connect: Callable[[], Announcer] | None,
        metrics: Metrics,
        settings: Settings,
        *,
        give_up: Callable[[], None],
        runtime: Runtime,
    ) -> None:
        self._outbox = outbox
        self._connect = connect
        self._metrics = metrics
        self._settings = settings
        self._give_up = give_up
        self._announcer: Announcer | None = None
        self._runtime = runtime
        self._stopping = runtime.new_stop_flag()
        self._running: Future[None] | None = None
        self._leads: bool | None = None
        self._count_at_s = self._remove_at_s = 0.0
        self._log = get_logger(__name__)
        self.failure: VisitConsumerError | None = None
        """Why the relay ended by itself."""

    def start(self) -> None:
        """Start the thread; nothing happens when it was started before."""
        if self._running is None and not self._stopping.is_set():
            worker = self._runtime.start_worker("relay")
            self._running = worker.submit(self._run)
            worker.end()

    def stop(self) -> None:
        """Ask the thread to end, from any thread; does not wait."""
        self._stopping.set()

    def close(self, timeout_s: float) -> None:
        """End the thread; one that is blocked in the database is abandoned, and does not delay the exit."""
        self._stopping.set()
        if self._running is not None:
            try:
                self._running.result(timeout_s)
            except TimeoutError:
                self._log.warning("the relay hangs and is left behind")

    def _run(self) -> None:
        backoff = Backoff(self._settings.database.retry_max_s, random=self._runtime.random)
        waits = False
        while not self._stopping.is_set():
            try:
                rest_s = self.turn()
            except TransientError as error:
                self._failed(error, log=not waits)
                waits, rest_s = True, backoff.pause_s()
            except Exception as error:  # noqa: BLE001 -- the top level of this thread: the process ends with it
                self.failure = error if isinstance(error, VisitConsumerError) else FatalError(f"the relay: {error!r}")
                self.failure.__cause__ = error
                self._give_up()
                break
            else:
                if waits:
                    self._log.info("announcements go on")
                waits = False
                backoff.reset()
            self._stopping.wait(rest_s)
        self._drop_announcer()
        self._outbox.close()

    def turn(self) -> float:
        """Send and remove what there is; return how long to rest, seconds."""
        if self._connect is None:
            # No session is kept for the little that there is to do.
            if self._outbox.lead():
                self._remove()
            self._outbox.close()
            return self._settings.retention.interval_s
        leads = self._outbox.lead()
        if leads != self._leads:
            self._leads = leads
            self._log.info("announces" if leads else "another process announces")
        if not leads:
            self._drop_announcer()
            self._count(0, None)
            return _LEAD_AGAIN_S
        now_s = self._runtime.monotonic_s()
        if now_s >= self._remove_at_s:
            self._remove()
            self._remove_at_s = now_s + self._settings.retention.interval_s
        if now_s >= self._count_at_s:
            self._count(*self._outbox.backlog())
            self._count_at_s = now_s + _COUNT_EVERY_S
        found = self._outbox.unsent(self._settings.announce.max_messages)
        if not found:
            return self._settings.announce.interval_s
        self._send(one_revision_each(found))
        return 0.0

    def _send(self, announcements: Sequence[Announcement]) -> None:
        assert self._connect is not None  # noqa: S101 -- asked before
        if self._announcer is None:
            self._announcer = self._connect()
        sent = self._announcer.send(announcements, self._stopping.is_set)
        self._outbox.mark_sent(sent.acknowledged)
        self._metrics.announced.inc(len(sent.acknowledged))
        missing = len(announcements) - len(sent.acknowledged)
        if missing and not self._stopping.is_set():
            self._metrics.announce_errors.inc(missing)
            raise TransientError(f"{missing} announcements were not acknowledged: {sent.complaint}")

    def _remove(self) -> None:
        kept = self._settings.retention
        for name, remove, days in (
            ("announcements", self._outbox.remove_sent, kept.outbox_days),
            ("dead letters", self._outbox.remove_settled, kept.dead_letters_days),
        ):
            total = 0
            while not self._stopping.is_set() and (removed := remove(days)):
                total += removed
            if total:
                self._log.info("old rows removed", rows=name, number=total)

    def _failed(self, error: TransientError, *, log: bool) -> None:
        if error.__cause__ is not None:  # PostgreSQL's
            self._metrics.db_errors.labels(error_class(error)).inc()
        # A new one has today's password, and nothing of what the old one could still send.
        self._drop_announcer()
        if log:
            self._log.warning("announcements wait, trying again", detail=str(error))

    def _drop_announcer(self) -> None:
        announcer, self._announcer = self._announcer, None
        if announcer is not None:
            announcer.abandon()

    def _count(self, waiting: int, oldest_s: float | None) -> None:
        self._metrics.outbox_backlog.set(waiting)
        self._metrics.outbox_oldest.set(oldest_s or 0)
