"""A service without threads, clocks or servers: the test decides the time, when a call runs, and what Kafka delivers.

`SteppedRuntime` stands in for the machine: each executor keeps its calls until the test runs them, and a wait for an
answer either runs the call or lets its timeout pass. `MemoryStore` holds positions, exposures and dead letters with the
transactions and the fence of the real one; exposures that saw no sky define no visit, which is all it knows.
"""

import copy
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from consumer.domain import ExposureKey, KnownExposure, StoredVisit
from consumer.domain.closing import Waiting
from consumer.errors import FencedError, TransientError
from consumer.model import (
    DeadLetter,
    GroupKey,
    LogPartition,
    Message,
    OffsetUpdate,
    PartitionId,
    Polled,
    RawRegion,
    RebalanceListener,
    StoredPosition,
)
from consumer.service.runtime import Runtime
from consumer.service.tables import Tables

Answer = TypeVar("Answer")
START_S = 1_800_000_000.0
"""What the wall clock says first, UTC seconds."""


class SteppedFuture(Future[Answer]):
    """A future whose waiting is a step of the test."""

    def __init__(self, executor: "SteppedExecutor") -> None:
        super().__init__()
        self._executor = executor

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait as the executor's test wants it."""
        self._executor.wait(self, timeout)
        return super().exception(0)

    def result(self, timeout: float | None = None) -> Answer:
        """Wait as the executor's test wants it."""
        self._executor.wait(self, timeout)
        return super().result(0)


class SteppedExecutor:
    """Keeps calls until the test runs them."""

    def __init__(self, name: str, advance: Callable[[float], None]) -> None:
        self.name = name
        self.calls: deque[Callable[[], None]] = deque()
        self.hangs = False
        """Whether waiting for an answer lets the timeout pass; otherwise the calls run then."""
        self.ended = False
        self._advance = advance

    def submit(self, call: Callable[[], Answer]) -> "Future[Answer]":
        """Keep a call."""
        future: SteppedFuture[Answer] = SteppedFuture(self)

        def run() -> None:
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 -- it belongs to the reader of the future
                future.set_exception(error)

        self.calls.append(run)
        return future

    def end(self) -> None:
        """Note the end."""
        self.ended = True

    def run(self) -> None:
        """Run the call that has waited longest."""
        self.calls.popleft()()

    def wait(self, future: "Future[Any]", timeout: float | None) -> None:
        """Run calls until there is an answer, or let the timeout pass."""
        while not future.done() and not self.hangs:
            self.run()
        if not future.done():
            assert timeout is not None, f"{self.name} would wait for ever"
            self._advance(timeout)


@dataclass(slots=True)
class Flag:
    """A stop flag on which sleeping is a step of the clock."""

    pause: Callable[[float], None]
    raised: bool = False

    def is_set(self) -> bool:
        """Return whether the process ends."""
        return self.raised

    def set(self) -> None:
        """Let the process end."""
        self.raised = True

    def wait(self, timeout: float | None = None) -> bool:
        """Let the time pass, and whatever the test wants to happen meanwhile."""
        if not self.raised:
            assert timeout is not None
            self.pause(timeout)
        return self.raised


class SteppedRuntime:
    """A machine whose time stands still between steps; make the service's `Runtime` of it with `runtime`."""

    def __init__(self) -> None:
        self.now_s = 100.0
        """Of the monotonic clock."""
        self.executors: dict[str, SteppedExecutor] = {}
        self.pauses_s: list[float] = []
        self.on_wait: Callable[[], None] = lambda: None
        """Called when something sleeps on a stop flag."""

    @property
    def runtime(self) -> Runtime:
        """The machine as the service sees it."""
        return Runtime(
            monotonic_s=lambda: self.now_s,
            wall_s=lambda: START_S + self.now_s,
            stopwatch_s=lambda: self.now_s,
            start_worker=self._start,
            new_stop_flag=lambda: Flag(self._pause),
            random=lambda: 1.0,
        )

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds

    def _pause(self, seconds: float) -> None:
        self.pauses_s.append(seconds)
        self.advance(seconds)
        self.on_wait()

    def _start(self, name: str) -> SteppedExecutor:
        return self.executors.setdefault(name, SteppedExecutor(name, self.advance))


