"""What the replicas share: time, the brokers with their consumer group, and the store."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from consumer.model import LogPartition, Message, PartitionId, Polled, RebalanceListener, StoredPosition
from consumer.service.batch import Batch
from consumer.service.tables import Tables
from tests.simulation.tables import MemoryTables, Rows
from tests.support.stepped import START_S, MemoryStore, ScriptedSource, SteppedRuntime


@dataclass(slots=True)
class Clock:
    """One time for all."""

    now_s: float = 100.0


class SharedTime(SteppedRuntime):
    """A machine whose time is that of all."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        super().__init__()

    @property
    def now_s(self) -> float:
        """The monotonic clock."""
        return self.clock.now_s

    @now_s.setter
    def now_s(self, value: float) -> None:
        self.clock.now_s = max(self.clock.now_s, value)


class Committed(NamedTuple):
    """A transaction of a batch."""

    replica: str
    batch: Batch
    before: Rows
    after: Rows


class Decided(NamedTuple):
    """A position that an operator has set."""

    partition: PartitionId
    offset: int


class Claimed(NamedTuple):
    """A position that a replica has claimed."""

    replica: str
    position: StoredPosition
    partition: PartitionId
    told: bool
    """Whether the group had told the replica that the partition is its own, and nothing else since."""


class SharedStore(MemoryStore):
    """The store of all, which remembers what happened to it."""

    state: Rows  # type: ignore[assignment] # all tables, where the other has some

    def __init__(self) -> None:
        super().__init__()
        self.state = Rows()
        self.journal: list[Committed | Decided | Claimed] = []
        self.leader: str | None = None
        """The replica whose session holds the lock of the relay."""

    def set_position(self, log: LogPartition, offset: int) -> None:
        """Decide for an operator."""
        known = self.state.positions[self.state.ids[log]]
        self._put(known._replace(epoch=known.epoch + 1, next_offset=offset, leader_epoch=None, stream_time_ms=0))
        self.journal.append(Decided(log.partition, offset))

    def _put(self, position: StoredPosition) -> StoredPosition:
        self.state = self.state.copy()
        return super()._put(position)

    def position(self, partition: PartitionId) -> StoredPosition | None:
        """Return a partition's row."""
        for log, number in self.state.ids.items():
            if log.partition == partition:
                return self.state.positions.get(number)
        return None


class NotingTables(MemoryTables):
    """The tables of one transaction, and the batch that is applied to them."""

    batch: Batch


class StoreOf:
    """The store as one replica's session has it.

    Parameters
    ----------
    store
        Of all.
    replica
        Whose it is.
    """

    def __init__(self, store: SharedStore, replica: str) -> None:
        self._store = store
        self._replica = replica
        self.member: Member | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @contextmanager
    def transaction(self, *, timeout_factor: int = 1) -> Iterator[Tables]:
        """Run the body on a copy of the tables, which takes their place afterwards."""
        del timeout_factor
        store = self._store
        if store.faults and (fault := store.faults.popleft()) is not None:
            raise fault
        before = store.state
        tables = NotingTables(before.copy(), store.refuses)
        yield cast("Tables", tables)
        store.state = tables.rows
        store.journal.append(Committed(self._replica, tables.batch, before, tables.rows))
        if store.lost_answers and (lost := store.lost_answers.popleft()) is not None:
            raise lost

    def claim(self, log: LogPartition) -> StoredPosition:
        """Raise the epoch."""
        assert self.member is not None
        store = self._store
        position = store.claim(log)
        store.journal.append(Claimed(self._replica, position, log.partition, log.partition in self.member.told))
        return position


