"""The one writer: batches and claims as transactions, retried until they are decided, in a thread of their own.

Every method that returns a future runs in that one thread, in the order of the calls. While the database is unavailable
a call retries with growing pauses and for ever, so that the loop only has to wait, and to keep the group served.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import NamedTuple, Protocol, TypeVar

from consumer.domain import Instrument
from consumer.errors import (
    DataRefusedError,
    DeadLetterReason,
    FatalError,
    FencedError,
    TransientError,
    VisitConsumerError,
)
from consumer.events.visit_defined import Announce
from consumer.logs import get_logger
from consumer.metrics import Metrics
from consumer.model import DeadLetter
from consumer.postgres.backoff import Backoff
from consumer.postgres.connection import error_class, took_too_long
from consumer.service.apply_batch import TooManyGroupsError, apply_batch
from consumer.service.batch import MOST_GROUPS_OF_A_TICK, Batch, BatchResult, bisect, closing_before
from consumer.service.leases import PositionStore
from consumer.service.runtime import Runtime
from consumer.service.tables import Tables

_TOO_LONG_ATTEMPTS = 3
"""After so many attempts that the server ended for their length, the batch is halved. One that cannot be halved gets
twice as long, and again twice as long at each further attempt."""
_MOST_DOUBLINGS = 4
_ROLLED_BACK = "40"
_ROLLED_BACK_ATTEMPTS = 5

Answer = TypeVar("Answer")


class Written(NamedTuple):
    """One committed transaction."""

    batch: Batch
    result: BatchResult


class _HalveError(Exception):
    """A batch is too much for the server's bounds, or decides by its borders which group has a contested visit."""


class StoppedError(VisitConsumerError):
    """The process is asked to end while a call waits for the database."""


class Store(Protocol):
    """The session in which batches are written; see `consumer.postgres.batch_tables.BatchStore`."""

    def transaction(self, *, timeout_factor: int = 1) -> AbstractContextManager[Tables]:
        """Run the body in one transaction, with so many times the usual timeouts."""

    def close(self) -> None:
        """End the session."""

    def cancel(self) -> None:
        """Ask the server, from any thread, to end the running statement."""


