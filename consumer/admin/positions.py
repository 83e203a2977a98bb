"""What operators do with stored positions: look, set, accept a gap, take them over under another name.

A position that is set raises the epoch of its row: a running reader finds itself fenced, drops what it holds, and
claims the partition again, from the new position, one session timeout later.
"""

import os
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum

from consumer.config import Settings
from consumer.errors import ConfigurationError
from consumer.kafka.log_inspector import LogInspector, UnknownTopicError
from consumer.kafka.properties import connection_properties
from consumer.model import LogPartition, PartitionId
from consumer.postgres.connection import Database
from consumer.postgres.offsets import ListedPosition, Positions
from consumer.read.status import read_positions

APPLICATION = "visit-consumer positions"
"""What ``pg_stat_activity`` shows."""
EARLIEST = "earliest"
LATEST = "latest"


class PositionState(StrEnum):
    """How a stored position stands to its log."""

    GOOD = "good"
    GAP = "gap"
    """The log begins after it: messages were deleted before they were read."""
    BEYOND_END = "beyond_end"
    """The log ends before it: it lost its tail."""
    REPLACED = "replaced"
    """The log lost its tail and grew again: the last messages that were read are others now."""
    ANOTHER_LOG = "another_log"
    """The topic was deleted or recreated, or it is on another cluster: this row is of a log that is no more."""
    RETIRED = "retired"
    """Another consumer group has taken it over: nobody reads from it."""
    UNREAD = "unread"
    """Nothing was written yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionStatus:
    """One stored position beside its log."""

    stored: ListedPosition
    state: PositionState | None = None
    """None where the log was not asked."""
    low: int | None = None
    high: int | None = None
    replaced_from: int | None = None
    """The first offset that holds another message than was read there."""

    @property
    def lag(self) -> int | None:
        """Messages that are still to be read."""
        if self.high is None or self.stored.next_offset is None:
            return None
        return max(self.high - max(self.stored.next_offset, self.low or 0), 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionChange:
    """One position that was set, or would be."""

    log: LogPartition
    before: int | None
    after: int | None
    """None: nothing was read yet."""
    epoch: int | None
    """The new one; None where nothing was written."""


def show_positions(settings: Settings, *, ask_log: bool) -> list[PositionStatus]:
    """Read the stored positions of every consumer group, and how they stand to the log where the brokers are asked.

    Raises
    ------
    TransientError
        When the database, or a broker that is asked, does not answer.
    """
    with Database(settings.database, application_name=APPLICATION) as database:
        stored = read_positions(database)
    if not ask_log:
        return [PositionStatus(stored=each) for each in stored]
    with open_inspector(settings) as inspector:
        identities = identify_topics(inspector, {each.topic for each in stored})
        return [_status(inspector, each, identities.get(each.topic)) for each in stored]


def set_position(
    settings: Settings, partition: PartitionId, where: int | str, *, force: bool = False, dry_run: bool = False
) -> PositionChange:
    """Set where a partition is read next.

    Parameters
    ----------
    settings
        Of Kafka, whose group's position it is, and of the database.
    partition
        Of a topic as the brokers have it now.
    where
        An offset, or ``earliest`` or ``latest``: the log's first offset, or the one after its last.
    force
        Accept an offset outside the log.
    dry_run
        Only tell.

    Raises
    ------
    ConfigurationError
        When the offset is outside the log, and `force` is not given.
    TransientError
        When brokers or database do not answer, or there is no such partition.
    """
    with (
        open_inspector(settings) as inspector,
        Database(settings.database, application_name=APPLICATION) as database,
    ):
        log = LogPartition(*inspector.identify(partition.topic), partition)
        low, high = inspector.watermarks(partition)
        offset = {EARLIEST: low, LATEST: high}[where] if isinstance(where, str) else where
        if not low <= offset <= high and not force:
            raise ConfigurationError(
                f"offset {offset} is outside the log of {partition.topic}[{partition.partition}], {low} to {high}: "
                "nothing could be read from there; --force sets it nevertheless"
            )
        before = next(
            (
                each.next_offset
                for each in read_positions(database)
                if each.log == log and each.consumer_group == settings.kafka.group
            ),
            None,
        )
        epoch = None if dry_run else group_positions(settings, database).set(log, offset).epoch
    return PositionChange(log=log, before=before, after=offset, epoch=epoch)


def accept_gaps(
    settings: Settings, *, topic: str | None = None, partition: int | None = None, dry_run: bool = False
) -> list[PositionChange]:
    """Move the group's positions that lie outside their logs to the next offset that there is.

    A position before the log's start goes to its start; one beyond its end, because the log lost its tail, to its
    end; one whose last messages were replaced, to the first of those. Other positions inside their logs, and those of
    logs that are no more, stay as they are.

    Parameters
    ----------
    settings
        Of Kafka and the database.
    topic, partition
        Only of these; None: of all.
    dry_run
        Only tell.

    Returns
    -------
    moves
        Empty when there is no gap.
    """
    moves = []
    with Database(settings.database, application_name=APPLICATION) as database:
        positions = group_positions(settings, database)
        for status in show_positions(settings, ask_log=True):
            stored = status.stored
            wanted = (
                stored.consumer_group == settings.kafka.group
                and topic in (None, stored.topic)
                and partition in (None, stored.partition)
            )
            target = {
                PositionState.GAP: status.low,
                PositionState.BEYOND_END: status.high,
                PositionState.REPLACED: status.replaced_from,
            }.get(status.state or PositionState.GOOD)
            if not wanted or target is None:
                continue
            epoch = None if dry_run else positions.set(stored.log, target).epoch
            moves.append(PositionChange(log=stored.log, before=stored.next_offset, after=target, epoch=epoch))
    return moves


def take_over(settings: Settings, former: str, *, dry_run: bool = False) -> list[PositionChange]:
    """Go on for a consumer group of another name: from its positions, and with the groups of exposures it left open.

    A partition that the configured group has read already is read again from the former position, where that is the
    lesser; what is read twice changes no row.

    Parameters
    ----------
    settings
        Of Kafka, whose group goes on, and of the database.
    former
        The other name.
    dry_run
        Only tell.

    Raises
    ------
    ConfigurationError
        When `former` is the configured group, or has no positions.
    TransientError
        When the database does not answer.
    """
    group = settings.kafka.group
    with Database(settings.database, application_name=APPLICATION) as database:
        stored = read_positions(database)
        theirs = {each.log: each.next_offset for each in stored if each.consumer_group == former}
        if former == group or not theirs:
            others = sorted({each.consumer_group for each in stored} - {group})
            raise ConfigurationError(
                f"consumer group {former!r} is no other than kafka.group {group!r} with stored positions; those are: "
                f"{', '.join(others) or 'none'}"
            )
        ours = {each.log: each.next_offset for each in stored if each.consumer_group == group}
        if dry_run:
            return [
                PositionChange(log=log, before=ours.get(log), after=_lesser(ours.get(log), offset), epoch=None)
                for log, offset in theirs.items()
            ]
        taken = group_positions(settings, database).take_over(former)
    return [PositionChange(log=log, before=ours.get(log), after=after, epoch=epoch) for log, after, epoch in taken]


def remove_positions(settings: Settings, group: str, *, dry_run: bool = False) -> list[ListedPosition]:
    """Remove the stored positions of a consumer group that is no more; return them.

    Raises
    ------
    ConfigurationError
        When it is the configured group, has no positions, or exposures wait by its stream times (`take_over` moves
        them).
    FatalError
        When the role may not remove rows: the schema's owner may.
    """
    with Database(settings.database, application_name=APPLICATION) as database:
        rows = [each for each in read_positions(database) if each.consumer_group == group]
        if group == settings.kafka.group or not rows:
            raise ConfigurationError(f"consumer group {group!r} is kafka.group, or has no stored positions")
        if waiting := group_positions(settings, database).remove(group, dry_run=dry_run):
            raise ConfigurationError(
                f"{waiting} open groups of exposures wait by the stream times of {group!r}: take them over first, with "
                f"'visit-consumer positions take-over --from {group}'"
            )
    return rows


def _lesser(ours: int | None, theirs: int | None) -> int | None:
    return min((offset for offset in (ours, theirs) if offset is not None), default=None)


def identify_topics(inspector: LogInspector, topics: Collection[str]) -> dict[str, tuple[str, str]]:
    """Return the ids of the cluster and of each topic that there is: one that was deleted is no reason to fail."""
    found = {}
    for topic in sorted(topics):
        with suppress(UnknownTopicError):
            found[topic] = inspector.identify(topic)
    return found


def _status(inspector: LogInspector, stored: ListedPosition, identity: tuple[str, str] | None) -> PositionStatus:
    if stored.taken_over_by is not None:
        return PositionStatus(stored=stored, state=PositionState.RETIRED)
    if (stored.cluster_id, stored.topic_id) != identity:
        return PositionStatus(stored=stored, state=PositionState.ANOTHER_LOG)
    low, high = inspector.watermarks(PartitionId(stored.topic, stored.partition))
    if stored.next_offset is None:
        state = PositionState.UNREAD
    elif stored.next_offset < low:
        state = PositionState.GAP
    else:
        state = PositionState.BEYOND_END if stored.next_offset > high else PositionState.GOOD
    replaced = None
    if state is PositionState.GOOD and stored.leader_epoch is not None and (stored.next_offset or 0) > low:
        partition = PartitionId(stored.topic, stored.partition)
        replaced = inspector.divergence(partition, stored.leader_epoch, stored.next_offset or 0)
        state = PositionState.GOOD if replaced is None else PositionState.REPLACED
    return PositionStatus(stored=stored, state=state, low=low, high=high, replaced_from=replaced)


@contextmanager
def open_inspector(settings: Settings) -> Iterator[LogInspector]:
    """Return what asks the brokers about logs, for as long as it is needed."""
    inspector = LogInspector(connection_properties(settings.kafka), group=settings.kafka.group)
    try:
        yield inspector
    finally:
        inspector.close()


def group_positions(settings: Settings, database: Database) -> Positions:
    """Return the stored positions of the configured group, which an operator changes."""
    owner = f"operator {socket.gethostname()}:{os.getpid()}"
    return Positions(database, consumer_group=settings.kafka.group, owner=owner)
