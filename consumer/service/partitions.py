"""Which partitions are ours, and how they become readable: assigned -> claimed -> read.

A partition that the group assigns is claimed in PostgreSQL, which fences whoever had it before, and read from the
position that is stored there. Where that position lies outside the log, the partition waits for an operator.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from consumer.errors import TransientError
from consumer.model import OffsetUpdate, PartitionId
from consumer.postgres.offsets import LogPartition, StoredPosition
from consumer.service.batch import Batch
from consumer.service.batch_builder import PartitionLease
from consumer.service.worker import Worker

_WATCH_EVERY_S = 5.0
"""How often topics are asked for their ids."""
_ENOUGH_FAILURES = 2
"""Unanswered questions after which no further partition is asked about in one go."""


class Log(Protocol):
    """What a claim asks of Kafka; see `consumer.kafka.source.KafkaSource`."""

    def identify(self, topic: str) -> tuple[str, str]:
        """Give the ids of the cluster and of the topic."""

    def watermarks(self, partition: PartitionId) -> tuple[int, int]:
        """Give the first offset of the log and the one after its last."""

    def ends(self, topic: str) -> dict[int, int]:
        """Give the offset after the last of each partition of a topic."""


class PositionStore(Protocol):
    """What a claim asks of PostgreSQL; see `consumer.postgres.offsets.Positions`."""

    def claim(self, log: LogPartition) -> StoredPosition:
        """Take a partition over."""

    def begin(self, position: StoredPosition, offset: int) -> StoredPosition:
        """Store where a partition that was never read starts."""

    def begin_topic(self, position: StoredPosition, log: LogPartition, ends: Mapping[int, int]) -> StoredPosition:
        """Store where all partitions of a topic start that was never read."""

    def has_read(self, topic: str) -> bool:
        """Tell whether anything is stored of a topic of this name."""


class Refusal(NamedTuple):
    """Why a partition cannot be read."""

    partition: PartitionId
    detail: str
    lasting: bool
    """Whether an operator has to decide; otherwise the brokers could not be asked."""
    breaker: bool = False
    """Whether the circuit breaker stopped it."""
    position: int | None = None
    """As stored, next offset; None where that is not known."""
    end: int | None = None
    """Of the log: the offset after its last."""


def acquire_leases(
    log: Log,
    store: PositionStore,
    partitions: Collection[PartitionId],
    *,
    start_at_end: bool,
    wanted: Callable[[PartitionId], bool] = lambda _: True,
) -> list[PartitionLease | Refusal]:
    """Claim partitions, one after the other.

    Parameters
    ----------
    log, store
        Kafka and PostgreSQL.
    partitions
        Assigned to us.
    start_at_end
        Where a topic that was never read starts: at the end of each partition's log, or at its first offset. What is
        added to a topic later, or is made anew under its name, always starts at the first: nobody decided to skip that.
    wanted
        Whether a partition is still ours: a claim that had to wait for the database must not take it from whoever got
        it meanwhile.

    Raises
    ------
    TransientError
        When the database cannot be asked now; partitions that were claimed before that are claimed again.
    """
    outcome: list[PartitionLease | Refusal] = []
    topics: dict[str, _Topic] = {}
    for partition in sorted(partitions):
        if not wanted(partition):
            continue
        topic = partition.topic
        skipped = start_at_end and topic not in topics and not store.has_read(topic)
        try:
            if topic not in topics:
                topics[topic] = _Topic(*log.identify(topic), log.ends(topic) if skipped else {})
            low, high = log.watermarks(partition)
        except TransientError as error:
            outcome.append(Refusal(partition, str(error), lasting=False))
            continue
        if wanted(partition):  # it may have gone away while the brokers were asked
            outcome.append(_claim(log, store, partition, topics[topic], low, high))
    return outcome


class _Topic(NamedTuple):
    """What the brokers say of a topic."""

    cluster_id: str
    topic_id: str
    ends: Mapping[int, int]
    """Of its partitions, where reading starts at them."""


def _claim(
    log: Log, store: PositionStore, partition: PartitionId, topic: _Topic, low: int, high: int
) -> PartitionLease | Refusal:
    """Claim one partition whose log goes from `low` to `high`."""
    where = LogPartition(topic.cluster_id, topic.topic_id, partition)
    position = store.claim(where)
    if position.next_offset is None and topic.ends:
        position = store.begin_topic(position, where, topic.ends)
    if position.next_offset is None:
        position = store.begin(position, low)
    start = position.next_offset
    if position.breaker is not None:
        return Refusal(partition, position.breaker, lasting=True, breaker=True, position=start, end=high)
    assert start is not None  # noqa: S101 -- one has just been stored
    if start > high:
        # Whoever had it may have committed after we asked where the log ends.
        try:
            low, high = log.watermarks(partition)
        except TransientError as error:
            return Refusal(partition, str(error), lasting=False)
    if low <= start <= high:
        identity = (topic.cluster_id, topic.topic_id)
        time_ms = position.stream_time_ms
        return PartitionLease(
            partition, position.id, position.epoch, start, time_ms, start, position.accept_until, identity
        )
    return Refusal(partition, _gap(partition, start, low, high), lasting=True, position=start, end=high)


def of_another_log(log: Log, claims: Collection[PartitionLease]) -> list[PartitionId]:
    """Ask the brokers which partitions are of another log by now than was claimed, as far as they can be asked."""
    return _strangers(claims, _identities(log, {claim.partition.topic for claim in claims}))


def _strangers(claims: Collection[PartitionLease], found: Mapping[str, tuple[str, str]]) -> list[PartitionId]:
    return [c.partition for c in claims if found.get(c.partition.topic, c.log) != c.log]


def _identities(log: Log, topics: Collection[str]) -> dict[str, tuple[str, str]]:
    found = {}
    for topic in topics:
        # Brokers that cannot be asked say nothing about their topics.
        with suppress(TransientError):
            found[topic] = log.identify(topic)
    return found


def _gap(partition: PartitionId, stored: int, low: int, high: int) -> str:
    if stored < low:
        lost = f"offsets {stored} to {low - 1} were deleted before they were read"
    else:
        lost = f"the log ends before it, at {high}: it lost its tail, or is another log"
    return (
        f"the stored position {stored} of {partition.topic}[{partition.partition}] is outside the log "
        f"({low} to {high}): {lost}. Decide with 'visit-consumer positions accept-gap' or 'positions set'"
    )


class TopicWatch:
    """Asks again and again, in a thread of its own, whether the topics that are read are still the same logs.

    A topic that was deleted and made anew under its name has another id. Kafka's client does not tell: where the new
    log is long enough already, it reads on in its middle. What was read of it by then is read again, from its start;
    raws that are read twice change nothing, and what would be set aside twice waits for `of_another_log`.

    Parameters
    ----------
    log
        Kafka.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._worker = Worker("topics")
        self._asked: Future[dict[str, tuple[str, str]]] | None = None
        self._next_s = 0.0

    def strangers(self, claims: Collection[PartitionLease], now_s: float) -> list[PartitionId]:
        """Give the partitions that are of another log than was claimed, as far as is known; never waits."""
        asked = self._asked
        if asked is None:
            if claims and now_s >= self._next_s:
                topics = {claim.partition.topic for claim in claims}
                self._asked = self._worker.submit(lambda: _identities(self._log, topics))
            return []
        if not asked.done():
            return []
        self._asked, self._next_s = None, now_s + _WATCH_EVERY_S
        return _strangers(claims, asked.result())

    def end(self) -> None:
        """End the thread; does not wait."""
        self._worker.end()


