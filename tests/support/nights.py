"""Nights as events, fed through the real builder and the real transaction, in this process and without Kafka.

The log is a list of messages for each partition. A `Reader` claims partitions, gathers batches with the borders that a
test wants, and applies them to PostgreSQL; clocks are arguments. What is left out is the loop, the threads and the
brokers, which tests with a real Kafka hold.
"""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg

from consumer.config import ClosingSettings, DatabaseSettings, InstrumentSettings
from consumer.config.resolve import resolve_instrument
from consumer.domain import Instrument
from consumer.domain.obscore import Obscore
from consumer.errors import TransientError
from consumer.events import Decoder, encode
from consumer.events.visit_defined import Announce
from consumer.model import CloseReason, Exposure, Ingested, LogPartition, Message, PartitionId, RawIngested
from consumer.postgres.batch_tables import BatchTransaction
from consumer.postgres.connection import Database
from consumer.postgres.migrate import migrate, store_visit_systems
from consumer.postgres.offsets import Positions
from consumer.service.apply_batch import apply_batch
from consumer.service.batch import Batch, BatchResult
from consumer.service.batch_builder import BatchBuilder
from consumer.service.leases import PartitionLease
from tests.support.tables import TABLE_QUERIES

TOPIC = "raw-ingested"
START_MS = 1_800_000_000_000
"""When the first message of a night was appended, UTC milliseconds."""
FAR_MS = START_MS + 10 * 86_400_000
"""When everything is closed."""

Rules = Mapping[str, Instrument]
Rows = dict[str, list[tuple[Any, ...]]]
"""Table name to rows; ``Any``, since the columns have many types."""


class _CrashError(Exception):
    """Ends a transaction that must not happen."""


@dataclass(slots=True)
class NightLog:
    """A topic: messages by partition, appended by hand."""

    partitions: dict[PartitionId, list[Message]]

    @classmethod
    def of(cls, n_partitions: int = 1) -> "NightLog":
        """Make an empty topic."""
        return cls({PartitionId(TOPIC, number): [] for number in range(n_partitions)})

    def append(self, raw: Ingested | bytes, *, partition: int = 0, at_ms: int) -> None:
        """Append an event, or bytes that are none."""
        where = PartitionId(TOPIC, partition)
        messages = self.partitions[where]
        value = raw if isinstance(raw, bytes) else encode(raw)
        messages.append(Message(where, len(messages), at_ms, None, value))

    def end(self, partition: PartitionId) -> int:
        """Give the offset after the last message."""
        return len(self.partitions[partition])


