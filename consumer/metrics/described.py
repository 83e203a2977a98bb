"""Collectors that are described for the reference, and whose known labels start at 0."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from consumer.metrics.labels import NAMESPACE


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricDescription:
    """One line of the reference."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


class DescribedCollectors:
    """A set of collectors.

    Parameters
    ----------
    registry
        Holds them.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.descriptions: list[MetricDescription] = []

    def _counter(self, name: str, meaning: str, **labels: Iterable[str]) -> Counter:
        counter = Counter(
            self._described(name, "counter", meaning, labels), meaning, list(labels), registry=self.registry
        )
        for values in _combinations(labels):
            counter.labels(*values)
        return counter

    def _gauge(self, name: str, meaning: str, **labels: Iterable[str]) -> Gauge:
        gauge = Gauge(self._described(name, "gauge", meaning, labels), meaning, list(labels), registry=self.registry)
        for values in _combinations(labels):
            gauge.labels(*values)
        return gauge

    def _histogram(self, name: str, meaning: str, buckets: Sequence[float], **labels: Iterable[str]) -> Histogram:
        full = self._described(name, "histogram", meaning, labels)
        histogram = Histogram(full, meaning, list(labels), registry=self.registry, buckets=buckets)
        for values in _combinations(labels):
            histogram.labels(*values)
        return histogram

    def _described(self, name: str, kind: str, meaning: str, labels: Iterable[str]) -> str:
        full = f"{NAMESPACE}_{name}"
        self.descriptions.append(MetricDescription(name=full, kind=kind, labels=tuple(labels), meaning=meaning))
        return full


def _combinations(labels: dict[str, Iterable[str]]) -> Iterable[tuple[str, ...]]:
    """Return the label values that are known beforehand; none where one of the labels has none."""
    return product(*([str(value) for value in values] for values in labels.values())) if labels else ()
