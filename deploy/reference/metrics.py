"""The reference of all metrics, written from the collectors themselves: ``python -m deploy.reference.metrics``."""

import sys
from enum import StrEnum

from prometheus_client import CollectorRegistry

from consumer.butler.changes import SinkResult
from consumer.errors import DeadLetterReason
from consumer.metrics.butler import ButlerMetrics
from consumer.metrics.collectors import Metrics
from consumer.metrics.labels import DB_ERROR_CLASSES, UNKNOWN, EventOutcome, Rebalance, Stage, VisitResult
from consumer.metrics.source import SourceMetrics
from consumer.model import CloseReason, SkipReason
from consumer.sources.ignored import IgnoredReason
from consumer.sources.interfaces import EmitCommand
from consumer.sources.model import RejectReason


def metrics_reference() -> str:
    """Return the reference of all metrics as Markdown."""
    lines = [
        "# Metrics",
        "",
        "Written by `python -m deploy.reference.metrics`; do not edit.",
        "",
        "Served at `/metrics`, those with `source_` by emitters (`visit-consumer emit watch` and others), those with",
        "`butler_` by sinks (`visit-consumer butler-sink`). Times are",
        f"UTC seconds since the Unix epoch. The label `instrument` is a configured instrument or `{UNKNOWN}`.",
        "A partition's series exist while a replica has it; sum them over the replicas.",
        "",
        "| metric | type | labels | meaning |",
        "|---|---|---|---|",
    ]
    sets = (Metrics, SourceMetrics, ButlerMetrics)
    described = [each for collectors in sets for each in collectors(CollectorRegistry()).descriptions]
    for each in sorted(described, key=lambda description: description.name):
        labels = ", ".join(f"`{label}`" for label in each.labels)
        lines.append(f"| `{each.name}` | {each.kind} | {labels} | {each.meaning} |")
    lines += ["", "## Values of labels", "", "| label | value | meaning |", "|---|---|---|"]
    for metric, label, values in (
        ("events_total", "outcome", EventOutcome),
        ("exposures_skipped_total", "reason", SkipReason),
        ("dead_letters_total", "reason", DeadLetterReason),
        ("groups_closed_total", "reason", CloseReason),
        ("visits_written_total", "result", VisitResult),
        ("stage_duration_seconds", "stage", Stage),
        ("rebalances_total", "event", Rebalance),
        ("source_objects_total", "command", EmitCommand),
        ("source_ignored_total", "reason", IgnoredReason),
        ("source_rejected_total", "reason", RejectReason),
        ("butler_visits_total", "result", SinkResult),
    ):
        lines.append(
            f"| `{metric}{{{label}}}` | {', '.join(f'`{value}`' for value in values)} | {_first_line(values)} |"
        )
    classes = ", ".join(f"`{name}`" for name in DB_ERROR_CLASSES)
    lines.append(f"| `db_errors_total{{class}}` | {classes} | First two characters of the SQLSTATE. |")
    return "\n".join(lines) + "\n"


def _first_line(values: type[StrEnum]) -> str:
    """Return the summary of an enumeration's docstring, without what follows a semicolon."""
    return (values.__doc__ or "").split("\n")[0].split(";")[0].rstrip(".") + "."


if __name__ == "__main__":
    sys.stdout.write(metrics_reference())