class Reader:
    """One replica: a session, an builder, and the partitions that it has claimed.

    Parameters
    ----------
    dsn
        Of a database that `prepare` has brought to the present schema.
    rules
        By instrument.
    max_clock_skew_ms
        Of the builder.
    """

    def __init__(self, dsn: str, rules: Rules, *, max_clock_skew_ms: int = 2**50) -> None:
        self.database = Database(DatabaseSettings(conninfo=dsn), application_name="reader")  # type: ignore[arg-type] # pydantic makes it a secret
        self.rules = rules
        self.builder = BatchBuilder(Decoder(), rules, max_clock_skew_ms=max_clock_skew_ms)
        self.positions = Positions(self.database, consumer_group="visit-consumer", owner="reader")
        self.results: list[BatchResult] = []
        self.retries = 0
        self.announce: Announce | None = None
        self.obscore: Obscore | None = None
        self._deadlines: dict[int, int] = {}
        store_visit_systems(self.database, {name: each.rule.visit_systems for name, each in rules.items()})

    def claim(self, partitions: Iterable[PartitionId], *, topic_id: str = "") -> None:
        """Claim partitions, again or for the first time, and go on from the stored position."""
        for partition in sorted(partitions):
            position = self.positions.claim(LogPartition("cluster", topic_id, partition))
            if position.next_offset is None:
                position = self.positions.begin(position, 0)
            start = position.next_offset
            assert start is not None
            lease = PartitionLease(partition, position.id, position.epoch, start, position.stream_time_ms, start)
            self.builder.add_partition(lease._replace(dead_letters_until=position.dead_letters_until))

    def put(self, messages: Sequence[Message], log: NightLog | None = None, *, now_ms: int = FAR_MS) -> None:
        """Take messages in; with a log, learn of the ends that they reach."""
        ends = {}
        for each in messages:
            if log is not None and each.offset + 1 == log.end(each.partition):
                ends[each.partition] = each.offset + 1
        self.builder.put(messages, ends, now_ms)

    def write(self) -> BatchResult | None:
        """Apply what is gathered; None when it is nothing."""
        batch = self.builder.take()
        return None if batch is None else self.apply(batch)

    def tick(self, now_ms: int) -> BatchResult | None:
        """Let the wall clock close what is due at the ends of the logs."""
        batch = self.builder.tick(now_ms)
        return None if batch is None else self.apply(batch)

    def tick_if_due(self, now_ms: int) -> BatchResult | None:
        """Tick as the loop does: where nothing is known of a clock, or something is due by it."""
        batch = self.builder.tick(now_ms)
        if batch is None or all(
            self._deadlines.get(offset_id, 0) > at_ms for offset_id, at_ms in batch.stream_times_ms.items()
        ):
            return None
        return self.apply(batch)

    def apply(self, batch: Batch) -> BatchResult:
        """Apply a batch in one transaction, again where it met another writer."""
        while True:
            try:
                with self.database.transaction() as session:
                    result = apply_batch(
                        BatchTransaction(session, self.obscore), batch, self.rules, announce=self.announce
                    )
            except TransientError:
                self.retries += 1
                continue
            result.round_trips = session.round_trips
            self.results.append(result)
            for offset_id in batch.stream_times_ms:
                waiting = result.waiting.get(offset_id)
                self._deadlines[offset_id] = FAR_MS * 2 if waiting is None else waiting.next_deadline_ms
            return result

    def crash(self) -> None:
        """Apply what is gathered and lose it before the commit; then claim everything again, as after a restart."""
        batch = self.builder.take()
        if batch is not None:
            with suppress(_CrashError), self.database.transaction() as session:
                apply_batch(BatchTransaction(session), batch, self.rules)
                raise _CrashError
        self.claim(self.builder.partitions)

    @property
    def closed(self) -> list[tuple[str, CloseReason]]:
        """Instrument and reason of all groups that closed here, in order."""
        return [each for result in self.results for each in result.closed]

    def close(self) -> None:
        """End the session."""
        self.database.close()


@contextmanager
def reader(dsn: str, rules: Rules, **settings: int) -> Iterator[Reader]:
    """Make a reader for a test."""
    made = Reader(dsn, rules, **settings)
    try:
        yield made
    finally:
        made.close()


def prepare(dsn: str) -> None:
    """Bring an empty database to the present schema; for `PostgresServer.database`."""
    database = Database(DatabaseSettings(conninfo=dsn))  # type: ignore[arg-type] # pydantic makes it a secret
    migrate(database)
    database.close()


_WIPE = """
    DELETE FROM visits.exposure; DELETE FROM visits.visit; DELETE FROM visits.visit_definition;
    DELETE FROM visits.visit_system; DELETE FROM visits.visit_system_membership;
    DELETE FROM visits.visit_detector_region; DELETE FROM visits.visit_htm7; DELETE FROM visits.raw_region;
    DELETE FROM visits.open_group; DELETE FROM visits.dead_letter; DELETE FROM visits.outbox;
    DELETE FROM visits.retired_visit; DELETE FROM visits.visit_obscore;
    DELETE FROM visits.consumer_offset;
"""


