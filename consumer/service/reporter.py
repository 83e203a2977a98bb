"""What the loop tells: metrics, log lines, and the snapshots that ``/healthz``, ``/readyz`` and the status page show.

The loop's thread writes, the port's threads read; every answer is one immutable value that is replaced whole.
"""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from consumer import __version__
from consumer.errors import FencedError, RegistryError, TransientError
from consumer.logs import get_logger
from consumer.metrics import Metrics, Rebalance, Stage
from consumer.model import Message, PartitionId
from consumer.service.batch import Batch, BatchResult
from consumer.service.batch_report import count_events, count_visits, log_batch
from consumer.service.runtime import Runtime
from consumer.web import Health, PartitionStatus, ServiceStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopState:
    """What the loop is at, for the probes; replaced at every turn."""

    joined: bool
    assigned: frozenset[PartitionId]
    refused: dict[PartitionId, str]
    tripped: int
    """Partitions that the circuit breaker stopped."""
    reading: frozenset[PartitionId]
    database: str | None
    """Why the database is unavailable; None while it is well."""
    kafka: str | None
    paused: bool


class Reporter:
    """Tells operators what the loop does; implements `consumer.web.HealthSource`.

    Parameters
    ----------
    metrics
        All collectors.
    runtime
        Clocks of the machine.
    stalled_after_s
        A loop that has not turned for so long is not alive.
    """

    def __init__(self, metrics: Metrics, runtime: Runtime, *, stalled_after_s: float) -> None:
        self._metrics = metrics
        self._runtime = runtime
        self._stalled_after_s = stalled_after_s
        self._log = get_logger(__name__)
        self._started_at = datetime.fromtimestamp(runtime.wall_s(), UTC)
        self._turned_s = self._runtime.monotonic_s()
        self._state: LoopState | None = None
        self._answered = False
        self._stopping = False
        self._waiting: str | None = None
        self._decode_s = self._region_s = 0.0
        self._counts: Counter[str] = Counter({"events": 0, "visits written": 0, "dead letters": 0})
        self._partitions: dict[PartitionId, PartitionStatus] = {}
        self._last_visit: tuple[str, datetime] | None = None

    def turned(self, state: LoopState) -> None:
        """Note that the loop has turned."""
        self._turned_s = self._runtime.monotonic_s()
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

    def answered(self) -> None:
        """Note that the database has answered."""
        self._answered = True

    def idle(self) -> None:
        """Note that every partition is read to its end."""
        self._metrics.last_progress.set(self._runtime.wall_s())
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

    def events_wait(self, error: TransientError) -> None:
        """Note that events wait: for the schema registry, or for the process that reads headers."""
        registry = isinstance(error, RegistryError)
        self._metrics.registry_errors.inc(int(registry))
        reason = "the schema registry is unavailable" if registry else str(error)
        if self._waiting is None:
            self._log.warning(f"{reason}, events wait", detail=str(error))
        self._waiting = reason

    def no_event_waits(self) -> None:
        """Note that everything could be decoded."""
        self._waiting = None

    def rebalanced(self, event: Rebalance, partitions: Collection[PartitionId]) -> None:
        """Count what the group did with partitions of this replica."""
        self._metrics.rebalances.labels(event).inc()
        if event is Rebalance.ASSIGNED:
            for partition in partitions:
                self._metrics.partition_assigned(partition)
        log = self._log.warning if event is Rebalance.LOST else self._log.info
        log(f"partitions {event}", partitions=[f"{p.topic}[{p.partition}]" for p in sorted(partitions)])

    def fenced(self, error: FencedError) -> None:
        """Count a batch that was fenced."""
        self._metrics.fenced.inc()
        self._log.warning("batch fenced, nothing of it was written", detail=str(error))

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
                self._partitions[partition] = replace(known, lag=lag)

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
        now_s = self._runtime.wall_s()
        self._answered = True
        count_events(self._metrics, result)
        count_visits(self._metrics, result, now_s)
        log_batch(self._log, result)
        self._counts["dead letters"] += len(result.dead_letters)
        self._counts["visits written"] += len(result.written)
        if result.written:
            visit = result.written[-1].definition
            self._last_visit = (f"{visit.instrument} {visit.id} ({visit.name})", datetime.fromtimestamp(now_s, UTC))
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
        self._metrics.batch_committed(messages=messages, stages_s=stages, round_trips=result.round_trips, at_s=now_s)
        self._counts["events"] += messages

    def _count_partitions(
        self, batch: Batch, result: BatchResult, high_watermark: Callable[[PartitionId], int | None]
    ) -> None:
        for advance in batch.offset_updates:
            if advance.next_offset is None or (self._state and advance.partition not in self._state.assigned):
                continue
            high = high_watermark(advance.partition)
            lag = None if high is None else max(high - advance.next_offset, 0)
            waiting = result.waiting.get(advance.offset_id)
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
        still_s = self._runtime.monotonic_s() - self._turned_s
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
                reasons.append("the database is unavailable")
            reasons += [f"{p.topic}[{p.partition}]: {detail}" for p, detail in sorted(state.refused.items())]
        if self._waiting is not None:
            reasons.append(self._waiting)
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
            kafka=None if state is None else state.kafka,
            counts=dict(self._counts),
        )
