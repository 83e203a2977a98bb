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
from consumer.intake import Claim
from consumer.model import PartitionId
from consumer.positions import Advance
from consumer.postgres.positions import LogPartition, StoredPosition
from consumer.worker import Worker

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


class PositionStore(Protocol):
    """What a claim asks of PostgreSQL; see `consumer.postgres.positions.Positions`."""

    def claim(self, log: LogPartition) -> StoredPosition:
        """Take a partition over."""

    def begin(self, position: StoredPosition, offset: int) -> StoredPosition:
        """Store where a partition that was never read starts."""


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


def claim_partitions(
    log: Log,
    store: PositionStore,
    partitions: Collection[PartitionId],
    *,
    start_at_end: bool,
    wanted: Callable[[PartitionId], bool] = lambda _: True,
) -> list[Claim | Refusal]:
    """Claim partitions, one after the other.

    Parameters
    ----------
    log, store
        Kafka and PostgreSQL.
    partitions
        Assigned to us.
    start_at_end
        Where a partition without a stored position starts: at the end of its log, or at its first offset.
    wanted
        Whether a partition is still ours: a claim that had to wait for the database must not take it from whoever got
        it meanwhile.

    Raises
    ------
    TransientError
        When the database cannot be asked now; partitions that were claimed before that are claimed again.
    """
    outcome: list[Claim | Refusal] = []
    identities: dict[str, tuple[str, str]] = {}
    for partition in sorted(partitions):
        if not wanted(partition):
            continue
        try:
            if partition.topic not in identities:
                identities[partition.topic] = log.identify(partition.topic)
            cluster_id, topic_id = identities[partition.topic]
            low, high = log.watermarks(partition)
        except TransientError as error:
            outcome.append(Refusal(partition, str(error), lasting=False))
            continue
        position = store.claim(LogPartition(cluster_id, topic_id, partition))
        if position.next_offset is None:
            position = store.begin(position, high if start_at_end else low)
        start = position.next_offset
        if position.breaker is not None:
            refusal = Refusal(partition, position.breaker, lasting=True, breaker=True, position=start, end=high)
            outcome.append(refusal)
            continue
        assert start is not None  # noqa: S101 -- `begin` has just stored one
        if start > high:
            # Whoever had it may have committed after we asked where the log ends.
            try:
                low, high = log.watermarks(partition)
            except TransientError as error:
                outcome.append(Refusal(partition, str(error), lasting=False))
                continue
        if low <= start <= high:
            outcome.append(
                Claim(
                    partition,
                    position.id,
                    position.epoch,
                    start,
                    position.stream_time_ms,
                    start,
                    position.accept_until,
                    identities[partition.topic],
                )
            )
        else:
            detail = _gap(partition, start, low, high)
            outcome.append(Refusal(partition, detail, lasting=True, position=start, end=high))
    return outcome


def still_at_end(log: Log, advances: Iterable[Advance]) -> set[int]:
    """Ask the brokers at which stored positions their logs end now; where they cannot be asked, that is not known.

    Returns
    -------
    clocks
        Ids of the positions' rows.
    """
    clocks: set[int] = set()
    failures = 0
    for advance in advances:
        if failures == _ENOUGH_FAILURES:
            break  # the others would time out too, one after the other
        try:
            _, high = log.watermarks(advance.partition)
        except TransientError:
            failures += 1
            continue
        if advance.next_offset is not None and advance.next_offset >= high:
            clocks.add(advance.clock)
    return clocks


def of_another_log(log: Log, claims: Collection[Claim]) -> list[PartitionId]:
    """Ask the brokers which partitions are of another log by now than was claimed, as far as they can be asked."""
    return _strangers(claims, _identities(log, {claim.partition.topic for claim in claims}))


def _strangers(claims: Collection[Claim], found: Mapping[str, tuple[str, str]]) -> list[PartitionId]:
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

    def strangers(self, claims: Collection[Claim], now_s: float) -> list[PartitionId]:
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

    resumed: list[Claim]
    """Still ours: our commit had landed, or an operator moved the position of an unchanged claim."""
    stolen: list[PartitionId]


def reread(held: Collection[Claim], stored: Mapping[int, StoredPosition]) -> Reread:
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
