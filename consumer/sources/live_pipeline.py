"""The one pipeline of all listers: an object is found, read, translated, produced, and then acknowledged.

Delivery: at least once. An object is acknowledged once the brokers have its event, its rejection, or its entry in the
topic of waiting objects; an object of no interest at once. What waits, or is slow to read, blocks nothing behind it.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from threading import Event, Lock
from typing import NamedTuple, TypeVar

from consumer.metrics.source import SourceMetrics
from consumer.model import Exposure
from consumer.sources.ignored import IgnoredReason
from consumer.sources.interfaces import (
    DetectorIds,
    EmitCommand,
    FoundObject,
    HeaderTranslator,
    Machine,
    ObjectReader,
    Stopping,
)
from consumer.sources.model import NotReadableYetError, RejectedError, RejectReason
from consumer.sources.outlet import Outlet, Rejection
from consumer.sources.places import ObjectRole, Places
from consumer.sources.reading import ReadResult, SensorsRead, failed, read_object
from consumer.sources.retries import RetryPolicy
from consumer.sources.waiting import WaitingObject, WaitingObjects

MAX_IN_FLIGHT = 5000
"""Offers that are not acknowledged; with notifications, some 10 MB."""
_AT_ONCE = 500
"""Pieces of work in one turn, after which deliveries are reported."""
_TURN_S = 1.0
"""A turn ends early after so long: files of a slow folder are read in it, and the process is to be seen alive."""
_RAWS_REMEMBERED = 100_000
"""So many raws back, the second object of a raw is known to be one, and is not read."""
_EXPOSURES_REMEMBERED = 10_000
_LOOK_FOR_DELIVERIES_S = 0.005
_GAUGES_EVERY_S = 1.0
_WAIT_FOR_ROOM_S = 0.01

Key = TypeVar("Key")
Value = TypeVar("Value")


class _Key(NamedTuple):
    place: str
    name: str
    """Of a raw (see `ObjectIdentity.name`) or of an exposure (its obs_id)."""


class _Task(NamedTuple):
    found: FoundObject
    uri: str
    key: _Key
    role: ObjectRole
    waited: WaitingObject | None
    """Its entry in the topic of waiting objects."""


class LivePipeline:
    """Takes objects from listers, in any order and as often as they like.

    Parameters
    ----------
    places
        Where objects may be read.
    reader, translator, detector_ids
        Read and translate headers, and look up the detectors of side files.
    outlet
        Sends what comes of them.
    metrics
        Count it all.
    policy
        When to try again.
    machine
        Clocks, random numbers, threads.
    """

    def __init__(
        self,
        places: Places,
        reader: ObjectReader,
        translator: HeaderTranslator,
        detector_ids: DetectorIds,
        outlet: Outlet,
        metrics: SourceMetrics,
        *,
        policy: RetryPolicy,
        machine: Machine,
    ) -> None:
        self._places = places
        self._reader = reader
        self._translator = translator
        self._detector_ids = detector_ids
        self._outlet = outlet
        self._metrics = metrics
        self._policy = policy
        self._machine = machine
        # No queue: SimpleQueue's short timeout becomes an endless one by a signal, and Queue is slow.
        self._inbox: deque[Callable[[], None]] = deque()
        self._inbox_filled = Event()
        self._waiting = WaitingObjects()
        self._active: dict[_Key, list[_Task]] = {}
        """Raws that are being read or sent; each with the further objects of it that have come meanwhile."""
        self._finished: OrderedDict[_Key, tuple[str, str]] = OrderedDict()
        """Raws that the brokers have: address and tag of the object that was read."""
        self._exposures: OrderedDict[_Key, Exposure] = OrderedDict()
        self._sensors_waiting: OrderedDict[_Key, str] = OrderedDict()
        """Addresses of files of expected sensors whose exposures have no header yet."""
        self._rejected: OrderedDict[str, None] = OrderedDict()
        """Addresses that this process rejected: one that has better content later is rejected no more."""
        self._found: Counter[EmitCommand] = Counter()
        """Objects of this turn."""
        self._translating_s = 0.0
        """In this turn."""
        self._lock = Lock()
        self._offered = 0
        self._acknowledged = 0
        self._gauges_at_s = machine.stopwatch_s()

    @property
    def in_flight(self) -> int:
        """How many offers are not acknowledged yet; any thread may ask, here and below."""
        return self._offered - self._acknowledged

    @property
    def has_room(self) -> bool:
        """Whether listers may offer more: memory is bounded by their asking."""
        return self.in_flight < MAX_IN_FLIGHT

    @property
    def waiting(self) -> int:
        """How many objects cannot be read yet."""
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        """Whether nothing is left of what was offered, and nothing waits."""
        return self.in_flight == 0 and not len(self._waiting) and not self._outlet.undelivered

    def offer(self, found: FoundObject) -> None:
        """Take an object, from any thread."""
        self._enter(partial(self._begin, found))

    def offer_when_there_is_room(self, found: FoundObject, stopping: Stopping) -> bool:
        """Wait for room, and take an object; return False where the process is to end first."""
        while not self.has_room:
            if stopping.wait(_WAIT_FOR_ROOM_S):
                return False
        if stopping.is_set():
            return False
        self.offer(found)
        return True

    def offer_rejection(
        self, error: RejectedError, command: EmitCommand, notification: str | None, done: Callable[[], None]
    ) -> None:
        """Take what is no notification of an object, from any thread; ``done`` as in `FoundObject`."""

        def reject() -> None:
            rejection = Rejection(error=error, uri=None, command=command, notification=notification, attempts=0)
            self._outlet.send_rejection(rejection, partial(self._acknowledge, done))

        self._enter(reject)

    def restore(self, entries: Iterable[WaitingObject]) -> None:
        """Take up what waited when a former process ended; what lies elsewhere waits for another emitter."""
        for each in entries:
            if self._places.locate(each.uri) is not None:
                known = each.command in set(EmitCommand)  # not, where another release wrote it
                self._waiting.add(each if known else replace(each, command=EmitCommand.RETRY))

    def step(self, timeout_s: float) -> None:
        """Do what is there to do; wait so long for something, at most.

        Raises
        ------
        FatalError
            When the producer cannot go on.
        """
        for entry in self._waiting.due(self._machine.wall_ms()):
            self._metrics.retries.inc()
            self._enter(partial(self._begin_again, entry))
        wait_s = min(timeout_s, _LOOK_FOR_DELIVERIES_S) if self._outlet.undelivered else timeout_s
        next_ms = self._waiting.next_due_ms()
        if next_ms is not None:
            wait_s = min(wait_s, max(next_ms - self._machine.wall_ms(), 0) / 1000)
        if not self._inbox:
            self._inbox_filled.wait(wait_s)
        self._inbox_filled.clear()  # before the inbox is looked into: what comes later sets it again
        ends_s = self._machine.stopwatch_s() + _TURN_S
        for _ in range(min(len(self._inbox), _AT_ONCE)):
            self._inbox.popleft()()
            if self._machine.stopwatch_s() >= ends_s:
                break
        self._outlet.flush()
        self._set_metrics()

    def _enter(self, work: Callable[[], None]) -> None:
        with self._lock:
            self._offered += 1
        self._put(work)

    def _put(self, work: Callable[[], None]) -> None:
        self._inbox.append(work)
        if not self._inbox_filled.is_set():
            self._inbox_filled.set()

    def _begin_again(self, entry: WaitingObject) -> None:
        located = self._places.locate(entry.uri)
        if located is None:
            raise AssertionError(f"{entry.uri} waits, but no place holds it")  # `restore` takes no such entry
        found = FoundObject(
            place=located[0],
            key=located[1],
            tag=entry.tag,
            command=EmitCommand(entry.command),
            notification=entry.notification,
        )
        self._begin(found, entry)

    def _begin(self, found: FoundObject, waited: WaitingObject | None = None) -> None:
        if waited is None:
            self._found[found.command] += 1
        if not found.place.holds(found.key):
            self._ignore(found, waited, IgnoredReason.OUTSIDE)
            return
        identity = found.place.patterns.identify(found.key)
        if identity is None:
            self._ignore(found, waited, IgnoredReason.NO_PATTERN)
            return
        uri = found.uri
        key = _Key(found.place.url, identity.name)
        self._start(_Task(found, uri, key, identity.role, waited or self._waiting.get(uri)))

    def _start(self, task: _Task) -> None:
        key = task.key
        finished = self._finished.get(key)
        if finished is not None and (finished[0] != task.uri or finished[1] == task.found.tag):
            self._metrics.ignored.labels(IgnoredReason.DUPLICATE).inc()
            self._end(task)
        elif key in self._active:
            self._active[key].append(task)
        else:
            self._active[key] = []
            if task.found.place.is_folder:
                self._take(task, self._read(task))
            else:
                self._machine.read_elsewhere(lambda: self._put(partial(self._take, task, self._read(task))))

    def _read(self, task: _Task) -> ReadResult:
        """Read one object, in whatever thread this is."""
        began_s = self._machine.stopwatch_s()
        result = read_object(self._reader, task.found, task.role, look_beside=task.waited is not None)
        self._metrics.read_duration.observe(self._machine.stopwatch_s() - began_s)
        return result

    def _take(self, task: _Task, result: ReadResult) -> None:
        if isinstance(result, NotReadableYetError):
            self._wait(task, result)
            return
        if isinstance(result, RejectedError):
            self._reject(task, result)
            return
        try:
            if isinstance(result, SensorsRead):
                self._take_sensors(task, result)
            else:
                began_s = self._machine.stopwatch_s()
                record = self._translator.translate(result, task.uri)
                self._translating_s += self._machine.stopwatch_s() - began_s
                self._outlet.send_record(record, partial(self._finish, task))
                self._remember_exposure(task.found.place.url, record.exposure)
        except NotReadableYetError as error:
            self._wait(task, error)
        except RejectedError as error:
            self._reject(task, error)
        except Exception as error:  # noqa: BLE001 -- as in `read_object`
            self._reject(task, failed(task.found, error))

    def _take_sensors(self, task: _Task, read: SensorsRead) -> None:
        key = _Key(task.found.place.url, read.sensors.obs_id)
        exposure = self._exposures.get(key)
        if exposure is None and read.beside is not None:
            beside = self._translator.translate(read.beside, task.uri).exposure
            exposure = beside if beside.obs_id == read.sensors.obs_id else None
        if exposure is None:
            _remember(self._sensors_waiting, key, task.uri, _EXPOSURES_REMEMBERED)
            raise NotReadableYetError(
                RejectReason.NO_HEADER, f"no raw of exposure {key.name} has come yet", uri=task.uri
            )
        detectors = self._detector_ids(exposure.instrument, read.sensors.detectors)
        self._outlet.send_expected(exposure, detectors, partial(self._finish, task))

    def _remember_exposure(self, place: str, exposure: Exposure) -> None:
        key = _Key(place, exposure.obs_id)
        if key not in self._exposures:
            _remember(self._exposures, key, exposure, _EXPOSURES_REMEMBERED)
        uri = self._sensors_waiting.pop(key, None) if self._sensors_waiting else None
        entry = None if uri is None else self._waiting.get(uri)
        if entry is not None:
            self._enter(partial(self._begin_again, entry))

    def _wait(self, task: _Task, error: NotReadableYetError) -> None:
        now_ms = self._machine.wall_ms()
        found = task.found
        # Content that changed is a new beginning: a large file may be written for longer than anything is waited for.
        waited = task.waited if task.waited is not None and task.waited.tag == task.found.tag else None
        attempts = 1 if waited is None else waited.attempts + 1
        since_ms = now_ms if waited is None else waited.since_ms
        if now_ms - since_ms >= self._policy.give_up_s * 1000:
            self._reject(task, RejectedError(error.reason, error.detail, uri=task.uri))
            return
        pause_s = self._policy.pause_s(attempts, self._machine.random)
        entry = WaitingObject(
            uri=task.uri,
            tag=found.tag,
            command=found.command,
            attempts=attempts,
            since_ms=since_ms,
            next_try_ms=now_ms + round(pause_s * 1000),
            reason=error.reason,
            detail=error.detail,
            notification=found.notification,
        )
        self._waiting.add(entry)
        self._outlet.send_waiting(entry, partial(self._acknowledge, found.done))
        self._go_on(task)

    def _reject(self, task: _Task, error: RejectedError) -> None:
        found = task.found
        rejection = Rejection(
            error=error,
            uri=task.uri,
            command=found.command,
            notification=found.notification,
            attempts=1 if task.waited is None else task.waited.attempts + 1,
        )
        self._outlet.send_rejection(rejection, partial(self._end, task))
        _remember(self._rejected, task.uri, None, _RAWS_REMEMBERED)
        self._go_on(task)

    def _finish(self, task: _Task) -> None:
        _remember(self._finished, task.key, (task.uri, task.found.tag), _RAWS_REMEMBERED)
        if task.uri in self._rejected or task.found.command is EmitCommand.RETRY:
            self._rejected.pop(task.uri, None)
            self._outlet.send_no_longer_rejected(task.uri)
        self._end(task)
        self._go_on(task)

    def _go_on(self, task: _Task) -> None:
        """Turn to the further objects of a raw."""
        for each in self._active.pop(task.key):
            self._start(each)

    def _ignore(self, found: FoundObject, waited: WaitingObject | None, reason: IgnoredReason) -> None:
        self._metrics.ignored.labels(reason).inc()
        self._remove_waiting(waited)  # settings may have changed since
        self._acknowledge(found.done)

    def _end(self, task: _Task) -> None:
        self._remove_waiting(task.waited)
        self._acknowledge(task.found.done)

    def _remove_waiting(self, waited: WaitingObject | None) -> None:
        if waited is not None:
            self._waiting.remove(waited.uri)
            self._outlet.send_no_longer_waiting(waited)

    def _acknowledge(self, done: Callable[[], None]) -> None:
        done()
        self._acknowledged += 1

    def _set_metrics(self) -> None:
        for command, objects in self._found.items():
            self._metrics.objects.labels(command).inc(objects)
        self._found.clear()
        self._metrics.translation_seconds.inc(self._translating_s)
        self._translating_s = 0.0
        now_s = self._machine.stopwatch_s()
        if now_s - self._gauges_at_s >= _GAUGES_EVERY_S:
            self._gauges_at_s = now_s
            self._metrics.in_flight.set(self.in_flight)
            self._metrics.waiting.set(len(self._waiting))
            self._metrics.oldest_waiting.set((self._waiting.oldest_since_ms() or 0) / 1000)


def _remember(memory: OrderedDict[Key, Value], key: Key, value: Value, most: int) -> None:
    memory[key] = value
    if len(memory) > most:
        memory.popitem(last=False)
