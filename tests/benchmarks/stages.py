"""*Stages*: where the time goes, per event and per visit, with every part run one after the other in one thread.

The parts are the service's own. What overlaps in the service is added up here: this says what each costs, not how long
the service takes.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from consumer.config import Settings
from consumer.config.resolve import resolve_instruments
from consumer.events import Decoder
from consumer.kafka.properties import connection_properties, consumer_properties
from consumer.kafka.source import KafkaSource
from consumer.model import LogPartition, PartitionId
from consumer.postgres.batch_tables import BatchTransaction
from consumer.postgres.connection import LOOKS_UP_BY_KEY, Database
from consumer.postgres.offsets import Positions
from consumer.process import tune_interpreter
from consumer.service.apply_batch import apply_batch
from consumer.service.batch_builder import BatchBuilder
from consumer.service.leases import PartitionLease
from consumer.service.tables import Tables
from tests.benchmarks.servers import Servers

_MAX_MESSAGES, _MAX_WAIT_S = 10_000, 0.02


@dataclass
class Stopwatch:
    """Adds up seconds by name; what an inner part took is not counted for the outer one."""

    wall_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    cpu_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Of this thread alone: without the servers, and without the threads of librdkafka."""
    _inner: list[tuple[float, float]] = field(default_factory=lambda: [(0.0, 0.0)])

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        """Time the body."""
        self._inner.append((0.0, 0.0))
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu
            inner_wall, inner_cpu = self._inner.pop()
            self.wall_s[name] += wall - inner_wall
            self.cpu_s[name] += cpu - inner_cpu
            outer_wall, outer_cpu = self._inner[-1]
            self._inner[-1] = (outer_wall + wall, outer_cpu + cpu)


class _Timed:
    """Stands before an object and times the methods that are named."""

    def __init__(self, inner: object, watch: Stopwatch, names: Callable[[str], str | None]) -> None:
        self._inner = inner
        self._watch = watch
        self._names = names

    def __getattr__(self, method: str) -> Any:
        found = getattr(self._inner, method)
        name = self._names(method)
        return found if name is None or not callable(found) else partial(self._call, found, name)

    def _call(self, method: Callable[..., Any], name: str, *given: Any, **named: Any) -> Any:
        with self._watch.time(name):
            return method(*given, **named)


class _Listener:
    """Hears of no group: the partitions are assigned by hand."""

    def assigned(self, partitions: object) -> None: ...
    def revoked(self, partitions: object) -> None: ...
    def lost(self, partitions: object) -> None: ...


def measure(servers: Servers, topic: str, events: int, dsn: str) -> Stopwatch:
    """Read a topic and store it, part by part."""
    settings = Settings(**servers.settings(topic, dsn))
    watch = Stopwatch()
    rules = resolve_instruments(settings)
    builder = BatchBuilder(Decoder(), rules, max_clock_skew_ms=60_000)
    database = Database(settings.database, session=LOOKS_UP_BY_KEY)
    source = KafkaSource(
        consumer_properties(settings.kafka, client_id="stages"),
        connection_properties(settings.kafka),
        [topic],
        _Listener(),
    )
    tune_interpreter(two_threads=True)
    try:
        _claim(source, builder, Positions(database, consumer_group="stages", owner="stages"), topic)
        done = 0
        while done < events:
            with watch.time("poll"):
                polled = source.poll(_MAX_MESSAGES, _MAX_WAIT_S)
            if done == 0 and not polled.messages:
                watch.wall_s.clear()  # the first fetch is on its way
                continue
            with watch.time("decode, gather"):
                builder.put(polled.messages, polled.ends, time.time_ns() // 1_000_000)
            with watch.time("regions"):
                builder.prefetch()
            done += len(polled.messages)
            batch = builder.take()
            if batch is not None:
                with _committed(database, watch) as tables, watch.time("plan"):
                    apply_batch(tables, batch, rules)
    finally:
        source.close()
        database.close()
    return watch


@contextmanager
def _committed(database: Database, watch: Stopwatch) -> Iterator[Tables]:
    with watch.time("commit"), database.transaction() as session:
        yield cast("Tables", _Timed(BatchTransaction(session), watch, lambda method: f"tables: {method}"))


def _claim(source: KafkaSource, builder: BatchBuilder, positions: Positions, topic: str) -> None:
    while not source.joined:
        source.poll(1, 0.1)
    numbers: Sequence[int] = range(4)
    for number in numbers:
        partition = PartitionId(topic, number)
        low, _ = source.watermarks(partition)
        position = positions.claim(LogPartition("", "", partition))
        builder.add_partition(PartitionLease(partition, position.id, position.epoch, None, 0, low))
        source.start(partition, low)