@dataclass(slots=True)
class Brokers:
    """Logs of one topic, and who may read which partition of them."""

    clock: Clock
    logs: dict[PartitionId, list[Message]]
    epochs: dict[PartitionId, int] = field(default_factory=dict)
    owners: dict[PartitionId, "Member"] = field(default_factory=dict)
    heirs: dict[PartitionId, "Member"] = field(default_factory=dict)
    """Who gets a partition once its owner has let it go."""

    def append(self, partition: PartitionId, value: bytes) -> None:
        """Take a message."""
        log, now_ms = self.logs[partition], round((START_S + self.clock.now_s) * 1000)
        log.append(Message(partition, len(log), now_ms, None, value, self.epochs.get(partition, 0)))

    def elect(self, partition: PartitionId, length: int) -> None:
        """Elect a leader that has only so many messages."""
        del self.logs[partition][length:]
        self.epochs[partition] = self.epochs.get(partition, 0) + 1

    def divergence(self, partition: PartitionId, leader_epoch: int, offset: int) -> int | None:
        """Return the first offset below this one whose message was written by a later leader."""
        return next((m.offset for m in self.logs[partition][:offset] if (m.leader_epoch or 0) > leader_epoch), None)

    def move(self, partition: PartitionId, heir: "Member") -> None:
        """Give a partition to a member, once its owner has let it go."""
        owner = self.owners.get(partition)
        if owner is heir or partition in self.heirs:
            return
        if owner is None:
            self._give(partition, heir)
            return
        self.heirs[partition] = heir

        def revoke() -> None:
            following = self.heirs.get(partition)
            if self.owners.get(partition) is owner and following is not None:
                owner.told.discard(partition)
                owner.listens.revoked([partition])
                del self.heirs[partition]
                self._give(partition, following)

        owner.script.append(revoke)

    def expire(self, member: "Member", heirs: list["Member"]) -> None:
        """Take all partitions from a member that was not heard of for too long; it learns so at its next poll."""
        taken = [partition for partition, owner in self.owners.items() if owner is member]
        for number, partition in enumerate(taken):
            self.heirs.pop(partition, None)
            self._give(partition, heirs[number % len(heirs)])
        for partition, heir in list(self.heirs.items()):
            if heir is member:
                self.heirs[partition] = heirs[0]

        def lose() -> None:
            member.told.difference_update(taken)
            member.listens.lost(taken)

        if taken:
            member.script.append(lose)

    def _give(self, partition: PartitionId, heir: "Member") -> None:
        self.owners[partition] = heir

        def assign() -> None:
            if self.owners.get(partition) is heir:
                heir.told.add(partition)
                heir.listens.assigned([partition])

        heir.script.append(assign)


class Member(ScriptedSource):
    """A member of the consumer group.

    Where it goes on reading, Kafka's client sees that a later leader has replaced what it has read.
    """

    def __init__(self, brokers: Brokers) -> None:
        super().__init__(brokers.logs)
        self.brokers = brokers
        self.told: set[PartitionId] = set()
        """Partitions that the group has told it are its own."""
        self._epochs: dict[PartitionId, int] = {}
        """Of the leader, when a partition was started or read last."""

    @property
    def listens(self) -> RebalanceListener:
        """The loop."""
        assert self.listener is not None
        return self.listener

    def poll(self, max_messages: int, timeout_s: float) -> Polled:
        """Deliver what is next, unless the client sees that it was replaced."""
        replaced = {
            partition
            for partition, offset in self.next_offsets.items()
            if self.brokers.divergence(partition, self._epochs[partition], offset) is not None
        }
        self.next_offsets = {p: offset for p, offset in self.next_offsets.items() if p not in replaced}
        polled = super().poll(max_messages, timeout_s)
        polled.out_of_range.update(replaced)
        for partition in self.next_offsets:
            self._epochs[partition] = self.brokers.epochs.get(partition, 0)
        return polled

    def start(self, partition: PartitionId, offset: int) -> None:
        """Read a partition."""
        self._epochs[partition] = self.brokers.epochs.get(partition, 0)
        super().start(partition, offset)

    def divergence(self, partition: PartitionId, leader_epoch: int, offset: int) -> int | None:
        """Ask the brokers."""
        return self.brokers.divergence(partition, leader_epoch, offset)
