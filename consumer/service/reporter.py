"""What the loop tells: metrics, log lines, and the snapshots that ``/healthz``, ``/readyz`` and the status page show.

The loop's thread writes, the port's threads read; every answer is one immutable value that is replaced whole.
"""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic, time

from consumer import __version__
from consumer.logs import get_logger
from consumer.metrics import EventOutcome, Metrics, Stage, VisitResult
from consumer.model import DeadLetter, Message, PartitionId
from consumer.service.batch import Batch, BatchResult
from consumer.web import Health, PartitionStatus, ServiceStatus

_WARNINGS_PER_BATCH = 5
"""More of one kind are told as a number: a broken camera must not flood the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopState:
    """What the loop is at, for the probes; made anew at every turn."""

    joined: bool
    assigned: frozenset[PartitionId]
    refused: dict[PartitionId, str]
    tripped: int
    """Partitions that the circuit breaker stopped."""
    reading: frozenset[PartitionId]
    database: str | None
    """Why the database is unwell; None while it is well."""
    kafka: str | None
    paused: bool


class Reporter:
    """Tells operators what the loop does; implements `consumer.web.HealthSource`.

    Parameters
    ----------
    metrics
        All collectors.
    stalled_after_s
        A loop that has not turned for so long is not alive.
    """

    def __init__(self, metrics: Metrics, *, stalled_after_s: float) -> None:
        self._metrics = metrics
        self._stalled_after_s = stalled_after_s
        self._log = get_logger(__name__)
        self._started_at = datetime.now(UTC)
        self._turned_s = monotonic()
        self._state: LoopState | None = None
        self._answered = False
        self._stopping = False
        self._registry: str | None = None
        self._decode_s = self._region_s = 0.0
        self._counts: Counter[str] = Counter({"events": 0, "visits written": 0, "dead letters": 0})
        self._partitions: dict[PartitionId, PartitionStatus] = {}
        self._last_visit: tuple[str, datetime] | None = None

    def turned(self, state: LoopState) -> None:
        """Note that the loop has turned."""
        self._turned_s = monotonic()
        if state.kafka is not None and (self._state is None or state.kafka != self._state.kafka):
            self._metrics.kafka_errors.inc()
            self._log.warning("the Kafka client complains", detail=state.kafka)
        self._state = state
        self._metrics.partitions_assigned.set(len(state.assigned))
        self._metrics.breaker_open.set(state.tripped > 0)
        self._metrics.ready.set(self.ready().ok)
        for partition in state.assigned:
            reads = partition in state.reading and not state.paused
            self._metrics.partition_up.labels(partition.topic, str(partition.partition)).set(reads)

    def answered(self, _: object = None) -> None:
        """Note that the database has answered."""
        self._answered = True

    def idle(self) -> None:
        """Note that every partition is read to its end."""
        self._metrics.last_progress.set(time())
        self._metrics.oldest_unprocessed.set(0)

    def gathered(self, oldest: Message | None, clamped: int, *, decode_s: float, region_s: float) -> None:
        """Note what waits in the builder after a poll: its oldest message, and how many stamps were cut since.

        The seconds that the poll's messages took to decode, and the regions that they let us prefetch, count for the
        batch that is committed next.
        """
        self._decode_s += decode_s
        self._region_s += region_s
        self._metrics.clock_skew_clamped.inc(clamped)
        self._metrics.oldest_unprocessed.set(0 if oldest is None else oldest.timestamp_ms / 1000)

    def registry_unwell(self, detail: str) -> None:
        """Note that events wait for the schema registry."""
        self._metrics.registry_errors.inc()
        if self._registry is None:
            self._log.warning("the schema registry is unwell, events wait", detail=detail)
        self._registry = detail

    def registry_well(self) -> None:
        """Note that nothing waits for the schema registry."""
        self._registry = None

    def claimed(self, partition: PartitionId, position: int) -> None:
        """Note from where a partition is read."""
        self._metrics.position.labels(partition.topic, str(partition.partition)).set(position)
        self._partitions[partition] = PartitionStatus(
            partition=partition, state="reading", position=position, lag=None, open_groups=0
        )

    def refused(self, partition: PartitionId, position: int, end: int) -> None:
        """Note where a partition stands that cannot be read: what it is behind grows all the same."""
        lag = max(end - position, 0)
        self._metrics.partition_progress(partition, position=position, lag=lag)
        self._partitions[partition] = PartitionStatus(partition=partition, state="stalled", position=position, lag=lag)

    def behind(self, high_watermark: Callable[[PartitionId], int | None]) -> None:
        """Note how far the stored positions are behind the log: it grows while nothing can be committed."""
        for partition, known in self._partitions.items():
            high = high_watermark(partition)
            if high is not None and known.position is not None:
                lag = max(high - known.position, 0)
                self._metrics.lag.labels(partition.topic, str(partition.partition)).set(lag)

    def gone(self, partitions: Collection[PartitionId]) -> None:
        """Forget partitions that went to another replica."""
        for partition in partitions:
            self._metrics.partition_gone(partition)
            self._partitions.pop(partition, None)

    def stopping(self) -> None:
        """Note that the process ends."""
        self._stopping = True
        self._metrics.ready.set(0)

    def committed(self, batch: Batch, result: BatchResult, high_watermark: Callable[[PartitionId], int | None]) -> None:
        """Count a committed transaction."""
        now_s = time()
        self._answered = True
        self._count_events(result)
        self._count_visits(result, now_s)
        self._count_partitions(batch, result, high_watermark)
        stages = {
            Stage.DECODE: self._decode_s,
            Stage.GROUP: result.group_s,
            Stage.REGION: self._region_s + result.region_s,
            Stage.WRITE: result.write_s,
            Stage.COMMIT: result.commit_s,
        }
        self._decode_s = self._region_s = 0.0
        messages = len(batch.events) + len(batch.dead_letters)
        self._metrics.batch_committed(messages=messages, stages_s=stages, at_s=now_s)
        self._counts["events"] += messages

    def _count_events(self, result: BatchResult) -> None:
        metrics = self._metrics
        for outcome, counts in (
            (EventOutcome.NEW, result.new),
            (EventOutcome.REPEATED, result.repeated),
            (EventOutcome.CONTRADICTING, result.contradicting),
        ):
            for instrument, number in counts.items():
                metrics.events.labels(metrics.instrument(instrument), outcome).inc(number)
        for instrument, reason in result.off_sky:
            metrics.exposures_skipped.labels(metrics.instrument(instrument), reason).inc()
        for letter in result.dead_letters:
            metrics.dead_letters.labels(letter.reason).inc()
        for letter in result.bad:
            metrics.events.labels(metrics.instrument(letter.instrument), EventOutcome.BAD).inc()
        self._counts["dead letters"] += len(result.dead_letters)
        self._tell(result.dead_letters, result.warnings)

    def _tell(self, letters: Collection[DeadLetter], warnings: Collection[str]) -> None:
        for letter in list(letters)[:_WARNINGS_PER_BATCH]:
            message = letter.message
            where = None if message is None else f"{message.partition.topic}[{message.partition.partition}]"
            self._log.warning(
                "dead letter",
                reason=str(letter.reason),
                detail=letter.detail,
                instrument=letter.instrument,
                exposure=letter.exposure,
                group=letter.group_key,
                partition=where,
                offset=None if message is None else message.offset,
            )
        if len(letters) > _WARNINGS_PER_BATCH:
            self._log.warning("more dead letters", number=len(letters) - _WARNINGS_PER_BATCH)
        for warning in list(warnings)[:_WARNINGS_PER_BATCH]:
            self._log.warning("group without a visit", detail=warning)
        if len(warnings) > _WARNINGS_PER_BATCH:
            self._log.warning("more groups without a visit", number=len(warnings) - _WARNINGS_PER_BATCH)

    def _count_visits(self, result: BatchResult, now_s: float) -> None:
        metrics, diff = self._metrics, result.diff
        for instrument, reason in result.closed:
            metrics.groups_closed.labels(metrics.instrument(instrument), reason).inc()
        for instrument, number in result.late.items():
            metrics.late_exposures.labels(metrics.instrument(instrument)).inc(number)
        for instrument, number in result.detectors_without_region.items():
            metrics.detector_regions_missing.labels(metrics.instrument(instrument)).set(number)
        replaced = {(old.instrument, old.id) for _, old in diff.updated}
        written = Counter(
            (
                r.definition.instrument,
                VisitResult.UPDATED if (r.definition.instrument, r.definition.id) in replaced else VisitResult.NEW,
            )
            for r in result.written
        )
        written.update((c.group.instrument, VisitResult.UNCHANGED) for c in diff.unchanged)
        written.update((c.group.instrument, VisitResult.KEPT) for c in diff.kept)
        written.update((c.group.instrument, VisitResult.CONFLICT) for c, _ in diff.conflicts)
        written.update((each.instrument, VisitResult.REMOVED) for each in diff.stale)
        for (instrument, outcome), number in written.items():
            metrics.visits_written.labels(metrics.instrument(instrument), outcome).inc(number)
        last_ms = {(c.group, c.definition.id): c.last_ms for c in diff.candidates}
        for records in result.written:
            needed_ms = last_ms[records.group, records.definition.id]
            metrics.visit_committed(
                records.definition.instrument, records.close_reason, latency_s=now_s - needed_ms / 1000, at_s=now_s
            )
        self._counts["visits written"] += len(result.written)
        if result.written:
            visit = result.written[-1].definition
            self._last_visit = (f"{visit.instrument} {visit.id} ({visit.name})", datetime.now(UTC))

    def _count_partitions(
        self, batch: Batch, result: BatchResult, high_watermark: Callable[[PartitionId], int | None]
    ) -> None:
        for advance in batch.advances:
            if advance.next_offset is None or (self._state and advance.partition not in self._state.assigned):
                continue
            high = high_watermark(advance.partition)
            lag = None if high is None else max(high - advance.next_offset, 0)
            waiting = result.waiting.get(advance.clock)
            self._metrics.partition_progress(
                advance.partition,
                position=advance.next_offset,
                lag=lag or 0,
                stream_time_ms=advance.stream_time_ms,
            )
            self._metrics.partition_waiting(
                advance.partition,
                groups=0 if waiting is None else waiting.groups,
                oldest_opened_ms=None if waiting is None else waiting.oldest_opened_ms,
            )
            self._partitions[advance.partition] = PartitionStatus(
                partition=advance.partition,
                state="reading",
                position=advance.next_offset,
                lag=lag,
                open_groups=0 if waiting is None else waiting.groups,
            )

    def alive(self) -> Health:
        """Whether the loop has turned recently."""
        still_s = monotonic() - self._turned_s
        if still_s <= self._stalled_after_s:
            return Health(ok=True)
        return Health(ok=False, reasons=(f"the loop has not turned for {still_s:.0f} s",))

    def ready(self) -> Health:
        """Whether the group is joined, the database answers, and every partition that is ours can be read."""
        state = self._state
        reasons = [] if self._answered else ["the database has not answered yet"]
        if self._stopping:
            reasons.append("the process is ending")
        if state is None or not state.joined:
            reasons.append("the consumer group is not joined yet")
        if state is not None:
            if state.database is not None:
                reasons.append("the database is unwell")
            reasons += [f"{p.topic}[{p.partition}]: {detail}" for p, detail in sorted(state.refused.items())]
        if self._registry is not None:
            reasons.append("the schema registry is unwell")
        return Health(ok=not reasons, reasons=tuple(reasons))

    def status(self) -> ServiceStatus:
        """Return what the status page shows."""
        state = self._state
        shown = dict(self._partitions)
        for partition in () if state is None else state.assigned:
            known = shown.get(partition) or PartitionStatus(
                partition=partition, state="stalled", position=None, lag=None
            )
            if state is not None and partition in state.refused:
                detail = state.refused[partition]
                known = PartitionStatus(
                    partition=partition, state="stalled", position=known.position, lag=known.lag, detail=detail
                )
            shown[partition] = known
        return ServiceStatus(
            version=__version__,
            state="stopping" if self._stopping else "running" if self.ready().ok else "waiting",
            started_at=self._started_at,
            partitions=tuple(shown[p] for p in sorted(shown)),
            last_visit=None if self._last_visit is None else self._last_visit[0],
            last_visit_at=None if self._last_visit is None else self._last_visit[1],
            counts=dict(self._counts),
        )