def wipe(dsn: str) -> None:
    """Empty every table: faster than another database."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(_WIPE)


_NOT_CANONICAL = {"consumer_offset", "dead_letter", "open_group"}
"""Positions and clocks differ between courses of one night; dead letters and open groups are read in part, below."""
_CANONICAL = {
    **{name: query for name, query in TABLE_QUERIES.items() if name not in _NOT_CANONICAL},
    "open_group": "SELECT instrument, group_key FROM visits.open_group ORDER BY 1, 2",
    "open dead letters": """
        SELECT reason, instrument, exposure, group_key FROM visits.dead_letter WHERE status = 'open'
        ORDER BY 1, 2, 3, 4""",
}


def canonical(dsn: str) -> Rows:
    """Read what must not depend on order, borders or restarts: every row without its history columns."""
    with psycopg.connect(dsn) as connection:
        return {name: connection.execute(query).fetchall() for name, query in _CANONICAL.items()}


@dataclass(slots=True)
class Course:
    """How a night is read: drawn from a seeded generator, so that a test can say which course it took."""

    random: random.Random
    n_partitions: int = 1
    max_batch: int = 20
    crash_chance: float = 0.0
    messages: list[Message] = field(default_factory=list)


def feed(
    dsn: str, rules: Rules, raws: Sequence[Ingested], course: Course, *, spacing_ms: int = 1_000
) -> list[tuple[str, CloseReason]]:
    """Read events in the given order, scattered over partitions and cut into batches at random; then close everything.

    Parameters
    ----------
    dsn
        Of a prepared database without rows.
    rules
        By instrument.
    raws
        In the order in which they are appended, `spacing_ms` apart.
    course
        Partitions, borders and crashes.

    Returns
    -------
    closed
        Instrument and reason of each group that closed, in order.
    """
    log = NightLog.of(course.n_partitions)
    order = []
    for number, raw in enumerate(raws):
        partition = course.random.randrange(course.n_partitions)
        log.append(raw, partition=partition, at_ms=START_MS + number * spacing_ms)
        order.append(log.partitions[PartitionId(TOPIC, partition)][-1])
    with reader(dsn, rules) as one:
        one.claim(log.partitions)
        done = 0
        while done < len(order):
            size = course.random.randint(1, course.max_batch)
            one.put(order[done : done + size], log)
            if course.random.random() < course.crash_chance:
                one.crash()
                done = _first_unread(order, one, log)
                continue
            one.write()
            done += size
        # Partitions without a message are at their end too.
        one.builder.put([], {p: log.end(p) for p in log.partitions}, FAR_MS)
        one.write()
        close_all(one)
        return one.closed


def close_all(one: Reader) -> None:
    """Tick until nothing is due any more: a group that moved between clocks may need a second look."""
    for step in range(3):
        one.tick(FAR_MS + step * 86_400_000)


def _first_unread(order: Sequence[Message], one: Reader, log: NightLog) -> int:
    """Return the index of the first message that is not committed; the builder drops committed ones after it."""
    del log
    for index, each in enumerate(order):
        position = one.builder._readers[each.partition].next_offset
        if position is None or each.offset >= position:
            return index
    return len(order)


def rules_of(config: Mapping[str, Any], **settings: Any) -> dict[str, Instrument]:
    """Resolve the options of a file of nights as the service resolves its own settings.

    Parameters
    ----------
    config
        As in ``tests/data/define_visits``.
    settings
        Of the instrument, laid over that.
    """
    instrument = InstrumentSettings(
        **{
            "camera": config["camera"].removesuffix(".json"),
            "group_exposures": config["group_exposures"],
            "group_id": config["group_id"],
            "regions": {"padding": config["padding"], "merge_exposures": config["merge_exposures"]},
            **settings,
        }
    )
    return {config["instrument"]: resolve_instrument(instrument, ClosingSettings())}


def raws_of(exposures: Iterable[Exposure], *detectors: int, **own: Any) -> list[RawIngested]:
    """Make one raw for each exposure and detector."""
    return [
        RawIngested(exposure=one, detector=detector, uri=f"file:///{one.id}/{detector}", **own)
        for one in exposures
        for detector in detectors
    ]
