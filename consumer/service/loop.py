"""The one loop: poll, gather, write; and what comes from outside: rebalances, signals, a database that is unwell.

The loop's thread polls and decodes; the writer's thread commits. At most one batch is being written while the next is
gathered. Nothing is lost by dropping what was gathered: it is read again from the stored position.

Delivery: the rows, dead letters and positions of a batch are one transaction, fenced by the partitions' epochs. See
`consumer.service.apply_batch` for its steps, `consumer.service.partitions` for how partitions are taken over.
"""

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import ExitStack
from dataclasses import dataclass, field
from time import monotonic, time
from typing import Protocol

from consumer.errors import FencedError, TransientError
from consumer.kafka.source import Polled
from consumer.logs import get_logger
from consumer.metrics import Metrics, Rebalance
from consumer.model import DeadLetter, Message, PartitionId
from consumer.postgres.offsets import Positions, StoredPosition
from consumer.service.batch import MOST_GROUPS_OF_A_TICK, Batch
from consumer.service.batch_builder import BatchBuilder, PartitionLease
from consumer.service.circuit_breaker import BreakerPolicy, BreakerWindow, Judgement
from consumer.service.partitions import (
    Assignment,
    EndWatch,
    Log,
    Refusal,
    TopicWatch,
    acquire_leases,
    of_another_log,
    reread,
)
from consumer.service.reporter import LoopState, Reporter
from consumer.service.worker import Worker
from consumer.service.writer import StoppedError, Writer, Written

_FULL_WAIT_S = 0.05
"""How long the loop waits for the writer when the next batch is full, before it looks at the group again."""
_PAUSE_AFTER_S = 1.0
"""A writer that is busy for so long makes the loop pause the partitions and go on polling, to keep its place."""
_MAX_GATHERED_BYTES = 32 * 1024 * 1024
"""A batch of large messages is full before it has its number of them; librdkafka bounds what one poll adds."""
_PING_EVERY_S = 5.0
_LOOK_EVERY_S = 1.0
"""How often it is told how far the stored positions are behind, whether or not anything is committed."""
_NEVER_MS = 2**63
_CLAIM_AGAIN_S = 1.0
_REFUSED_AGAIN_S = 15.0
"""How often a partition whose position lies outside the log is looked at again."""


class Source(Log, Protocol):
    """What the loop asks of Kafka; see `consumer.kafka.source.KafkaSource`."""

    @property
    def joined(self) -> bool:
        """Whether the group gave us an assignment."""

    @property
    def last_error(self) -> str | None:
        """What the client complained of last."""

    def poll(self, max_messages: int, timeout_s: float) -> Polled:
        """Wait for messages, and serve the group."""

    def start(self, partition: PartitionId, offset: int) -> None:
        """Read a partition from an offset."""

    def stop(self, partitions: Collection[PartitionId]) -> None:
        """Read no more of these partitions."""

    def pause(self) -> None:
        """Deliver nothing until `resume`."""

    def resume(self) -> None:
        """Deliver again."""

    def mirror(self, positions: dict[PartitionId, int]) -> None:
        """Tell Kafka how far we are, for lag tools."""

    def high_watermark(self, partition: PartitionId) -> int | None:
        """Give the offset after the last of the log as far as it is known here, without asking a broker."""

    def close(self) -> None:
        """Leave the group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSettings:
    """What the loop needs of the settings."""

    max_messages: int
    max_wait_s: float
    close_interval_s: float
    session_timeout_s: float
    shutdown_timeout_s: float
    start_at_end: bool
    breaker: BreakerPolicy


class _Call(Protocol):
    """As much of a future as the loop needs before it takes the answer."""

    def done(self) -> bool:
        """Whether there is an answer."""

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the answer."""


@dataclass(slots=True)
class _Pending:
    """The one call that the writer works on."""

    future: _Call
    take: Callable[[], None]
    """Looks at the finished future."""
    since_s: float
    batch: Batch | None = None
    partitions: frozenset[PartitionId] = field(default_factory=frozenset)


