"""The metrics of an emitter: what became of the objects that it was told of."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from consumer.metrics.described import DescribedCollectors
from consumer.metrics.labels import UNKNOWN

_READ_BUCKETS_S = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)


class SourceMetrics(DescribedCollectors):
    """The collectors of an emitter, one process that lists objects.

    Parameters
    ----------
    registry
        Holds them; a fresh one for each test.
    instruments
        Names of the configured instruments; every other one is counted as ``unknown``.
    commands, ignored, rejected
        Values of labels: of `EmitCommand`, `IgnoredReason` and `RejectReason` in `consumer.sources`.
    process
        Whether to add the process's, the platform's and the garbage collector's metrics.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        instruments: Iterable[str] = (),
        commands: Iterable[str] = (),
        ignored: Iterable[str] = (),
        rejected: Iterable[str] = (),
        process: bool = False,
    ) -> None:
        super().__init__(registry)
        self._instruments = (*sorted(instruments), UNKNOWN)
        self.objects = self._counter("source_objects_total", "Objects that were found or notified.", command=commands)
        self.events = self._counter(
            "source_events_total", "Events that the brokers acknowledged.", instrument=self._instruments
        )
        self.ignored = self._counter(
            "source_ignored_total", "Objects and notifications that are of no interest.", reason=ignored
        )
        self.rejected = self._counter(
            "source_rejected_total", "Objects and notifications that were rejected.", reason=rejected
        )
        self.retries = self._counter("source_retries_total", "Further attempts to read an object.")
        self.delivery_errors = self._counter(
            "source_delivery_errors_total", "Messages that the brokers did not take, and that were sent again."
        )
        self.in_flight = self._gauge("source_in_flight_objects", "Objects that were found and are not acknowledged.")
        self.waiting = self._gauge("source_waiting_objects", "Objects that cannot be read yet.")
        self.oldest_waiting = self._gauge(
            "source_oldest_waiting_timestamp_seconds",
            "When the object that waits longest was tried first; 0 without one.",
        )
        self.last_event = self._gauge(
            "source_last_event_timestamp_seconds", "When the brokers last acknowledged an event; 0 before the first."
        )
        self.last_turn = self._gauge(
            "source_last_turn_timestamp_seconds", "When the emitter's main loop last ran.", command=()
        )
        self.read_duration = self._histogram(
            "source_read_duration_seconds", "Reading one object's header.", _READ_BUCKETS_S
        )
        self.translation_seconds = self._counter(
            "source_translation_seconds_total", "Seconds in which headers were translated."
        )
        if process:
            ProcessCollector(registry=registry)
            PlatformCollector(registry=registry)
            GCCollector(registry=registry)

    def instrument(self, name: str) -> str:
        """Return the label of an instrument: its name where it is configured, else ``unknown``."""
        return name if name in self._instruments else UNKNOWN
