"""Metrics: names, known labels at 0, and figures that go when their partition goes."""

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from consumer.metrics import DB_ERROR_CLASSES, EventOutcome, Metrics, Stage, VisitResult
from consumer.model import CloseReason, PartitionId, SkipReason
from deploy.reference.metrics import metrics_reference

REFERENCE = Path(__file__).parents[3] / "deploy" / "METRICS.md"
PARTITION = PartitionId("raw-ingested", 3)
ON_PARTITION = {"topic": "raw-ingested", "partition": "3"}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry(), instruments=["LSSTCam", "LATISS"])


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"visit_consumer_{name}", labels)


def test_the_metrics_of_the_design_exist(metrics: Metrics) -> None:
    names = {each.name.removeprefix("visit_consumer_") for each in metrics.descriptions}
    assert names >= {
        "events_total",
        "exposures_skipped_total",
        "dead_letters_total",
        "lag_messages",
        "oldest_unprocessed_timestamp_seconds",
        "last_progress_timestamp_seconds",
        "open_groups",
        "oldest_open_group_timestamp_seconds",
        "groups_closed_total",
        "visits_written_total",
        "detector_regions_missing",
        "visit_latency_seconds",
        "stage_duration_seconds",
        "db_errors_total",
        "rebalances_total",
        "build_info",
    }


def test_names_and_labels_follow_the_conventions(metrics: Metrics) -> None:
    for each in metrics.descriptions:
        assert re.fullmatch(r"visit_consumer_[a-z_]+", each.name)
        assert each.name.endswith("_total") == (each.kind == "counter"), each.name
        assert not {"exposure", "visit", "group", "day", "day_obs"} & set(each.labels), each.name
        assert not re.search(r"_(ms|us|minutes|hours|kb|mb)(_|$)", each.name)
        assert each.meaning.endswith(".")


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        *(
            ("events_total", {"instrument": i, "outcome": o})
            for i in ("LSSTCam", "LATISS", "unknown")
            for o in EventOutcome
        ),
        *(("visits_written_total", {"instrument": "LATISS", "result": r}) for r in VisitResult),
        *(("groups_closed_total", {"instrument": "LATISS", "reason": r}) for r in CloseReason),
        *(("exposures_skipped_total", {"instrument": "LATISS", "reason": r}) for r in SkipReason),
        *(("stage_duration_seconds_count", {"stage": s}) for s in Stage),
        *(("db_errors_total", {"class": c}) for c in DB_ERROR_CLASSES),
        ("visit_latency_seconds_count", {"instrument": "LSSTCam", "reason": "complete"}),
        ("dead_letters_total", {"reason": "undecodable"}),
        ("fenced_total", {}),
        ("breaker_open", {}),
    ],
)
def test_known_labels_start_at_0(metrics: Metrics, name: str, labels: dict[str, str]) -> None:
    assert value(metrics, name, **labels) == 0


def test_unknown_instruments_make_no_new_series(metrics: Metrics) -> None:
    assert metrics.instrument("LSSTCam") == "LSSTCam"
    assert metrics.instrument("robert'); DROP") == "unknown"
    assert metrics.instrument(None) == "unknown"
    before = len(list(metrics.registry.collect()))
    metrics.visit_committed("nobody", CloseReason.IDLE, latency_s=1, at_s=2)
    assert value(metrics, "visit_latency_seconds_count", instrument="unknown", reason="idle") == 1
    assert len(list(metrics.registry.collect())) == before


def test_a_partition_shows_while_it_is_held(metrics: Metrics) -> None:
    assert value(metrics, "lag_messages", **ON_PARTITION) is None
    metrics.partition_assigned(PARTITION)
    assert value(metrics, "lag_messages", **ON_PARTITION) == 0
    metrics.partition_progress(PARTITION, position=41, lag=7, stream_time_ms=1_700_000_000_500)
    metrics.partition_waiting(PARTITION, groups=2, oldest_opened_ms=1_700_000_000_000)
    assert value(metrics, "position_offset", **ON_PARTITION) == 41
    assert value(metrics, "lag_messages", **ON_PARTITION) == 7
    assert value(metrics, "stream_timestamp_seconds", **ON_PARTITION) == 1_700_000_000.5
    assert value(metrics, "open_groups", **ON_PARTITION) == 2
    assert value(metrics, "oldest_open_group_timestamp_seconds", **ON_PARTITION) == 1_700_000_000
    metrics.partition_waiting(PARTITION, groups=0, oldest_opened_ms=None)
    assert value(metrics, "oldest_open_group_timestamp_seconds", **ON_PARTITION) == 0
    metrics.partition_gone(PARTITION)
    metrics.partition_gone(PARTITION)
    assert b"raw-ingested" not in generate_latest(metrics.registry)


def test_a_committed_batch_is_counted_with_its_stages(metrics: Metrics) -> None:
    metrics.batch_committed(
        messages=205, stages_s={Stage.DECODE: 0.003, Stage.WRITE: 0.2}, round_trips=5, at_s=1_700_000_000.25
    )
    assert value(metrics, "batches_total") == 1
    assert value(metrics, "batch_messages_sum") == 205
    assert value(metrics, "stage_duration_seconds_sum", stage="write") == 0.2
    assert value(metrics, "stage_duration_seconds_bucket", stage="decode", le="0.0025") == 0
    assert value(metrics, "stage_duration_seconds_bucket", stage="decode", le="0.005") == 1
    assert value(metrics, "last_progress_timestamp_seconds") == 1_700_000_000.25


def test_visit_latency_has_a_bucket_at_the_objective_and_is_never_negative(metrics: Metrics) -> None:
    for latency_s in (-0.5, 29, 31):
        metrics.visit_committed("LATISS", CloseReason.COMPLETE, latency_s=latency_s, at_s=5)
    labels = {"instrument": "LATISS", "reason": "complete"}
    assert value(metrics, "visit_latency_seconds_bucket", **labels, le="30.0") == 2
    assert value(metrics, "visit_latency_seconds_sum", **labels) == 60
    assert value(metrics, "last_visit_timestamp_seconds", instrument="LATISS") == 5


def test_the_process_is_described_on_demand() -> None:
    registry = CollectorRegistry()
    Metrics(registry, process=True)
    text = generate_latest(registry).decode()
    assert "python_info{" in text
    assert "process_resident_memory_bytes" in text
    assert "process_" not in generate_latest(Metrics(CollectorRegistry()).registry).decode()


def test_the_exposition_is_valid_openmetrics(metrics: Metrics) -> None:
    metrics.partition_assigned(PARTITION)
    text = generate_openmetrics(metrics.registry).decode()  # type: ignore[no-untyped-call]  # the client leaves it so
    families = list(text_string_to_metric_families(text))  # type: ignore[no-untyped-call]  # the same
    assert len(families) == len(metrics.descriptions)


def test_the_reference_names_every_metric_and_has_not_drifted(metrics: Metrics) -> None:
    text = metrics_reference()
    for each in metrics.descriptions:
        assert f"| `{each.name}` | {each.kind} |" in text
    assert REFERENCE.read_text(encoding="utf-8") == text, "run: python -m deploy.reference.metrics > deploy/METRICS.md"