@dataclass(slots=True)
class ScriptedSource:
    """A member of a consumer group whose rebalances and messages the test decides; logs of one topic."""

    logs: dict[PartitionId, list[Message]]
    listener: RebalanceListener | None = None
    script: deque[Callable[[], None]] = field(default_factory=deque)
    """What happens inside the next polls, such as a rebalance; one for each poll."""
    joined: bool = True
    last_error: str | None = None
    topic_id: str = "first"
    silent: set[PartitionId] = field(default_factory=set)
    """Partitions whose brokers do not answer."""
    next_offsets: dict[PartitionId, int] = field(default_factory=dict)
    """Where the started partitions are read next."""
    low: int = 0
    calls: list[str] = field(default_factory=list)
    held: frozenset[PartitionId] = frozenset()
    """Partitions that were paused by themselves."""
    mirrored: dict[PartitionId, int] = field(default_factory=dict)

    def connect(self, listener: RebalanceListener) -> "ScriptedSource":
        """Join the group."""
        self.listener = listener
        return self

    def poll(self, max_messages: int, timeout_s: float) -> Polled:  # noqa: ARG002 -- a poll takes no time here
        """Deliver what is next of every started partition, in order of the partitions."""
        if self.script:
            self.script.popleft()()
        polled = Polled()
        if self.calls and self.calls[-1] == "pause":
            return polled
        for partition, offset in sorted(self.next_offsets.items()):
            if partition in self.held:
                continue
            log = self.logs[partition]
            if not self.low <= offset <= len(log):
                polled.out_of_range.add(partition)
                continue
            taken = log[offset : offset + max_messages - len(polled.messages)]
            polled.messages.extend(taken)
            self.next_offsets[partition] = offset + len(taken)
            if self.next_offsets[partition] == len(log):
                polled.ends[partition] = len(log)
        return polled

    def start(self, partition: PartitionId, offset: int) -> None:
        """Read a partition."""
        self.calls.append(f"start {partition.partition} at {offset}")
        self.next_offsets[partition] = offset

    def stop(self, partitions: Collection[PartitionId]) -> None:
        """Read partitions no more."""
        for partition in partitions:
            self.next_offsets.pop(partition, None)

    def pause(self, partitions: Collection[PartitionId] | None = None) -> None:
        """Deliver nothing of these partitions, or of any."""
        self.held = frozenset(partitions or ())
        self.calls.append("pause" if partitions is None else f"pause {sorted(p.partition for p in partitions)}")

    def resume(self) -> None:
        """Deliver again."""
        self.held = frozenset()
        self.calls.append("resume")

    def mirror(self, positions: dict[PartitionId, int]) -> None:
        """Keep the positions."""
        self.mirrored |= positions

    def high_watermark(self, partition: PartitionId) -> int | None:
        """Return the end of a log that is read."""
        return len(self.logs[partition]) if partition in self.next_offsets else None

    def identify(self, topic: str) -> tuple[str, str]:  # noqa: ARG002 -- there is one topic
        """Return the ids of cluster and topic."""
        return "cluster", self.topic_id

    def divergence(self, partition: PartitionId, leader_epoch: int, offset: int) -> int | None:
        """Answer that nothing was replaced."""
        del partition, leader_epoch, offset
        return None

    def watermarks(self, partition: PartitionId) -> tuple[int, int]:
        """Return where a log begins and ends."""
        if partition in self.silent:
            raise TransientError("no answer")
        return self.low, len(self.logs[partition])

    def ends(self, topic: str) -> dict[int, int]:
        """Return where all logs of the topic end."""
        return {p.partition: len(log) for p, log in self.logs.items() if p.topic == topic}

    def close(self) -> None:
        """Leave the group."""
        self.calls.append("close")


@dataclass(slots=True)
class _State:
    positions: dict[int, StoredPosition] = field(default_factory=dict)
    ids: dict[LogPartition, int] = field(default_factory=dict)
    claimed: dict[int, int | None] = field(default_factory=dict)
    """Where each position stood when it was claimed last."""
    exposures: dict[ExposureKey, KnownExposure] = field(default_factory=dict)
    dead_letters: list[DeadLetter] = field(default_factory=list)


