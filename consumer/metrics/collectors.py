"""Every metric of the service, in one place.

Names begin with ``visit_consumer_``, units are base units, times are UTC seconds since the Unix epoch. Labels take few
values: never an exposure, a visit, a group or a day. What is known beforehand starts at 0, so that a first increase
shows. A module without I/O: the caller says what happened, and a registry of its choice holds it.
"""

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from consumer.errors import DeadLetterReason
from consumer.metrics.described import DescribedCollectors
from consumer.metrics.labels import (
    BATCH_BUCKETS,
    DB_ERROR_CLASSES,
    LATENCY_BUCKETS_S,
    ROUND_TRIP_BUCKETS,
    STAGE_BUCKETS_S,
    UNKNOWN,
    EventOutcome,
    Rebalance,
    Stage,
    VisitResult,
)
from consumer.model import CloseReason, PartitionId, SkipReason


class Metrics(DescribedCollectors):
    """The collectors of the service.

    Parameters
    ----------
    registry
        Holds them; a fresh one for each test.
    instruments
        Names of the configured instruments; every other one is counted as ``unknown``.
    process
        Whether to add the process's, the platform's and the garbage collector's metrics.
    """

    def __init__(self, registry: CollectorRegistry, *, instruments: Iterable[str] = (), process: bool = False) -> None:
        super().__init__(registry)
        self._instruments = (*sorted(instruments), UNKNOWN)
        self._define_event_metrics()
        self._define_visit_metrics()
        self._define_position_metrics()
        self._define_health_metrics()
        if process:
            ProcessCollector(registry=registry)
            PlatformCollector(registry=registry)
            GCCollector(registry=registry)

    def _define_event_metrics(self) -> None:
        instruments = self._instruments
        self.events = self._counter(
            "events_total",
            "Messages read and committed, by outcome.",
            instrument=instruments,
            outcome=EventOutcome,
        )
        self.exposures_skipped = self._counter(
            "exposures_skipped_total", "Exposures that define no visit.", instrument=instruments, reason=SkipReason
        )
        self.dead_letters = self._counter("dead_letters_total", "Dead letters written.", reason=DeadLetterReason)
        self.clock_skew_clamped = self._counter(
            "clock_skew_clamped_total", "Messages stamped further in the future than closing.max_clock_skew_s."
        )
        self.batches = self._counter("batches_total", "Batches committed.")
        self.batch_messages = self._histogram("batch_messages", "Messages in a committed batch.", BATCH_BUCKETS)
        self.batch_round_trips = self._histogram(
            "batch_round_trips",
            "How often the transaction of a committed batch waited for an answer of PostgreSQL.",
            ROUND_TRIP_BUCKETS,
        )
        self.stage_duration = self._histogram(
            "stage_duration_seconds", "Time that one batch spent in a stage.", STAGE_BUCKETS_S, stage=Stage
        )

    def _define_visit_metrics(self) -> None:
        instruments = self._instruments
        self.groups_closed = self._counter(
            "groups_closed_total", "Groups closed, by reason.", instrument=instruments, reason=CloseReason
        )
        self.late_exposures = self._counter(
            "late_exposures_total", "Exposures that arrived after their group had closed.", instrument=instruments
        )
        self.visits_written = self._counter(
            "visits_written_total",
            "Visits defined, by result.",
            instrument=instruments,
            result=VisitResult,
        )
        self.detector_regions_missing = self._gauge(
            "detector_regions_missing",
            "Detectors that had a raw but got no region, over the visits of the latest batch that wrote any.",
            instrument=instruments,
        )
        self.visit_latency = self._histogram(
            "visit_latency_seconds",
            "From the timestamp of the last message that a visit needed to the commit of its rows.",
            LATENCY_BUCKETS_S,
            instrument=instruments,
            reason=CloseReason,
        )
        self.last_visit = self._gauge(
            "last_visit_timestamp_seconds", "When a visit was last written; 0 before the first.", instrument=instruments
        )
        self.audit_findings = self._gauge(
            "audit_findings",
            "Findings of the last audit of the newest audited night.",
            instrument=instruments,
            severity=("error", "warning"),
        )
        self.audited = self._gauge(
            "audit_timestamp_seconds", "When that audit was; 0 without one.", instrument=instruments
        )
        self.outbox_backlog = self._gauge("outbox_backlog", "Announcements written but not yet sent.")
        self.outbox_oldest = self._gauge(
            "oldest_outbox_timestamp_seconds", "When the oldest unsent announcement was written; 0 without one."
        )
        self.announced = self._counter("announcements_sent_total", "Announcements that the broker acknowledged.")
        self.announce_errors = self._counter("announcement_errors_total", "Announcements that failed and are retried.")

    def _define_position_metrics(self) -> None:
        partition = {"topic": (), "partition": ()}
        self.lag = self._gauge(
            "lag_messages", "Offsets between the stored position and the end of the log.", **partition
        )
        self.position = self._gauge("position_offset", "Next offset, as stored in PostgreSQL.", **partition)
        self.stream_time = self._gauge(
            "stream_timestamp_seconds", "Stream time: the largest message timestamp read.", **partition
        )
        self.partition_up = self._gauge(
            "partition_up", "1 while the partition is read, 0 while it is paused or stalled.", **partition
        )
        self.open_groups = self._gauge("open_groups", "Open groups that use the partition's stream time.", **partition)
        self.oldest_open_group = self._gauge(
            "oldest_open_group_timestamp_seconds",
            "Stream time at which the oldest open group was opened; 0 without one.",
            **partition,
        )
        self.partitions_assigned = self._gauge("partitions_assigned", "Partitions assigned to this replica.")
        self.oldest_unprocessed = self._gauge(
            "oldest_unprocessed_timestamp_seconds",
            "Timestamp of the oldest message that was read but is not committed; 0 without one.",
        )

    def _define_health_metrics(self) -> None:
        self.last_progress = self._gauge(
            "last_progress_timestamp_seconds",
            "When a batch was last committed, or when the replica last was at the end of the log with nothing to do.",
        )
        self.ready = self._gauge("ready", "1 while the replica is ready (/readyz).")
        self.breaker_open = self._gauge("breaker_open", "1 while the circuit breaker is open and reading is stopped.")
        self.fenced = self._counter(
            "fenced_total", "Batches dropped because another replica has the lease of a partition."
        )
        self.bisections = self._counter(
            "bisections_total",
            "Batches cut in two: a row was refused, the batch took too long, or groups have the same visit.",
        )
        self.db_errors = self._counter("db_errors_total", "Errors of PostgreSQL.", **{"class": DB_ERROR_CLASSES})
        self.kafka_errors = self._counter("kafka_errors_total", "Errors that the Kafka client reported.")
        self.registry_errors = self._counter("registry_errors_total", "Failed requests to the schema registry.")
        self.rebalances = self._counter("rebalances_total", "Changes of the assigned partitions.", event=Rebalance)
        self.build_info = self._gauge(
            "build_info", "Always 1; the labels are the versions that run.", version=(), librdkafka=()
        )

    def instrument(self, name: str | None) -> str:
        """Return the label of an instrument: its name where it is configured, else ``unknown``."""
        return name if name in self._instruments and name is not None else UNKNOWN

    def partition_assigned(self, partition: PartitionId) -> None:
        """Make a partition's series appear, at 0."""
        for gauge in self._partition_gauges():
            gauge.labels(partition.topic, str(partition.partition)).set(0)

    def partition_gone(self, partition: PartitionId) -> None:
        """Forget a partition that this replica no longer holds: its last figures would mislead."""
        for gauge in self._partition_gauges():
            gauge.remove(partition.topic, str(partition.partition))

    def partition_progress(
        self, partition: PartitionId, *, position: int, lag: int, stream_time_ms: int | None = None
    ) -> None:
        """Note where a partition stands after a commit: next offset, messages behind it, stream time."""
        labels = (partition.topic, str(partition.partition))
        self.position.labels(*labels).set(position)
        self.lag.labels(*labels).set(lag)
        if stream_time_ms is not None:
            self.stream_time.labels(*labels).set(stream_time_ms / 1000)

    def partition_waiting(self, partition: PartitionId, *, groups: int, oldest_opened_ms: int | None) -> None:
        """Note how many groups wait on a partition's clock, and since when the oldest does."""
        labels = (partition.topic, str(partition.partition))
        self.open_groups.labels(*labels).set(groups)
        self.oldest_open_group.labels(*labels).set((oldest_opened_ms or 0) / 1000 if groups else 0)

    def batch_committed(self, *, messages: int, stages_s: dict[Stage, float], round_trips: int, at_s: float) -> None:
        """Count a batch whose transaction is committed; ``at_s`` is UTC seconds since the Unix epoch."""
        self.batches.inc()
        self.batch_messages.observe(messages)
        self.batch_round_trips.observe(round_trips)
        for stage, duration_s in stages_s.items():
            self.stage_duration.labels(stage).observe(duration_s)
        self.last_progress.set(at_s)

    def visit_committed(self, instrument: str, reason: CloseReason, *, latency_s: float, at_s: float) -> None:
        """Note one visit whose rows are committed, so long after its last message's time stamp."""
        label = self.instrument(instrument)
        self.visit_latency.labels(label, reason).observe(max(latency_s, 0.0))
        self.last_visit.labels(label).set(at_s)

    def night_audited(self, instrument: str, found: Mapping[str, int], *, at_s: float) -> None:
        """Note the last audit of an instrument: findings by severity, and when, UTC seconds since the Unix epoch."""
        label = self.instrument(instrument)
        for severity, count in found.items():
            self.audit_findings.labels(label, severity).set(count)
        self.audited.labels(label).set(at_s)

    def _partition_gauges(self) -> tuple[Gauge, ...]:
        return (
            self.lag,
            self.position,
            self.stream_time,
            self.partition_up,
            self.open_groups,
            self.oldest_open_group,
        )