class Service:
    """The loop of one replica.

    Parameters
    ----------
    connect
        Makes the member of the consumer group, given who listens to its rebalances.
    writer, positions, builder, reporter, metrics
        The parts; see their modules.
    prepare
        Run once by the writer before anything is claimed: it makes sure that the schema is ours.
    settings
        Of the loop.
    """

    def __init__(
        self,
        connect: "Callable[[Service], Source]",
        writer: Writer,
        positions: Positions,
        builder: BatchBuilder,
        reporter: Reporter,
        metrics: Metrics,
        settings: LoopSettings,
        *,
        prepare: Callable[[], None],
    ) -> None:
        self._writer = writer
        self._positions = positions
        self._prepare: Callable[[], None] | None = prepare
        self._builder = builder
        self._reporter = reporter
        self._metrics = metrics
        self._settings = settings
        self._assignment = Assignment()
        self._pending: _Pending | None = None
        self._paused = False
        self._stopping = False
        self._deadlines: dict[int, int] = {}
        self._next_tick_s = 0.0
        self._next_ping_s = 0.0
        self._next_look_s = 0.0
        self._held_since_s: float | None = None
        self._breaker = BreakerWindow(settings.breaker)
        self._log = get_logger(__name__)
        self._source = connect(self)
        self._topics = TopicWatch(self._source)
        self._ends = EndWatch(self._source)

    def run(self) -> None:
        """Turn until `stop`, then leave the group.

        Raises
        ------
        FatalError
            When going on would be wrong or useless.
        """
        try:
            while not self._stopping:
                self._turn()
        finally:
            self._shut_down()

    def stop(self) -> None:
        """Ask the loop to end; may be called from a signal handler."""
        self._stopping = True

    def assigned(self, partitions: Collection[PartitionId]) -> None:
        """Hear that partitions are ours to claim (`RebalanceListener`)."""
        self._metrics.rebalances.labels(Rebalance.ASSIGNED).inc()
        self._assignment.add(partitions, monotonic())
        for partition in partitions:
            self._metrics.partition_assigned(partition)
        self._log.info("partitions assigned", partitions=_names(partitions))

    def revoked(self, partitions: Collection[PartitionId]) -> None:
        """Let partitions go: what is being written of them is waited for, what was gathered is dropped."""
        self._metrics.rebalances.labels(Rebalance.REVOKED).inc()
        if self._pending is not None and self._pending.partitions & set(partitions):
            self._wait_for_writer(self._settings.session_timeout_s / 2)
        self._let_go(partitions)
        self._log.info("partitions revoked", partitions=_names(partitions))

    def lost(self, partitions: Collection[PartitionId]) -> None:
        """Drop partitions that somebody else has already; the fence keeps out what is still being written."""
        self._metrics.rebalances.labels(Rebalance.LOST).inc()
        self._let_go(partitions)
        self._log.warning("partitions lost", partitions=_names(partitions))

    def _turn(self) -> None:
        now_s = monotonic()
        self._finish()
        if self._pending is None:
            self._give_work(now_s)
        self._poll()
        strangers = self._topics.strangers(self._builder.claims, now_s)
        if strangers:
            self._log.warning("the topic was made anew", partitions=_names(strangers))
            self._reclaim(strangers)
        if now_s >= self._next_look_s:
            self._next_look_s = now_s + _LOOK_EVERY_S
            self._reporter.behind(self._source.high_watermark)
        self._reporter.turned(
            LoopState(
                joined=self._source.joined,
                assigned=frozenset(self._assignment.assigned),
                refused=dict(self._assignment.refused),
                tripped=len(self._assignment.tripped),
                reading=self._builder.partitions,
                database=self._writer.unwell,
                kafka=self._source.last_error,
                paused=self._paused,
            )
        )

    def _poll(self) -> None:
        room = self._settings.max_messages - self._builder.size if self._builder.bytes < _MAX_GATHERED_BYTES else 0
        if room <= 0 and not self._paused:
            if self._pending is not None:
                self._wait_for_writer(_FULL_WAIT_S)
            # A batch that is written soon makes room. What waits for the registry does not: it needs further polls.
            busy_s = 0.0 if self._pending is None else monotonic() - self._pending.since_s
            if busy_s < _PAUSE_AFTER_S and not self._builder.stalled:
                return
            self._source.pause()
            self._paused = True
        elif room > 0 and self._paused:
            self._source.resume()
            self._paused = False
        polled = self._source.poll(max(room, 1), self._settings.max_wait_s)
        started = monotonic()
        try:
            self._builder.put(polled.messages, polled.ends, _now_ms())
            self._reporter.registry_well()
        except TransientError as error:
            # The messages wait in the builder; the loop goes on serving the group and asks again.
            self._reporter.registry_unwell(str(error))
        decoded = monotonic()
        self._builder.prefetch()
        self._reporter.gathered(
            self._oldest(),
            self._builder.take_clamped(),
            decode_s=decoded - started,
            region_s=monotonic() - decoded,
        )
        if polled.out_of_range:
            self._reclaim(polled.out_of_range)

    def _oldest(self) -> Message | None:
        """Return the message that is read and not committed for longest: of the batch being written, or gathered."""
        batch = None if self._pending is None else self._pending.batch
        if batch is not None and batch.events:
            return batch.events[0].message
        letters = () if batch is None else batch.dead_letters
        return letters[0].message if letters else self._builder.oldest

    def _give_work(self, now_s: float) -> None:
        """Give the idle writer what is most urgent: a batch, claims, a tick, or a question whether it is there."""
        if self._prepare is not None:
            prepared = self._writer.ask(self._prepare)
            self._prepare = None
            self._pending = _Pending(prepared, lambda: self._reporter.answered(prepared.result()), now_s)
            return
        if self._breaker_holds(now_s):
            return
        # Claims and ticks are rare, and come first: a partition with a backlog must not hold up the others for hours.
        if due := self._assignment.due(now_s):
            self._ask_for(due, now_s)
        elif (tick := self._confirmed_tick(now_s)) is not None:
            self._write(tick, now_s)
        elif (batch := self._take()) is not None:
            if batch.dead_letters:
                self._confirm_logs(batch, now_s)
            else:
                self._write(batch, now_s)
        elif now_s >= self._next_ping_s:
            self._next_ping_s = now_s + _PING_EVERY_S
            self._look_at_claims(now_s)

    def _confirmed_tick(self, now_s: float) -> Batch | None:
        """Give a tick for the partitions whose end the brokers confirm, once they do; what moved since is left out."""
        if not self._ends.asking and now_s >= self._next_tick_s:
            tick = self._due_tick(now_s)
            if tick is not None:
                self._ends.ask(tick)
        confirmed = self._ends.answer()
        return None if confirmed is None else self._builder.unmoved(confirmed)

    def _due_tick(self, now_s: float) -> Batch | None:
        """Make a tick for the partitions at whose end a group may be due by the wall clock."""
        tick = self._builder.tick(_now_ms())
        if tick is None:
            return None
        self._next_tick_s = now_s + self._settings.close_interval_s
        if self._builder.size == 0 and self._builder.caught_up:
            self._reporter.idle()
        # A clock that we have not written by yet may have groups from before we took it over.
        return tick.of({clock for clock, at_ms in tick.clocks.items() if self._deadlines.get(clock, 0) <= at_ms})

    def _breaker_holds(self, now_s: float) -> bool:
        """Judge what is gathered; False when it may be written."""
        bad = self._builder.unaccepted
        if not bad:
            self._held_since_s = None
            return False
        self._held_since_s = self._held_since_s or now_s
        held_s = now_s - self._held_since_s
        judgement = self._breaker.judge(messages=self._builder.decoded, bad=len(bad), held_s=held_s)
        if judgement is Judgement.TRIP:
            self._held_since_s = None
            self._trip(bad, now_s)
            self._breaker.forget()
        return judgement is not Judgement.WRITE

    def _take(self) -> Batch | None:
        """Take what was gathered, which was judged just now, to be written."""
        messages, bad = self._builder.decoded, len(self._builder.unaccepted)
        batch = self._builder.take()
        if batch is not None:
            self._breaker.wrote(messages=messages, bad=bad)
            self._held_since_s = None
        return batch

    def _trip(self, bad: Sequence[DeadLetter], now_s: float) -> None:
        """Drop what is gathered, and read no more of the partitions that the bad messages came from."""
        detail = (
            f"the circuit breaker is open: {len(bad)} of {self._builder.decoded} messages are bad, the last because of "
            f"{bad[-1].reason}: {bad[-1].detail}. None of them was set aside; mend the cause, or say "
            "'visit-consumer breaker reset'"
        )
        partitions = {letter.message.partition for letter in bad if letter.message is not None}
        self._log.error("the circuit breaker opens", partitions=_names(partitions), detail=detail)
        dropped = self._builder.gathered_from | partitions
        held = self._builder.disown(dropped)
        self._source.stop(dropped)
        self._assignment.add((dropped - partitions) & self._assignment.assigned, now_s)
        for partition in partitions & self._assignment.assigned:
            self._assignment.refuse(partition, detail, now_s + _REFUSED_AGAIN_S, breaker=True)
        epochs = {claim.clock: claim.epoch for claim in held if claim.partition in partitions}
        tripped = self._writer.ask(lambda: self._positions.trip(epochs, detail))
        self._pending = _Pending(tripped, lambda: self._reporter.answered(tripped.result()), now_s)

    def _look_at_claims(self, now_s: float) -> None:
        """Ask whether the database is there, and whether somebody else has moved what we hold.

        That may be another replica, an operator, or a failover to a server that has lost the last transactions. Who
        writes finds out by the fence; who stands at the end of a log would not until the next message.
        """
        held, expected = self._builder.claims, self._builder.expected
        asked = self._writer.ask(lambda: self._positions.read([claim.clock for claim in held]))

        def take() -> None:
            stored: dict[int, StoredPosition] = asked.result()
            self._reporter.answered(None)
            moved = {
                claim.partition
                for claim in held
                if claim.clock not in stored
                or (stored[claim.clock].epoch, stored[claim.clock].next_offset) != (claim.epoch, expected[claim.clock])
            }
            if moved & self._builder.partitions:
                self._log.warning("position claimed or moved by another", partitions=_names(moved))
                self._read_again(moved & self._builder.partitions)

        self._pending = _Pending(asked, take, now_s)

    def _confirm_logs(self, batch: Batch, now_s: float) -> None:
        """Write a batch with dead letters, unless the brokers say that a topic was made anew.

        Its bad messages would be set aside twice otherwise: under the name of the former log, where reading went on,
        and again when the new one is read from its start.
        """
        partitions = {a.partition for a in batch.advances}
        claims = [claim for claim in self._builder.claims if claim.partition in partitions]
        asked = self._writer.ask(lambda: of_another_log(self._source, claims))

        def take() -> None:
            strangers = asked.result()
            if strangers:
                self._log.warning("the topic was made anew", partitions=_names(strangers))
                self._reclaim(partitions)
            else:
                self._write(batch, monotonic())

        self._pending = _Pending(asked, take, now_s, batch)

    def _write(self, batch: Batch, now_s: float) -> None:
        written = self._writer.write(batch)
        partitions = frozenset(a.partition for a in batch.advances)
        self._pending = _Pending(written, lambda: self._committed(batch, written), now_s, batch, partitions)

    def _committed(self, batch: Batch, future: "Future[list[Written]]") -> None:
        try:
            transactions = future.result()
        except FencedError as error:
            self._metrics.fenced.inc()
            self._log.warning("batch fenced, nothing of it was written", detail=str(error))
            self._read_again({a.partition for a in batch.advances})
            return
        self._source.mirror({a.partition: a.next_offset for a in batch.advances if a.next_offset is not None})
        for each in transactions:
            for clock in each.batch.clocks:
                waiting = each.result.waiting.get(clock)
                self._deadlines[clock] = _NEVER_MS if waiting is None else waiting.next_deadline_ms
            self._reporter.committed(each.batch, each.result, self._source.high_watermark)
            if not batch.events and len(each.result.closed) == MOST_GROUPS_OF_A_TICK:
                self._next_tick_s = 0.0  # more may be due already

    def _ask_for(self, partitions: set[PartitionId], now_s: float) -> None:
        asked = self._writer.ask(
            lambda: acquire_leases(
                self._source,
                self._positions,
                partitions,
                start_at_end=self._settings.start_at_end,
                wanted=self._assignment.asking.__contains__,
            )
        )
        self._pending = _Pending(asked, lambda: self._claimed(asked), now_s)

    def _claimed(self, future: "Future[list[PartitionLease | Refusal]]") -> None:
        for each in future.result():
            if not self._assignment.answered(each.partition):
                continue
            if isinstance(each, PartitionLease):
                self._begin(each)
            else:
                again_s = _REFUSED_AGAIN_S if each.lasting else _CLAIM_AGAIN_S
                self._assignment.refuse(each.partition, each.detail, monotonic() + again_s, breaker=each.breaker)
                if each.position is not None and each.end is not None:
                    self._reporter.refused(each.partition, each.position, each.end)
                log = self._log.error if each.lasting else self._log.warning
                log("partition cannot be read", partition=each.partition, detail=each.detail)

    def _begin(self, claim: PartitionLease) -> None:
        self._deadlines.pop(claim.clock, None)
        self._builder.own(claim)
        self._source.start(claim.partition, claim.start)
        self._reporter.claimed(claim.partition, claim.start)
        self._log.info("partition claimed", partition=claim.partition, start=claim.start, epoch=claim.epoch)

    def _read_again(self, partitions: Collection[PartitionId]) -> None:
        """Read the rows of fenced partitions: go on where a lost answer left us, or leave them to their new owner."""
        held = self._builder.disown(partitions)
        self._source.stop(partitions)
        asked = self._writer.ask(lambda: self._positions.read([claim.clock for claim in held]))

        def take() -> None:
            stored: dict[int, StoredPosition] = asked.result()
            answer = reread(held, stored)
            for claim in answer.resumed:
                if claim.partition in self._assignment.assigned:
                    self._begin(claim)
            again_s = monotonic() + self._settings.session_timeout_s
            for partition in answer.stolen:
                if partition in self._assignment.assigned:
                    self._assignment.refuse(partition, "another replica has claimed it", again_s)

        self._pending = _Pending(asked, take, monotonic())

    def _reclaim(self, partitions: Collection[PartitionId]) -> None:
        """Claim partitions anew, and read them from where they are stored: their log was truncated, or is another."""
        self._builder.disown(partitions)
        self._source.stop(partitions)
        self._assignment.add(set(partitions) & self._assignment.assigned, monotonic())

    def _let_go(self, partitions: Collection[PartitionId]) -> None:
        self._assignment.remove(partitions)
        self._builder.disown(partitions)
        self._reporter.gone(partitions)

    def _finish(self) -> None:
        pending = self._pending
        if pending is not None and pending.future.done():
            self._pending = None
            try:
                pending.take()
            except StoppedError:
                self._stopping = True

    def _wait_for_writer(self, timeout_s: float) -> None:
        if self._pending is None:
            return
        try:
            self._pending.future.exception(timeout_s)
        except FutureTimeoutError:
            return
        self._finish()

    def _shut_down(self) -> None:
        """Finish or drop the running batch, leave the group; all within the shutdown timeout."""
        timeout_s = self._settings.shutdown_timeout_s
        end_s = monotonic() + timeout_s * 7 / 8
        self._reporter.stopping()
        # Each step is taken even when one before it fails; the last that is named comes first.
        with ExitStack() as steps:
            steps.callback(self._leave_group, end_s)
            steps.callback(self._topics.end)
            steps.callback(self._ends.end)
            steps.callback(self._writer.close, timeout_s / 8)
            steps.callback(self._wait_for_writer, timeout_s / 4)
            steps.callback(self._writer.stop)
            self._wait_for_writer(timeout_s / 4)

    def _leave_group(self, end_s: float) -> None:
        timeout_s = max(end_s - monotonic(), self._settings.shutdown_timeout_s / 16)
        try:
            # In a thread of its own: the client waits for brokers that do not answer for a minute.
            Worker("leave the group").submit(self._source.close).result(timeout_s)
        except FutureTimeoutError:
            self._log.warning("the brokers do not answer, the group was not left")
        self._log.info("stopped")


def _names(partitions: Collection[PartitionId]) -> list[str]:
    return [f"{p.topic}[{p.partition}]" for p in sorted(partitions)]


def _now_ms() -> int:
    return int(time() * 1000)
