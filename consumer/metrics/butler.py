"""The metrics of a Butler sink."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from consumer.metrics.described import DescribedCollectors

_BATCH_BUCKETS_S = (0.03, 0.1, 0.3, 1, 3, 10, 30, 100)


class ButlerMetrics(DescribedCollectors):
    """The collectors of a sink, one process for each registry.

    Parameters
    ----------
    registry
        Holds them; a fresh one for each test.
    results, noted
        Values of labels: of `SinkResult` in `consumer.butler`, and the states of a noted visit.
    process
        Whether to add the process's, the platform's and the garbage collector's metrics.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        results: Iterable[str] = (),
        noted: Iterable[str] = (),
        process: bool = False,
    ) -> None:
        super().__init__(registry)
        self.visits = self._counter(
            "butler_visits_total", "Revisions of visits that the sink has dealt with.", result=results
        )
        self.pending = self._gauge(
            "butler_pending_visits", "Visits that the registry is to get, at most 20,000; those that wait included."
        )
        self.waiting = self._gauge(
            "butler_waiting_visits", "Visits that wait for exposures, or for their instrument, in the registry."
        )
        self.oldest_pending = self._gauge(
            "butler_oldest_pending_timestamp_seconds",
            "When the visit that the registry lacks for longest was written; 0 without one.",
        )
        self.noted = self._gauge(
            "butler_noted_visits",
            "Visits that differ from the registry: regions of another client were kept, refused, or removed here.",
            state=noted,
        )
        self.errors = self._counter("butler_errors_total", "Times that a database did not answer.")
        self.active = self._gauge("butler_active", "1 in the process that writes, 0 in one that stands by.")
        self.last_turn = self._gauge("butler_last_turn_timestamp_seconds", "When the sink's loop last succeeded.")
        self.batch_duration = self._histogram(
            "butler_batch_duration_seconds", "Reading, comparing and writing one batch.", _BATCH_BUCKETS_S
        )
        if process:
            ProcessCollector(registry=registry)
            PlatformCollector(registry=registry)
            GCCollector(registry=registry)
