"""How a partition is leased from PostgreSQL: raising its epoch fences the former owner, and reading starts there.

A lease is one row of ``consumer_offset`` at one epoch. Where the stored position lies outside the log, the partition is
refused until an operator decides. Only protocols of Kafka and PostgreSQL are used here: time, threads and retries are
the caller's.
"""

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import NamedTuple, Protocol

from consumer.errors import TransientError
from consumer.model import LogPartition, OffsetUpdate, PartitionId, StoredPosition

_MOST_LEASES_IN_PLACE = 2
"""After so many leases by which the position hardly moved, its next messages may be what ends the processes."""
_TRIAL_MESSAGES = 2_000
"""So many of them: two batches of the usual size, the one that is written and the one that is gathered."""


class PartitionLease(NamedTuple):
    """A partition that this replica owns: the row of its position, and where reading starts."""

    partition: PartitionId
    offset_id: int
    """Id of the position's row."""
    epoch: int
    next_offset: int | None
    """As stored; None where nothing was written yet."""
    stream_time_ms: int
    start: int
    """The offset to read first."""
    accept_until: int = 0
    """An operator has accepted the bad messages below this offset: the circuit breaker does not count them."""
    log: tuple[str, str] = ("", "")
    """Ids of the cluster and of the topic: a recreated topic is another log."""
    leader_epoch: int | None = None
    """Of the last message that was read, where it is known."""
    dead_letters_until: int | None = None
    """The last offset, from the start on, that has an open dead letter: it is read again."""
    trial_until: int = 0
    """Messages below this offset are tried in a child process first; see `consumer.service.trials`."""


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


class Log(Protocol):
    """What a lease asks of Kafka; see `consumer.kafka.source.KafkaSource`."""

    def identify(self, topic: str) -> tuple[str, str]:
        """Return the ids of the cluster and of the topic."""

    def watermarks(self, partition: PartitionId) -> tuple[int, int]:
        """Return the first offset of the log and the one after its last."""

    def divergence(self, partition: PartitionId, leader_epoch: int, offset: int) -> int | None:
        """Return the first offset below this one whose message was written by a later leader; None without one."""

    def ends(self, topic: str) -> dict[int, int]:
        """Return the offset after the last of each partition of a topic."""


class PositionStore(Protocol):
    """The stored positions of one consumer group; see `consumer.postgres.offsets.Positions`."""

    def claim(self, log: LogPartition) -> StoredPosition:
        """Raise the epoch of a partition, which fences its former owner."""

    def begin(self, position: StoredPosition, offset: int) -> StoredPosition:
        """Store where a partition that was never read starts."""

    def begin_topic(self, position: StoredPosition, log: LogPartition, ends: Mapping[int, int]) -> StoredPosition:
        """Store where all partitions of a topic start that was never read."""

    def has_read(self, topic: str) -> bool:
        """Return whether anything is stored of a topic of this name."""

    def read(self, ids: Collection[int]) -> dict[int, StoredPosition]:
        """Read rows by their ids."""

    def trip(self, epochs: Mapping[int, int], detail: str) -> None:
        """Store that the circuit breaker stopped reading these partitions, where they are still at these epochs."""


