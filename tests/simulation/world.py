"""What the replicas share: time, the brokers with their consumer group, and the store."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import cast

from consumer.model import LogPartition, Message, OffsetUpdate, PartitionId, Polled, RebalanceListener, StoredPosition
from consumer.service.tables import Tables
from tests.support.stepped import START_S, MemoryStore, ScriptedSource, SteppedRuntime, _MemoryTables


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


@dataclass(slots=True)
class Commit:
    """One range of a partition that a transaction moved over."""

    partition: PartitionId
    begin: int
    end: int


class SharedStore(MemoryStore):
    """The store of all, which remembers what was committed."""

    def __init__(self) -> None:
        super().__init__()
        self.commits: list[Commit] = []

    @contextmanager
    def transaction(self, *, timeout_factor: int = 1) -> Iterator[Tables]:
        """Run the body on a copy of the state, which takes its place afterwards."""
        del timeout_factor
        if self.faults and (fault := self.faults.popleft()) is not None:
            raise fault
        # Rows are replaced and not changed: a copy of the tables is enough.
        state = replace(
            self.state,
            positions=dict(self.state.positions),
            exposures=dict(self.state.exposures),
            dead_letters=list(self.state.dead_letters),
        )
        tables = _NotingTables(state, self)
        yield cast("Tables", tables)
        self.state = state
        self.commits += tables.moved
        if self.lost_answers and (lost := self.lost_answers.popleft()) is not None:
            raise lost

    def set_position(self, log: LogPartition, offset: int) -> None:
        """Decide for an operator."""
        number = self.state.ids[log]
        known = self.state.positions[number]
        self._put(known._replace(epoch=known.epoch + 1, next_offset=offset, leader_epoch=None, stream_time_ms=0))
        self.commits.append(Commit(log.partition, offset, offset))

    def position(self, partition: PartitionId) -> StoredPosition | None:
        """Return a partition's row."""
        for log, number in self.state.ids.items():
            if log.partition == partition:
                return self.state.positions.get(number)
        return None


class _NotingTables(_MemoryTables):
    def __init__(self, state: object, store: SharedStore) -> None:
        super().__init__(state, store)  # type: ignore[arg-type] # its own state
        self.moved: list[Commit] = []

    def advance(self, offset_updates: list[OffsetUpdate]) -> None:  # type: ignore[override] # a list is given
        super().advance(offset_updates)
        for each in offset_updates:
            position = self._state.positions[each.offset_id]
            self._state.positions[each.offset_id] = position._replace(leader_epoch=each.leader_epoch)
            if each.expected is not None and each.next_offset is not None and each.next_offset > each.expected:
                self.moved.append(Commit(each.partition, each.expected, each.next_offset))


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
        if taken:
            member.script.append(lambda: member.listens.lost(taken))

    def _give(self, partition: PartitionId, heir: "Member") -> None:
        self.owners[partition] = heir

        def assign() -> None:
            if self.owners.get(partition) is heir:
                heir.listens.assigned([partition])

        heir.script.append(assign)


class Member(ScriptedSource):
    """A member of the consumer group.

    Where it goes on reading, Kafka's client sees that a later leader has replaced what it has read.
    """

    def __init__(self, brokers: Brokers) -> None:
        super().__init__(brokers.logs)
        self.brokers = brokers
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
