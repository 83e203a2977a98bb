"""The service's metrics: what they are called, what they mean, and the collectors that hold them."""

from consumer.metrics.collectors import Metrics
from consumer.metrics.described import MetricDescription
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
