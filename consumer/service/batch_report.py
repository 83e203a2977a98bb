"""What one committed batch says to operators: counters and log lines."""

from collections import Counter

from structlog.stdlib import BoundLogger

from consumer.metrics import EventOutcome, Metrics, VisitResult
from consumer.service.batch import BatchResult

_LINES_PER_BATCH = 5
"""Of further lines of one kind only their number is logged: a broken camera must not flood the log."""


def count_events(metrics: Metrics, result: BatchResult) -> None:
    """Count what became of the messages of a batch."""
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


def count_visits(metrics: Metrics, result: BatchResult, now_s: float) -> None:
    """Count the groups and visits of a batch that was committed at `now_s`, UTC seconds since the Unix epoch."""
    diff = result.diff
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
    written.update((each.instrument, VisitResult.REMOVED) for each in result.removed)
    for (instrument, outcome), number in written.items():
        metrics.visits_written.labels(metrics.instrument(instrument), outcome).inc(number)
    last_ms = {(c.group, c.definition.id): c.last_ms for c in diff.candidates}
    for records in result.written:
        needed_ms = last_ms[records.group, records.definition.id]
        metrics.visit_committed(
            records.definition.instrument, records.close_reason, latency_s=now_s - needed_ms / 1000, at_s=now_s
        )


def log_batch(log: BoundLogger, result: BatchResult) -> None:
    """Log the dead letters of a batch, and the groups that closed without a visit."""
    letters, warnings = result.dead_letters, result.warnings
    for letter in list(letters)[:_LINES_PER_BATCH]:
        message = letter.message
        where = None if message is None else f"{message.partition.topic}[{message.partition.partition}]"
        log.warning(
            "dead letter",
            reason=str(letter.reason),
            detail=letter.detail,
            instrument=letter.instrument,
            exposure=letter.exposure,
            group=letter.group_key,
            partition=where,
            offset=None if message is None else message.offset,
        )
    if len(letters) > _LINES_PER_BATCH:
        log.warning("more dead letters", number=len(letters) - _LINES_PER_BATCH)
    for warning in list(warnings)[:_LINES_PER_BATCH]:
        log.warning("group without a visit", detail=warning)
    if len(warnings) > _LINES_PER_BATCH:
        log.warning("more groups without a visit", number=len(warnings) - _LINES_PER_BATCH)