class Writer:
    """Owns the database session of the loop.

    Parameters
    ----------
    store
        The session; used in the writer's thread alone.
    positions
        Rows of the fence, over the same session.
    rules
        By instrument.
    metrics
        Counts errors and bisections.
    announce
        Encodes announcements; None where visits are not announced.
    retry_max_s
        Longest pause between two attempts, seconds.
    runtime
        Clocks, threads, pauses and their jitter.
    """

    def __init__(
        self,
        store: Store,
        positions: PositionStore,
        rules: Mapping[str, Instrument],
        metrics: Metrics,
        *,
        announce: Announce | None,
        retry_max_s: float,
        runtime: Runtime,
    ) -> None:
        self._store = store
        self.positions = positions
        self._rules = rules
        self._metrics = metrics
        self._announce = announce
        self._retry_max_s = retry_max_s
        self._runtime = runtime
        self._stopping = runtime.new_stop_flag()
        self._thread = runtime.start_worker("writer")
        self._log = get_logger(__name__)
        self.unavailable: str | None = None
        """What the database said last, while calls are being retried; None while it answers."""

    def write(self, batch: Batch) -> "Future[list[Written]]":
        """Write a batch; the future gives the transactions that it became: one, unless it had to be halved.

        The future raises `FencedError` when the partitions are not ours or not where we left them (what is not
        committed is dropped), `FatalError` when going on is useless, and `StoppedError` when the process ends.
        """
        return self._thread.submit(lambda: self._write(batch))

    def ask(self, question: Callable[[], Answer]) -> "Future[Answer]":
        """Run anything else that needs the session; retried like a batch."""
        return self._thread.submit(lambda: self._retried(question))

    def stop(self) -> None:
        """Stop retrying, from any thread; the running statement goes on."""
        self._stopping.set()

    def close(self, timeout_s: float) -> None:
        """End the thread and the session; a statement that runs longer than this is cancelled."""
        self._stopping.set()
        closed = self._thread.submit(self._store.close)
        self._thread.end()
        try:
            closed.result(timeout_s)
        except TimeoutError:
            self._store.cancel()

    def _write(self, batch: Batch) -> list[Written]:
        try:
            return [Written(batch, self._commit(batch))]
        except _HalveError:
            return self._halves(batch)
        except TooManyGroupsError:
            return self._close_due_first(batch)
        except DataRefusedError as error:
            # Two replicas that define one visit at the same moment meet here; the second look sees what the first did.
            self._log.warning("PostgreSQL refuses a row, trying again", detail=error.detail, sqlstate=error.sqlstate)
        return self._half(batch)

    def _isolate(self, batch: Batch, error: DataRefusedError) -> list[Written]:
        """Halve a refused batch until the one bad event is a dead letter and its neighbours are stored."""
        if len(batch.events) > 1:
            return self._halves(batch)
        try:
            return [Written(batch, self._commit(batch, visits_alone=True))]
        except DataRefusedError:
            if not batch.events:
                raise FatalError(f"a batch without events is refused: {error.detail}") from error
        exposure, message = batch.events[0].ingested.exposure, batch.events[0].message
        letter = DeadLetter(
            reason=DeadLetterReason.REFUSED_BY_DATABASE,
            detail=error.detail,
            instrument=exposure.instrument,
            exposure=exposure.id,
            message=message,
        )
        refused = replace(batch, events=(), dead_letters=(*batch.dead_letters, letter))
        # A group that falls due in the same moment may be refused too: its visits stand alone here as well.
        return [Written(refused, self._commit(refused, visits_alone=True))]

    def _halves(self, batch: Batch) -> list[Written]:
        self._metrics.bisections.inc()
        first, second = bisect(batch)
        done = self._half(first)
        try:
            return done + self._half(second)
        except FencedError as error:
            error.committed[:0] = done
            raise

    def _close_due_first(self, batch: Batch) -> list[Written]:
        """Close what is due before the first event, a bounded number at a time, and apply the batch in parts then."""
        tick = closing_before(batch)
        done: list[Written] = []
        try:
            while not done or len(done[-1].result.closed) == MOST_GROUPS_OF_A_TICK:
                done += self._half(tick)
            if len(batch.events) > 1:
                return done + self._halves(batch)
            return done + self._half(batch, bounded=False)
        except FencedError as error:
            error.committed[:0] = done
            raise

    def _half(self, batch: Batch, *, bounded: bool = True) -> list[Written]:
        try:
            return [Written(batch, self._commit(batch, bounded=bounded))]
        except _HalveError:
            return self._halves(batch)
        except TooManyGroupsError:
            return self._close_due_first(batch)
        except DataRefusedError as error:
            return self._isolate(batch, error)

    def _commit(self, batch: Batch, *, visits_alone: bool = False, bounded: bool = True) -> BatchResult:
        """Apply a batch in one transaction, until it is known to have happened, or to be refused."""
        last: BatchResult | None = None
        too_long = 0

        def attempt() -> BatchResult:
            nonlocal last, too_long
            try:
                with self._store.transaction(timeout_factor=_timeout_factor(too_long)) as tables:
                    applied = apply_batch(
                        tables,
                        batch,
                        self._rules,
                        announce=self._announce,
                        alone=visits_alone,
                        most_groups=MOST_GROUPS_OF_A_TICK if bounded and not visits_alone else None,
                        stopwatch=self._runtime.stopwatch_s,
                    )
                    if applied.contested and len(batch.events) > 1:
                        raise _HalveError
                    started = self._runtime.stopwatch_s()
                    last = applied
                applied.commit_s = self._runtime.stopwatch_s() - started
                applied.round_trips = tables.round_trips
            except FencedError:
                # After a lost connection the fence may have been moved by our own commit, whose answer was lost.
                if last is None or not self._landed(batch):
                    raise
                return last
            except TransientError as error:
                too_long += took_too_long(error)
                if too_long == _TOO_LONG_ATTEMPTS and len(batch.events) > 1:
                    raise _HalveError from error
                raise
            return applied

        return self._retried(attempt)

    def _landed(self, batch: Batch) -> bool:
        stored = self.positions.read([a.offset_id for a in batch.offset_updates])
        return all(
            a.offset_id in stored
            and (stored[a.offset_id].epoch, stored[a.offset_id].next_offset) == (a.epoch, a.next_offset)
            for a in batch.offset_updates
        )

    def _retried(self, attempt: Callable[[], Answer]) -> Answer:
        backoff = Backoff(self._retry_max_s, random=self._runtime.random)
        rolled_back = 0
        while True:
            try:
                answer = attempt()
            except TransientError as error:
                self._metrics.db_errors.labels(error_class(error)).inc()
                if error_class(error) == _ROLLED_BACK and rolled_back < _ROLLED_BACK_ATTEMPTS:
                    # Two replicas waited for each other: that says nothing about the database's health.
                    rolled_back += 1
                    continue
                detail = str(error)
                # The first failure is often no more than a lost connection; the next one says why there is no other.
                if detail != self.unavailable:
                    self._log.warning("database unavailable, retrying", detail=detail)
                self.unavailable = detail
                if self._stopping.wait(backoff.pause_s()):
                    raise StoppedError("asked to end while the database is unavailable") from error
            else:
                if self.unavailable is not None:
                    self._log.info("database connection restored")
                self.unavailable = None
                return answer


def _timeout_factor(too_long: int) -> int:
    """Return how many times the usual timeouts a transaction gets after so many attempts that took too long."""
    return 1 << min(max(too_long - _TOO_LONG_ATTEMPTS + 1, 0), _MOST_DOUBLINGS)
