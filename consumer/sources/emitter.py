"""The composition root of an emitter: one pipeline, one producer, a port, and the lister that a command asks for."""

import random
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import cached_property
from queue import SimpleQueue
from time import monotonic, perf_counter, time

from prometheus_client import CollectorRegistry

from consumer import __version__
from consumer.config import Settings
from consumer.errors import TransientError, VisitConsumerError
from consumer.kafka.delivery import DeliveringProducer
from consumer.kafka.properties import Properties, connection_properties
from consumer.kafka.whole_topic import create_missing, read_topic
from consumer.logs import get_logger
from consumer.metrics.source import SourceMetrics
from consumer.process import stops_on_signals, tune_interpreter
from consumer.sources.configured import configured_translator, events_topic, header_limits
from consumer.sources.detector_names import DetectorNames
from consumer.sources.ignored import IgnoredReason
from consumer.sources.interfaces import EmitCommand, EmitterProducer, FoundObject, Machine, ObjectReader
from consumer.sources.live_pipeline import LivePipeline
from consumer.sources.model import RejectReason
from consumer.sources.object_stores import ObjectStores
from consumer.sources.outlet import Outlet, Rejection, SourceTopics, log_rejections
from consumer.sources.place_reader import PlaceReader
from consumer.sources.places import Places
from consumer.sources.retries import RetryPolicy
from consumer.sources.waiting import WaitingObject
from consumer.web import Health, HttpServer, ServiceStatus, read_only_port

_TURN_S = 0.2
_STALLED_AFTER_S = 30.0
_SILENT_S = 60.0
"""Brokers that take nothing for so long are given up by a command that is to end."""

_log = get_logger(__name__)


