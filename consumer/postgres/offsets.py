"""Stored positions (table ``consumer_offset``): claiming partitions, and reading where they stand.

A batch moves them itself, with its rows: `consumer.postgres.batch_tables.BatchTransaction.advance`.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import NamedTuple, cast

from consumer.model import LogPartition, PartitionId, StoredPosition
from consumer.postgres.connection import Database, Session
from consumer.postgres.row_codecs import columns, storable


class ListedPosition(NamedTuple):
    """One row of ``consumer_offset`` with all its columns."""

    consumer_group: str
    cluster_id: str
    topic: str
    topic_id: str
    partition: int
    next_offset: int | None
    epoch: int
    stream_time_ms: int
    owner: str
    updated_at: datetime
    breaker: str | None
    leader_epoch: int | None
    taken_over_by: str | None

    @property
    def log(self) -> LogPartition:
        """The partition of the log that it is of."""
        return LogPartition(self.cluster_id, self.topic_id, PartitionId(self.topic, self.partition))


class Positions:
    """The rows of ``consumer_offset`` of one consumer group.

    Parameters
    ----------
    database
        A session of the writer role.
    consumer_group
        Whose positions.
    owner
        Who claims, for people who look at the table.
    """

    def __init__(self, database: Database, *, consumer_group: str, owner: str) -> None:
        self._database = database
        self._consumer_group = consumer_group
        self._owner = owner

    def claim(self, log: LogPartition) -> StoredPosition:
        """Lease a partition: the raised epoch keeps its former owner from writing.

        Groups that were left open by a former log of that topic, which is not read any more, live by this
        partition's clock from here on.

        Raises
        ------
        TransientError
            When the database cannot be asked now.
        """
        with self._database.transaction() as session:
            position = _position(session.rows("positions", "claim_partition", self._named(log))[0])
            session.run("positions", "adopt_groups", self._named(log) | {"id": position.id})
        return position

    def set(self, log: LogPartition, offset: int) -> StoredPosition:
        """Store an operator's position: who reads the partition drops what it holds, and reads from there."""
        with self._database.transaction() as session:
            parameters = self._named(log) | {"next_offset": offset}
            return _position(session.rows("positions", "set_position", parameters)[0])

    def take_over(self, former: str) -> list[tuple[LogPartition, int | None, int]]:
        """Go on for another consumer group, whose readers are fenced from here on, and whose open groups are ours.

        Returns
        -------
        taken
            Of each of its partitions: the log, where we read it next (the lesser of both positions), and the epoch.
        """
        with self._database.transaction() as session:
            parameters = {"consumer_group": self._consumer_group, "former": former, "owner": self._owner}
            rows = session.rows("positions", "take_over_positions", parameters)
        taken = cast("list[tuple[str, str, str, int, int | None, int]]", rows)
        return [
            (LogPartition(cluster_id, topic_id, PartitionId(topic, partition)), next_offset, epoch)
            for cluster_id, topic_id, topic, partition, next_offset, epoch in taken
        ]

    def remove(self, group: str, *, dry_run: bool) -> int:
        """Remove the rows of a consumer group, unless groups of exposures wait by its stream times.

        Returns
        -------
        waiting
            How many such groups wait.
        """
        with self._database.transaction() as session:
            waiting = cast("int", session.rows("positions", "groups_of_positions", {"group": group})[0][0])
            if not waiting and not dry_run:
                session.run("positions", "remove_positions", {"group": group})
        return waiting

    def begin(self, position: StoredPosition, offset: int) -> StoredPosition:
        """Store where a partition that was never read starts; nothing happens when another claimed it since."""
        with self._database.transaction() as session:
            session.run(
                "positions", "begin_partition", {"id": position.id, "epoch": position.epoch, "next_offset": offset}
            )
        return position._replace(next_offset=offset)

    def begin_topic(self, position: StoredPosition, log: LogPartition, ends: Mapping[int, int]) -> StoredPosition:
        """Store where all partitions of a topic start that was never read, where no other replica did meanwhile.

        Parameters
        ----------
        position
            Of one of its partitions.
        log
            The same partition's.
        ends
            Offsets by partition.
        """
        with self._database.transaction() as session:
            rows = columns(("partitions", "next_offsets"), sorted(ends.items()))
            session.run("positions", "begin_topic", self._named(log) | rows)
            return _position(session.rows("positions", "read_positions", {"ids": [position.id]})[0])

    def has_read(self, topic: str) -> bool:
        """Return whether a position of a topic of this name is stored, of whichever log."""
        with self._database.transaction() as session:
            named = {"consumer_group": self._consumer_group, "topic": topic}
            return bool(session.rows("positions", "has_read", named))

    def trip(self, epochs: Mapping[int, int], detail: str) -> None:
        """Note that the circuit breaker stopped reading these partitions, where they are still at our epochs."""
        parameters = columns(("ids", "epochs"), sorted(epochs.items())) | {"detail": storable(detail)}
        with self._database.transaction() as session:
            session.run("positions", "trip_breaker", parameters)

    def reset(self, log: LogPartition, *, accept_until: int) -> bool:
        """Let a partition be read again; its bad messages below an offset become dead letters then.

        Returns
        -------
        was_open
            Whether the breaker had stopped it.
        """
        with self._database.transaction() as session:
            parameters = self._named(log) | {"accept_until": accept_until}
            return session.run("positions", "reset_breaker", parameters) > 0

    def read(self, ids: Collection[int]) -> dict[int, StoredPosition]:
        """Read rows by their ids."""
        with self._database.transaction() as session:
            rows = session.rows("positions", "read_positions", {"ids": sorted(ids)})
        return {each.id: each for each in map(_position, rows)}

    def _named(self, log: LogPartition) -> dict[str, object]:
        return {
            "consumer_group": self._consumer_group,
            "cluster_id": log.cluster_id,
            "topic": log.partition.topic,
            "topic_id": log.topic_id,
            "partition": log.partition.partition,
            "owner": self._owner,
        }


def list_positions(session: Session) -> list[ListedPosition]:
    """Read the rows of all consumer groups, ordered by their keys."""
    return [ListedPosition(*row) for row in session.rows("positions", "list_positions")]  # type: ignore[arg-type]  # the columns' types


def _position(row: tuple[object, ...]) -> StoredPosition:
    return StoredPosition(*row)  # type: ignore[arg-type] # the columns' types