class MemoryStore:
    """Positions and tables in memory; implements the writer's `Store` and the leases' `PositionStore`."""

    def __init__(self) -> None:
        self.state = _State()
        self.faults: deque[BaseException | None] = deque()
        """What the next transactions of batches raise instead of beginning; None: nothing."""
        self.lost_answers: deque[BaseException | None] = deque()
        """What they raise after they were committed."""
        self.refuses: Callable[[KnownExposure], Exception | None] = lambda _: None
        self.waiting: dict[int, Waiting] = {}
        self.timeout_factors: list[int] = []
        self.closed = self.cancelled = False

    @contextmanager
    def transaction(self, *, timeout_factor: int = 1) -> Iterator[Tables]:
        """Run the body on a copy of the state, which takes its place afterwards."""
        self.timeout_factors.append(timeout_factor)
        if self.faults and (fault := self.faults.popleft()) is not None:
            raise fault
        state = copy.deepcopy(self.state)
        yield cast("Tables", _MemoryTables(state, self))
        self.state = state
        if self.lost_answers and (lost := self.lost_answers.popleft()) is not None:
            raise lost

    def close(self) -> None:
        """End the session."""
        self.closed = True

    def cancel(self) -> None:
        """End the running statement."""
        self.cancelled = True

    def claim(self, log: LogPartition) -> StoredPosition:
        """Raise the epoch."""
        number = self.state.ids.setdefault(log, 10 + len(self.state.ids))
        known = self.state.positions.get(number, StoredPosition(number, 0, None, 0))
        first = self.state.claimed.get(number)
        stands = first is not None and known.next_offset is not None and 0 <= known.next_offset - first <= 1000
        lease_count = known.lease_count + 1 if stands else 1
        self.state.claimed[number] = first if stands else known.next_offset
        return self._put(known._replace(epoch=known.epoch + 1, lease_count=lease_count))

    def begin(self, position: StoredPosition, offset: int) -> StoredPosition:
        """Store where a partition starts."""
        self.state.claimed[position.id] = offset
        return self._put(position._replace(next_offset=offset))

    def begin_topic(self, position: StoredPosition, log: LogPartition, ends: Mapping[int, int]) -> StoredPosition:
        """Store where this partition of the topic starts."""
        return self.begin(position, ends[log.partition.partition])

    def has_read(self, topic: str) -> bool:
        """Return whether a position of the topic is stored."""
        return any(log.partition.topic == topic for log in self.state.ids)

    def read(self, ids: Collection[int]) -> dict[int, StoredPosition]:
        """Read rows."""
        return {number: self.state.positions[number] for number in ids if number in self.state.positions}

    def trip(self, epochs: Mapping[int, int], detail: str) -> None:
        """Stop reading where the epochs are the given ones."""
        for number, epoch in epochs.items():
            if self.state.positions[number].epoch == epoch:
                self._put(self.state.positions[number]._replace(breaker=detail))

    def _put(self, position: StoredPosition) -> StoredPosition:
        self.state.positions[position.id] = position
        return position


class _MemoryTables:
    """The tables of one transaction, as far as exposures without sky need them."""

    def __init__(self, state: _State, store: MemoryStore) -> None:
        self._state = state
        self._store = store
        self.round_trips = 0

    def advance(self, offset_updates: Sequence[OffsetUpdate]) -> None:
        for each in offset_updates:
            stored = self._state.positions[each.offset_id]
            if (stored.epoch, stored.next_offset) != (each.epoch, each.expected):
                raise FencedError(f"position {each.offset_id} is not as expected")
            self._state.positions[each.offset_id] = stored._replace(
                next_offset=each.next_offset, stream_time_ms=max(each.stream_time_ms, stored.stream_time_ms)
            )

    def insert_exposures(self, exposures: Collection[KnownExposure]) -> set[ExposureKey]:
        new = set()
        for each in exposures:
            if (refused := self._store.refuses(each)) is not None:
                raise refused
            key = ExposureKey(each.record.instrument, each.record.id)
            if key not in self._state.exposures:
                self._state.exposures[key] = each
                new.add(key)
        return new

    def lock_exposures(self, keys: Iterable[ExposureKey]) -> dict[ExposureKey, KnownExposure]:
        return {key: self._state.exposures[key] for key in keys}

    def update_exposures(
        self, merged: Mapping[ExposureKey, KnownExposure], stored: Mapping[ExposureKey, KnownExposure]
    ) -> None:
        self._state.exposures |= {key: merged[key] for key in stored}

    def write_dead_letters(self, letters: Sequence[DeadLetter], offset_ids: Mapping[PartitionId, int]) -> None:
        assert all(letter.message is None or letter.message.partition in offset_ids for letter in letters)
        self._state.dead_letters += letters

    def lock_visits(self, visits: Sequence[tuple[str, int, str]], groups: Collection[GroupKey]) -> list[StoredVisit]:
        assert not visits, "exposures without sky define no visits"
        assert groups
        return []

    def raw_regions(self, exposures: Iterable[ExposureKey]) -> dict[ExposureKey, list[RawRegion]]:
        assert not list(exposures)
        return {}

    def waiting(self, offset_ids: Collection[int]) -> dict[int, Waiting]:
        return {number: self._store.waiting[number] for number in offset_ids if number in self._store.waiting}

    def lock_first_due_groups(self, *_: object) -> list[Any]:
        return []

    def _nothing(self, *_: object, **__: object) -> None:
        """Do nothing: there are no visits and no groups."""

    store_groups = delete_groups = resolve_dead_letters = resolve_dead_letters_of_exposures = _nothing
    resolve_dead_letters_of_messages = _nothing
    insert_raw_regions = _nothing

    def open_groups(self, keys: Collection[GroupKey]) -> list[Any]:
        assert isinstance(keys, Collection)
        return []

    def lock_due_groups(self, *_: object) -> list[Any]:
        return []

    def delete_visits(self, visits: Collection[Any]) -> list[Any]:
        assert not visits
        return []

    def group_members(self, keys: Collection[GroupKey]) -> list[KnownExposure]:
        return [each for each in self._state.exposures.values() if each.group in keys]