class Emitter:
    """One process that turns objects into events.

    Parameters
    ----------
    settings
        Validated.
    places
        What it may read.
    command
        What finds the objects; its name is on the metric by which an emitter that is gone is missed.
    policy
        When to try again.
    reader
        Reads the objects; None: those of `places`.
    producer
        Takes the messages instead of brokers, which are then not looked for.
    report
        Is told what each turn rejected.

    Raises
    ------
    ConfigurationError
        When a header map, a file of corrections or a property of librdkafka is wrong.
    """

    def __init__(
        self,
        settings: Settings,
        places: Places,
        command: EmitCommand,
        *,
        policy: RetryPolicy,
        reader: ObjectReader | None = None,
        producer: EmitterProducer | None = None,
        report: Callable[[Sequence[Rejection]], None] = log_rejections,
    ) -> None:
        source = settings.source
        self._settings = settings
        self._policy = policy
        self.places = places
        self.topics = SourceTopics(
            events=events_topic(settings),
            rejected=source.rejected_topic,
            waiting=source.waiting_topic,
        )
        self.metrics = SourceMetrics(
            CollectorRegistry(),
            instruments=settings.instruments,
            commands=EmitCommand,
            ignored=IgnoredReason,
            rejected=RejectReason,
            process=True,
        )
        self._last_turn = self.metrics.last_turn.labels(command)
        self._has_brokers = producer is None
        self._producer = producer or DeliveringProducer(self.connection)
        self.stopping = threading.Event()
        self._failure: VisitConsumerError | None = None
        self._turned_at_s = monotonic()
        self._started_at = datetime.now(UTC)
        machine = Machine(
            wall_ms=lambda: int(time() * 1000),
            stopwatch_s=perf_counter,
            random=random.random,
            read_elsewhere=_ReaderThreads(source.readers),
        )
        self._outlet = Outlet(
            self._producer,
            self.topics,
            self.metrics,
            by_exposure=source.emits == "exposure",
            wall_ms=machine.wall_ms,
            report=report,
        )
        translator = configured_translator(settings)
        self.stores = ObjectStores(source.endpoint_url)
        self.detector_ids = DetectorNames(translator.detector_ids).ids
        self.pipeline = LivePipeline(
            places,
            reader or PlaceReader(self.stores, header_limits(source)),
            translator,
            self.detector_ids,
            self._outlet,
            self.metrics,
            policy=policy,
            machine=machine,
        )

    @cached_property
    def connection(self) -> Properties:
        """Properties of librdkafka."""
        return connection_properties(self._settings.kafka)

    @property
    def events(self) -> int:
        """How many events the brokers have."""
        return self._outlet.events

    @property
    def rejections(self) -> int:
        """How many objects and notifications were rejected."""
        return self._outlet.rejections

    def offer(self, found: Iterable[FoundObject]) -> None:
        """Offer objects to the pipeline, as fast as it takes them, until it is to end."""
        for each in found:
            if not self.pipeline.offer_when_there_is_room(each, self.stopping):
                return

    def brokers_away(self) -> bool:
        """Return whether the brokers do not answer; any thread may ask."""
        return self._producer.away

    def run(self, lister: Callable[[], None], *, once: bool = False) -> None:
        """Emit until SIGTERM or SIGINT.

        Parameters
        ----------
        lister
            Offers objects, in a thread of its own, until `stopping` is set.
        once
            Whether to end once the lister has, and nothing of what it offered is left. What waited when a former
            process ended is then left to an emitter that goes on.

        Raises
        ------
        VisitConsumerError
            What the lister or the producer failed with; with ``once`` also where a signal or silent brokers ended it
            before all was emitted: to emit all again is harmless.
        """
        if self._has_brokers:
            waiting = {self.topics.waiting: {"cleanup.policy": "compact"}} if self._policy.give_up_s else {}
            create_missing(self.connection, {self.topics.rejected: {}, **waiting})
        with ExitStack() as stack:
            http = self._settings.http
            if http.enabled and not once:
                port = read_only_port(self.metrics.registry, self)
                server = HttpServer(http.host, self._settings.source.http_port, port, setting="source.http_port")
                stack.callback(server.stop)
                server.start()
            timeout_s = self._settings.shutdown.timeout_s
            stack.enter_context(stops_on_signals(self.stopping.set, timeout_s=timeout_s, log=_log))
            if not once:
                self.pipeline.restore(self._waiting_before())
            tune_interpreter()
            thread = threading.Thread(target=self._list, args=(lister,), name="lister", daemon=True)
            thread.start()
            ended = False
            while not self.stopping.is_set() and not ended:
                self._turn(_TURN_S)
                ended = once and self.pipeline.idle and not thread.is_alive()
                if once and self._producer.silent_s > _SILENT_S:
                    self._fail_undelivered()
            if once and not ended:
                self._failure = self._failure or TransientError("asked to stop before all was emitted; emit again")
            self.stopping.set()
            self._drain(thread)
        if self._failure is not None:
            raise self._failure

    def alive(self) -> Health:
        """Whether the pipeline has turned recently."""
        silent_s = monotonic() - self._turned_at_s
        ok = silent_s < _STALLED_AFTER_S
        return Health(ok=ok, reasons=() if ok else (f"the pipeline has not turned for {silent_s:.0f} s",))

    def ready(self) -> Health:
        """Whether the brokers take events."""
        reasons = []
        if self._producer.away or self._producer.last_error is not None:
            reasons.append(f"the brokers take no events: {self._producer.last_error or 'no answer'}")
        if not self.pipeline.has_room:
            reasons.append("too many objects are not acknowledged yet")
        return Health(ok=not reasons, reasons=tuple(reasons))

    def status(self) -> ServiceStatus:
        """Return what the status page shows."""
        return ServiceStatus(
            version=__version__,
            state="stopping" if self.stopping.is_set() else "running",
            started_at=self._started_at,
            counts={"objects in flight": self.pipeline.in_flight, "objects waiting": self.pipeline.waiting},
        )

    def _fail_undelivered(self) -> None:
        reason = self._producer.last_error or f"no answer within {_SILENT_S:.0f} s"
        self._failure = TransientError(
            f"{self._producer.undelivered} messages were not acknowledged: {reason}; emit again"
        )
        self.stopping.set()

    def _list(self, lister: Callable[[], None]) -> None:
        try:
            lister()
        except VisitConsumerError as error:
            self._failure = error
            self.stopping.set()
        except Exception as error:  # noqa: BLE001 -- the top of this thread, whose end must be that of the process
            _log.exception("lister failed")
            self._failure = VisitConsumerError(f"the lister failed: {type(error).__name__}: {error}")
            self.stopping.set()

    def _waiting_before(self) -> Iterator[WaitingObject]:
        latest = {each.key: each.value for each in read_topic(self.connection, self.topics.waiting)}
        for value in latest.values():
            if value is not None:
                try:
                    yield WaitingObject.decode(value)
                except ValueError as error:
                    _log.warning(
                        "invalid message in the topic of waiting objects, skipped",
                        topic=self.topics.waiting,
                        error=str(error),
                    )

    def _turn(self, timeout_s: float) -> None:
        self.pipeline.step(timeout_s)
        self._turned_at_s = monotonic()
        self._last_turn.set(time())
        if self._producer.errors:
            self.metrics.delivery_errors.inc(self._producer.errors)
            self._producer.errors = 0

    def _drain(self, lister: threading.Thread) -> None:
        """Acknowledge what can be: what is left is found, or sent, again after a restart."""
        end_s = monotonic() + self._settings.shutdown.timeout_s / 2
        while (self.pipeline.in_flight or lister.is_alive()) and not self._producer.away and monotonic() < end_s:
            self._turn(0.02)


class _ReaderThreads:
    """Runs reads in threads that do not keep the process alive: a store that hangs must not outlive a shutdown."""

    def __init__(self, number: int) -> None:
        self._reads: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._number = number
        self._started = False

    def __call__(self, read: Callable[[], None]) -> None:
        if not self._started:
            self._started = True
            for number in range(self._number):
                threading.Thread(target=self._work, name=f"reader {number}", daemon=True).start()
        self._reads.put(read)

    def _work(self) -> None:
        while True:
            self._reads.get()()
