"""The loop of one replica: poll, gather, write; and what comes from outside: rebalances, signals, failures.

The loop's thread polls and decodes; the writer's thread commits. At most one batch is being written while the next is
gathered. Nothing is lost by dropping what was gathered: it is read again from the stored position.

Delivery: the rows, dead letters and positions of a batch are one transaction, fenced by the partitions' epochs. See
`apply_batch` for its steps, `partitions` and `lease_holder` for how a partition becomes readable.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack

from consumer.config import Settings
from consumer.errors import FencedError
from consumer.logs import get_logger
from consumer.metrics import Rebalance
from consumer.model import PartitionId, RebalanceListener
from consumer.service.batch import Batch
from consumer.service.batch_builder import BatchBuilder
from consumer.service.circuit_breaker import CircuitBreaker, Judgement
from consumer.service.lease_holder import LeaseHolder, partition_names
from consumer.service.log_watch import EndWatch, TopicWatch
from consumer.service.pending import Pending
from consumer.service.poller import Poller
from consumer.service.reporter import LoopState, Reporter
from consumer.service.runtime import Runtime
from consumer.service.source import Source
from consumer.service.ticks import TickScheduler
from consumer.service.trials import TrialChild, Trials
from consumer.service.writer import StoppedError, Writer, Written

_FULL_WAIT_S = 0.05
"""How long the loop waits for the writer when the next batch is full, before it looks at the group again."""
_PING_EVERY_S = 5.0
_LAG_EVERY_S = 1.0
"""How often the lag gauges are refreshed, whether or not anything is committed."""


class ConsumerLoop:
    """The loop; implements `consumer.model.RebalanceListener`.

    Parameters
    ----------
    connect
        Makes the member of the consumer group, given what listens to its rebalances.
    writer, builder, reporter
        The parts; see their modules.
    settings
        Of the loop.
    runtime
        Clocks and threads.
    prepare
        Run once by the writer before any lease is asked for: it checks the schema.
    trial_child
        Where messages are tried that may have ended processes.
    """

    def __init__(
        self,
        connect: Callable[[RebalanceListener], Source],
        writer: Writer,
        builder: BatchBuilder,
        reporter: Reporter,
        settings: Settings,
        *,
        runtime: Runtime,
        prepare: Callable[[], None],
        trial_child: TrialChild,
    ) -> None:
        self._writer = writer
        self._prepare: Callable[[], None] | None = prepare
        self._builder = builder
        self._reporter = reporter
        self._settings = settings
        self._runtime = runtime
        self._pending: Pending | None = None
        self._stopping = False
        self._next_ping_s = 0.0
        self._next_lag_s = 0.0
        self._breaker = CircuitBreaker(settings.breaker)
        self._log = get_logger(__name__)
        self._source = connect(self)
        self._poller = Poller(
            self._source,
            builder,
            reporter,
            runtime,
            max_messages=settings.batch.max_messages,
            max_wait_s=settings.batch.max_wait_s,
        )
        self._topics = TopicWatch(self._source, runtime)
        ends = EndWatch(self._source, runtime)
        self._ticks = TickScheduler(builder, ends, interval_s=settings.batch.close_interval_s, idle=reporter.idle)
        self._leases = LeaseHolder(
            self._source,
            writer,
            builder,
            self._ticks,
            reporter,
            runtime,
            start_at_end=settings.kafka.start == "latest",
            session_timeout_s=settings.kafka.session_timeout_s,
        )
        self._trials = Trials(trial_child, builder, writer, self._leases, runtime, count=self._count_tried)

    def run(self) -> None:
        """Turn until `stop`, then leave the group.

        Raises
        ------
        FatalError
            When going on would be wrong or useless.
        """
        try:
            while not self._stopping:
                self.turn()
        finally:
            self.shut_down()

    def stop(self) -> None:
        """Ask the loop to end; may be called from a signal handler."""
        self._stopping = True

    def assigned(self, partitions: Collection[PartitionId]) -> None:
        """Note that the group assigned partitions to this replica."""
        self._leases.assign(partitions)
        self._reporter.rebalanced(Rebalance.ASSIGNED, partitions)

    def revoked(self, partitions: Collection[PartitionId]) -> None:
        """Let partitions go: wait for the batch that is being written, drop what was gathered."""
        if self._pending is not None and self._pending.partitions & set(partitions):
            # Well within a session, and within what the liveness probe allows.
            settings = self._settings
            self._wait_for_writer(min(settings.kafka.session_timeout_s, settings.http.stalled_after_s) / 2)
        self._leases.remove(partitions)
        self._reporter.rebalanced(Rebalance.REVOKED, partitions)

    def lost(self, partitions: Collection[PartitionId]) -> None:
        """Drop partitions that another replica has already; the fence keeps out what is still being written."""
        self._leases.remove(partitions)
        self._reporter.rebalanced(Rebalance.LOST, partitions)

    def turn(self) -> None:
        """Take the writer's answer, give it the next call, poll, report."""
        now_s = self._runtime.monotonic_s()
        self._take_answer()
        if self._pending is None:
            self._pending = self._next_call(now_s)
        self._poll()
        if recreated := self._topics.recreated(self._builder.leases, now_s):
            self._log.warning("topic recreated", partitions=partition_names(recreated))
            self._leases.release(recreated)
        if now_s >= self._next_lag_s:
            self._next_lag_s = now_s + _LAG_EVERY_S
            self._reporter.behind(self._source.high_watermark)
        partitions = self._leases.partitions
        self._reporter.turned(
            LoopState(
                joined=self._source.joined,
                assigned=partitions.assigned,
                refused=partitions.refused,
                tripped=len(partitions.tripped),
                reading=self._builder.partitions,
                database=self._writer.unavailable,
                kafka=self._source.last_error,
                paused=self._poller.paused,
            )
        )

    def shut_down(self) -> None:
        """Finish or drop the running batch, leave the group; all within the shutdown timeout."""
        timeout_s = self._settings.shutdown.timeout_s
        end_s = self._runtime.monotonic_s() + timeout_s * 7 / 8
        self._reporter.stopping()
        # Each step is taken even when one before it fails; the last that is named comes first.
        with ExitStack() as steps:
            steps.callback(self._leave_group, end_s)
            steps.callback(self._topics.end)
            steps.callback(self._ticks.end)
            steps.callback(self._writer.close, timeout_s / 8)
            steps.callback(self._wait_for_writer, timeout_s / 4)
            steps.callback(self._writer.stop)
            self._wait_for_writer(timeout_s / 4)

    def _poll(self) -> None:
        if self._poller.full and self._pending is not None:
            self._wait_for_writer(_FULL_WAIT_S)
        pending = self._pending
        busy_s = 0.0 if pending is None else self._runtime.monotonic_s() - pending.since_s
        in_hand = None if pending is None or pending.batch is None else pending.batch.oldest
        if out_of_range := self._poller.poll(busy_s=busy_s, in_hand=in_hand):
            self._leases.release(out_of_range)

    def _next_call(self, now_s: float) -> Pending | None:
        """Return the idle writer what is most urgent: a batch, leases, a tick, or a question whether it is there."""
        if self._prepare is not None:
            prepare, self._prepare = self._prepare, None
            return self._prepared(prepare, now_s)
        bad = self._builder.unaccepted
        judgement = self._breaker.judge(messages=self._builder.gathered.messages, bad=len(bad), now_s=now_s)
        if judgement is Judgement.TRIP:
            return self._leases.trip(bad, now_s)
        if judgement is Judgement.HOLD:
            return None
        # Leases and ticks are rare, and come first: a partition with a backlog must not hold up the others for hours.
        return (
            self._leases.acquire_due(now_s)
            or self._trials.next(now_s)
            or self._write_tick(now_s)
            or self._write_batch(now_s)
            or self._check_leases(now_s)
        )

    def _write_tick(self, now_s: float) -> Pending | None:
        tick = self._ticks.next(now_s, self._runtime.now_ms())
        return None if tick is None else self._write(tick, now_s)

    def _write_batch(self, now_s: float) -> Pending | None:
        """Write what was gathered, which was judged just now."""
        messages, bad = self._builder.gathered.messages, len(self._builder.unaccepted)
        batch = self._builder.take()
        if batch is None:
            return None
        self._breaker.wrote(messages=messages, bad=bad)
        return self._leases.confirm_logs(batch, lambda: self._write(batch, self._runtime.monotonic_s()), now_s)

    def _check_leases(self, now_s: float) -> Pending | None:
        if now_s < self._next_ping_s:
            return None
        self._next_ping_s = now_s + _PING_EVERY_S
        return self._leases.check(now_s)

    def _prepared(self, prepare: Callable[[], None], now_s: float) -> Pending:
        prepared = self._writer.ask(prepare)

        def take() -> None:
            prepared.result()
            self._reporter.answered()

        return Pending(prepared, take, now_s)

    def _write(self, batch: Batch, now_s: float) -> Pending:
        written = self._writer.write(batch)
        partitions = frozenset(update.partition for update in batch.offset_updates)
        return Pending(written, lambda: self._committed(batch, written), now_s, batch, partitions)

    def _committed(self, batch: Batch, future: "Future[list[Written]]") -> Pending | None:
        try:
            self._count(future.result())
        except FencedError as error:
            self._count(each for each in error.committed if isinstance(each, Written))
            self._reporter.fenced(error)
            return self._leases.read_again({update.partition for update in batch.offset_updates})
        return None

    def _count(self, transactions: Iterable[Written]) -> None:
        for each in transactions:
            updates = each.batch.offset_updates
            self._source.mirror({u.partition: u.next_offset for u in updates if u.next_offset is not None})
            self._ticks.committed(each.batch, each.result)
            self._reporter.committed(each.batch, each.result, self._source.high_watermark)

    def _count_tried(self, transactions: Sequence[Written]) -> None:
        self._breaker.wrote(messages=sum(len(each.batch.events) for each in transactions), bad=0)
        self._count(transactions)

    def _take_answer(self) -> None:
        pending = self._pending
        if pending is not None and pending.future.done():
            self._pending = None
            try:
                self._pending = pending.take()
            except StoppedError:
                self._stopping = True

    def _wait_for_writer(self, timeout_s: float) -> None:
        if self._pending is None:
            return
        try:
            self._pending.future.exception(timeout_s)
        except TimeoutError:
            return
        self._take_answer()

    def _leave_group(self, end_s: float) -> None:
        timeout_s = max(end_s - self._runtime.monotonic_s(), self._settings.shutdown.timeout_s / 16)
        try:
            # In a thread of its own: the client waits for brokers that do not answer for a minute.
            self._runtime.start_worker("leave the group").submit(self._source.close).result(timeout_s)
        except TimeoutError:
            self._log.warning("the brokers do not answer, the group was not left")
        self._log.info("stopped")