def acquire_leases(
    log: Log,
    store: PositionStore,
    partitions: Collection[PartitionId],
    *,
    start_at_end: bool,
    wanted: Callable[[PartitionId], bool] = lambda _: True,
) -> list[PartitionLease | Refusal]:
    """Lease partitions, one after the other.

    Parameters
    ----------
    log, store
        Kafka and PostgreSQL.
    partitions
        Assigned to this replica.
    start_at_end
        Where a topic that was never read starts: at the end of each partition's log, or at its first offset. Partitions
        that are added later, and recreated topics, always start at the first: no operator decided to skip those.
    wanted
        Whether a partition is still assigned here: a lease that had to wait for the database must not fence the
        partition's new owner.

    Raises
    ------
    TransientError
        When the database cannot be asked now; partitions that were leased before that are leased again.
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
        if wanted(partition):  # it may have been revoked while the brokers were asked
            outcome.append(_acquire(log, store, partition, topics[topic], low, high))
    return outcome


class _Topic(NamedTuple):
    """What the brokers say of a topic."""

    cluster_id: str
    topic_id: str
    ends: Mapping[int, int]
    """Of its partitions, where reading starts at them."""


def _acquire(
    log: Log, store: PositionStore, partition: PartitionId, topic: _Topic, low: int, high: int
) -> PartitionLease | Refusal:
    """Lease one partition whose log goes from `low` to `high`."""
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
    try:
        if start > high:
            # The former owner may have committed after the end of the log was read.
            low, high = log.watermarks(partition)
        if not low <= start <= high:
            return Refusal(partition, _gap(partition, start, low, high), lasting=True, position=start, end=high)
        if position.leader_epoch is not None and start > low:
            replaced = log.divergence(partition, position.leader_epoch, start)
            if replaced is not None:
                detail = _replaced(partition, start, replaced, position.leader_epoch)
                return Refusal(partition, detail, lasting=True, position=start, end=high)
    except TransientError as error:
        return Refusal(partition, str(error), lasting=False)
    return PartitionLease(
        partition,
        position.id,
        position.epoch,
        start,
        position.stream_time_ms,
        start,
        position.accept_until,
        (topic.cluster_id, topic.topic_id),
        position.leader_epoch,
        position.dead_letters_until,
        min(high, start + _TRIAL_MESSAGES) if position.lease_count > _MOST_LEASES_IN_PLACE else 0,
    )


def _replaced(partition: PartitionId, stored: int, first: int, leader_epoch: int) -> str:
    return (
        f"offsets {first} to {stored - 1} of {partition.topic}[{partition.partition}] are other messages than were "
        f"read there: a leader elected after epoch {leader_epoch} did not have them, and its log has grown past the "
        f"stored position {stored} since. Decide with 'visit-consumer positions accept-gap', which reads again from "
        f"{first}, or 'positions set'"
    )


def _gap(partition: PartitionId, stored: int, low: int, high: int) -> str:
    if stored < low:
        lost = f"offsets {stored} to {low - 1} were deleted before they were read"
    else:
        lost = f"the log ends before it, at {high}: it lost its tail, or is another log"
    return (
        f"the stored position {stored} of {partition.topic}[{partition.partition}] is outside the log "
        f"({low} to {high}): {lost}. Decide with 'visit-consumer positions accept-gap' or 'positions set'"
    )


class CheckedLeases(NamedTuple):
    """What the rows of a fenced batch say."""

    renewed: list[PartitionLease]
    """Still at our epoch: our commit had landed, or an operator moved the position."""
    lost: list[PartitionId]
    """Another replica has raised the epoch."""
    doubtful: list[PartitionId]
    """Still at our epoch, but the log holds other messages below the position, or the brokers do not answer."""


def check_leases(log: Log, held: Collection[PartitionLease], stored: Mapping[int, StoredPosition]) -> CheckedLeases:
    """Compare leases with the stored rows after a fence failed: at our epoch reading goes on from the stored offset.

    Where it starts again, Kafka's client does not notice that a leader was elected without the messages before it: so
    the brokers are asked, as for a new lease.
    """
    checked = CheckedLeases([], [], [])
    for lease in held:
        row = stored.get(lease.offset_id)
        if row is not None and row.epoch == lease.epoch and row.next_offset is not None:
            if _may_be_replaced(log, lease.partition, row.leader_epoch, row.next_offset):
                checked.doubtful.append(lease.partition)
                continue
            checked.renewed.append(
                lease._replace(
                    next_offset=row.next_offset,
                    stream_time_ms=row.stream_time_ms,
                    start=row.next_offset,
                    leader_epoch=row.leader_epoch,
                )
            )
        else:
            checked.lost.append(lease.partition)
    return checked


def _may_be_replaced(log: Log, partition: PartitionId, leader_epoch: int | None, offset: int) -> bool:
    if leader_epoch is None:
        return False
    try:
        return offset > log.watermarks(partition)[1] or log.divergence(partition, leader_epoch, offset) is not None
    except TransientError:
        return True


def recreated_logs(log: Log, leases: Collection[PartitionLease]) -> list[PartitionId]:
    """Ask the brokers which partitions belong to another log by now than was leased, as far as they can be asked."""
    return belonging_to_another_log(leases, identify_topics(log, {lease.partition.topic for lease in leases}))


def may_follow_another_log(lease: PartitionLease, update: OffsetUpdate) -> bool:
    """Whether a leader that came after the lease was given wrote the first messages that are stored of it.

    Kafka's client compares leader epochs while it reads, not where it begins to. A message of the stored epoch has the
    same messages before it on every replica; one of a later epoch may not.
    """
    before, after = lease.leader_epoch, update.leader_epoch
    return update.expected == lease.start and before is not None and after is not None and before < after


def replaced_logs(log: Log, leases: Collection[PartitionLease]) -> list[PartitionId]:
    """Ask the brokers which partitions hold other messages below the start of the lease, or may, for no answer."""
    return [x.partition for x in leases if _may_be_replaced(log, x.partition, x.leader_epoch, x.start)]


def belonging_to_another_log(
    leases: Collection[PartitionLease], found: Mapping[str, tuple[str, str]]
) -> list[PartitionId]:
    """Return the partitions whose topic now has another identity than was leased; unknown topics do not count."""
    return [lease.partition for lease in leases if found.get(lease.partition.topic, lease.log) != lease.log]


def identify_topics(log: Log, topics: Collection[str]) -> dict[str, tuple[str, str]]:
    """Ask for the ids of cluster and topic; topics whose brokers do not answer are left out."""
    found = {}
    for topic in topics:
        with suppress(TransientError):
            found[topic] = log.identify(topic)
    return found
