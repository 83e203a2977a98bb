"""The service's metrics: what they are called, what they mean, and the collectors that hold them."""

from consumer.metrics.collectors import MetricDescription, Metrics
from consumer.metrics.labels import DB_ERROR_CLASSES, NAMESPACE, UNKNOWN, EventOutcome, Rebalance, Stage, VisitResult

__all__ = [
    "DB_ERROR_CLASSES",
    "NAMESPACE",
    "UNKNOWN",
    "EventOutcome",
    "MetricDescription",
    "Metrics",
    "Rebalance",
    "Stage",
    "VisitResult",
]