class EndWatch:
    """Asks, in a thread of its own, whether logs still end where a tick says: only then it may close groups.

    We may have been frozen, or cut off from the brokers, since we read to the end; then groups seem idle whose
    exposures wait in the log. A partition whose broker did not answer comes last the next time, after the others.

    Parameters
    ----------
    log
        Kafka.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._worker = Worker("ends")
        self._silent: set[int] = set()
        self._tick: Batch | None = None
        self._asked: Future[set[int]] | None = None

    @property
    def asking(self) -> bool:
        """Whether there is no answer yet, or nobody has taken it."""
        return self._asked is not None

    def ask(self, tick: Batch) -> None:
        """Ask about the partitions of a tick; returns at once."""
        self._tick, self._asked = tick, self._worker.submit(lambda: self._at_end(tick.advances))

    def answer(self) -> Batch | None:
        """Take the part of the tick that is confirmed; None while that is not known, or where nothing is."""
        if self._asked is None or self._tick is None or not self._asked.done():
            return None
        tick, asked = self._tick, self._asked
        self._tick = self._asked = None
        return tick.of(asked.result())

    def end(self) -> None:
        """End the thread; does not wait."""
        self._worker.end()

    def _at_end(self, advances: Iterable[OffsetUpdate]) -> set[int]:
        clocks: set[int] = set()
        silent: set[int] = set()
        for advance in sorted(advances, key=lambda each: each.clock in self._silent):
            if len(silent) == _ENOUGH_FAILURES:
                break  # the others might time out too, one after the other
            try:
                _, high = self._log.watermarks(advance.partition)
            except TransientError:
                silent.add(advance.clock)
                continue
            self._silent.discard(advance.clock)
            if advance.next_offset is not None and advance.next_offset >= high:
                clocks.add(advance.clock)
        self._silent |= silent
        return clocks


@dataclass(slots=True)
class Assignment:
    """The partitions that the group assigned to us, and when each that is not read may be claimed next.

    Times are of a monotonic clock, seconds.
    """

    assigned: set[PartitionId] = field(default_factory=set)
    claim_at: dict[PartitionId, float] = field(default_factory=dict)
    asking: set[PartitionId] = field(default_factory=set)
    """Being claimed just now."""
    refused: dict[PartitionId, str] = field(default_factory=dict)
    """Partitions that are ours but cannot be read, and why."""
    tripped: set[PartitionId] = field(default_factory=set)
    """Those of them that the circuit breaker stopped."""

    def add(self, partitions: Collection[PartitionId], now_s: float) -> None:
        """Take note of an assignment."""
        self.assigned.update(partitions)
        for partition in partitions:
            self.claim_at[partition] = now_s

    def remove(self, partitions: Collection[PartitionId]) -> None:
        """Take note that partitions went away."""
        self.assigned.difference_update(partitions)
        self.asking.difference_update(partitions)
        self.tripped.difference_update(partitions)
        for partition in partitions:
            self.claim_at.pop(partition, None)
            self.refused.pop(partition, None)

    def due(self, now_s: float) -> set[PartitionId]:
        """Give the partitions to claim now, and note that they are being claimed."""
        due = {p for p, at_s in self.claim_at.items() if at_s <= now_s}
        for partition in due:
            del self.claim_at[partition]
        self.asking |= due
        return due

    def answered(self, partition: PartitionId) -> bool:
        """Take note of an answer; False when the partition went away while we asked."""
        if partition not in self.asking:
            return False
        self.asking.discard(partition)
        self.refused.pop(partition, None)
        self.tripped.discard(partition)
        return True

    def refuse(self, partition: PartitionId, detail: str, again_at_s: float, *, breaker: bool = False) -> None:
        """Take note that a partition cannot be read, and when to try again."""
        self.refused[partition] = detail
        if breaker:
            self.tripped.add(partition)
        self.claim_at[partition] = again_at_s


class Reread(NamedTuple):
    """What the rows of a fenced batch say."""

    resumed: list[PartitionLease]
    """Still ours: our commit had landed, or an operator moved the position of an unchanged claim."""
    stolen: list[PartitionId]


def reread(held: Collection[PartitionLease], stored: Mapping[int, StoredPosition]) -> Reread:
    """Judge claims after a fence failed: at our epoch, go on from the stored offset; otherwise somebody has it."""
    answer = Reread([], [])
    for claim in held:
        row = stored.get(claim.clock)
        if row is not None and row.epoch == claim.epoch and row.next_offset is not None:
            answer.resumed.append(
                claim._replace(next_offset=row.next_offset, stream_time_ms=row.stream_time_ms, start=row.next_offset)
            )
        else:
            answer.stolen.append(claim.partition)
    return answer
