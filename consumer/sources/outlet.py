"""What comes of objects, as messages: events, rejections, and the entries of the topic of waiting objects.

With ``emits: exposure`` the raws of one exposure that one turn of the pipeline brought are one event.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from consumer.events import RAW_REJECTED, RawEncoder, encode, encode_record
from consumer.logs import Redaction, get_logger
from consumer.metrics.source import SourceMetrics
from consumer.model import Exposure
from consumer.sources.events import exposure_event, message_key
from consumer.sources.interfaces import EmitCommand, MessageProducer
from consumer.sources.model import RejectedError, RejectReason, SourceRecord, encodable
from consumer.sources.waiting import WaitingObject

_MAX_NOTIFICATION = 65_536
_MAX_DETAIL = 2_000
_MAX_EVENT_BYTES = 900_000
"""Brokers take a megabyte by default; what they refuse would be sent for ever."""

_log = get_logger(__name__)
Delivered = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """An object, or a notification, that becomes no event."""

    error: RejectedError
    uri: str | None
    command: EmitCommand
    notification: str | None
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTopics:
    """Where the messages go."""

    events: str
    rejected: str
    waiting: str


def log_rejections(rejections: Sequence[Rejection]) -> None:
    """Log what one turn rejected: a line, however many they are."""
    first = rejections[0]
    _log.warning(
        "objects rejected",
        objects=len(rejections),
        first=None if first.uri is None else encodable(first.uri),
        reason=str(first.error.reason),
        detail=first.error.detail[:_MAX_DETAIL],
    )


class Outlet:
    """Encodes and sends.

    Parameters
    ----------
    producer
        Sends.
    topics
        Where to.
    metrics
        Count what was delivered.
    by_exposure
        Whether raws become events of exposures.
    wall_ms
        The clock, UTC milliseconds since the Unix epoch.
    report
        Is told what each turn rejected, if anything.
    """

    def __init__(
        self,
        producer: MessageProducer,
        topics: SourceTopics,
        metrics: SourceMetrics,
        *,
        by_exposure: bool,
        wall_ms: Callable[[], int],
        report: Callable[[Sequence[Rejection]], None] = log_rejections,
    ) -> None:
        self._producer = producer
        self._topics = topics
        self._metrics = metrics
        self._by_exposure = by_exposure
        self._wall_ms = wall_ms
        self._report = report
        self._encoder = RawEncoder()
        self._redaction = Redaction()
        self._turn: dict[Exposure, list[tuple[int | None, Delivered]]] = {}
        self._rejected_this_turn: list[Rejection] = []
        self._delivered: Counter[str] = Counter()
        """Events of this turn that the brokers have, by instrument."""
        self.events = 0
        """How many the brokers have."""
        self.rejections = 0
        """How many were sent."""

    @property
    def undelivered(self) -> int:
        """How many messages the brokers have not acknowledged."""
        return self._producer.undelivered

    def send_record(self, record: SourceRecord, delivered: Delivered) -> None:
        """Send the event of a header; ``delivered`` is called once the brokers have it, here and below.

        Raises
        ------
        RejectedError
            If raws are to be sent and the header names no detector, or if the event is too large.
        """
        if self._by_exposure:
            self._turn.setdefault(record.exposure, []).append((record.detector, delivered))
        else:
            value = self._encoder.encode(record.raw(self._wall_ms() * 1000))
            if len(value) > _MAX_EVENT_BYTES:
                detail = f"its event would have {len(value)} bytes, the limit is {_MAX_EVENT_BYTES}"
                raise RejectedError(RejectReason.TOO_LARGE, detail, uri=record.uri)
            self._send_event(record.exposure, value, delivered)

    def send_expected(self, exposure: Exposure, detectors: Sequence[int], delivered: Delivered) -> None:
        """Send which detectors will bring a raw of an exposure."""
        event = exposure_event(exposure, expected=detectors, ingested_at_us=self._wall_ms() * 1000)
        self._send_event(exposure, encode(event), delivered)

    def send_rejection(self, rejection: Rejection, delivered: Delivered) -> None:
        """Send a rejection, without any credentials."""
        mask = self._redaction.text
        uri = None if rejection.uri is None else encodable(rejection.uri)
        value = encode_record(
            {
                "reason": str(rejection.error.reason),
                "detail": mask(rejection.error.detail)[:_MAX_DETAIL],
                "uri": uri,
                "command": str(rejection.command),
                "notification": self._without_credentials(rejection.notification),
                "attempts": rejection.attempts,
                "rejected_at": self._wall_ms() * 1000,
            },
            RAW_REJECTED,
        )
        self._metrics.rejected.labels(rejection.error.reason).inc()
        self._rejected_this_turn.append(rejection)
        self.rejections += 1
        self._producer.send(self._topics.rejected, (uri or "").encode(), value, delivered)

    def send_no_longer_rejected(self, uri: str) -> None:
        """Send that an object which was rejected became an event."""
        self._producer.send(self._topics.rejected, encodable(uri).encode(), None, _nothing)

    def send_waiting(self, entry: WaitingObject, delivered: Delivered) -> None:
        """Send the entry of an object that cannot be read yet, without any credentials."""
        entry = replace(
            entry,
            detail=self._redaction.text(entry.detail)[:_MAX_DETAIL],
            notification=self._without_credentials(entry.notification),
        )
        self._producer.send(self._topics.waiting, entry.uri.encode(), entry.encode(), delivered)

    def send_no_longer_waiting(self, entry: WaitingObject) -> None:
        """Remove the entry of an object. A process that ends before the brokers have it only tries once more."""
        self._producer.send(self._topics.waiting, entry.uri.encode(), None, _nothing)

    def flush(self) -> None:
        """End a turn: send what it brought together, log what it rejected, and report deliveries.

        Raises
        ------
        FatalError
            When the producer cannot go on.
        """
        for exposure, raws in self._turn.items():
            detectors = {detector for detector, _ in raws if detector is not None}
            event = exposure_event(exposure, detectors=detectors or None, ingested_at_us=self._wall_ms() * 1000)
            self._send_event(exposure, encode(event), partial(_call_all, [delivered for _, delivered in raws]))
        self._turn.clear()
        if self._rejected_this_turn:
            self._report(self._rejected_this_turn)
            self._rejected_this_turn.clear()
        self._producer.poll(0)
        for instrument, events in self._delivered.items():
            self._metrics.events.labels(self._metrics.instrument(instrument)).inc(events)
            self._metrics.last_event.set(self._wall_ms() / 1000)
            self.events += events
        self._delivered.clear()

    def _without_credentials(self, notification: str | None) -> str | None:
        return None if notification is None else encodable(self._redaction.text(notification)[:_MAX_NOTIFICATION])

    def _send_event(self, exposure: Exposure, value: bytes, delivered: Delivered) -> None:
        done = partial(self._event_delivered, exposure.instrument, delivered)
        self._producer.send(self._topics.events, message_key(exposure), value, done)

    def _event_delivered(self, instrument: str, delivered: Delivered) -> None:
        self._delivered[instrument] += 1
        delivered()


def _call_all(functions: Sequence[Delivered]) -> None:
    for each in functions:
        each()


def _nothing() -> None:
    """Wait for nothing."""
