"""A state machine drives the store with events, ticks, crashes, rebalances and replays, against a dict.

The oracle is a few dictionaries of plain tuples; it shares no code with the product. It knows one rule of grouping
(exposures of one group that announce the group's size), and that is enough to say what every table must hold.
"""

import itertools
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from consumer.config import Settings
from consumer.config.resolve import resolve_instruments
from consumer.errors import FencedError
from consumer.events import Decoder
from consumer.model import LogPartition, Message, PartitionId
from consumer.postgres.batch_tables import BatchTransaction
from consumer.postgres.connection import Database
from consumer.postgres.offsets import Positions
from consumer.service.apply_batch import apply_batch
from consumer.service.batch import Batch
from consumer.service.batch_builder import BatchBuilder
from consumer.service.leases import PartitionLease
from tests.support.exposures import exposure
from tests.support.postgres import PostgresServer
from tests.support.service import prepare_database, raws_of, settings_for

PARTITIONS = [PartitionId("model", number) for number in range(2)]
START_MS = 1_800_000_000_000
GROUP_SIZE = 2
N_GROUPS = 6
DETECTORS = 3


class CrashError(Exception):
    """The process ended in the middle of a transaction."""


class StoreMachine(RuleBasedStateMachine):
    """Two replicas, a log of two partitions, one database."""

    dsn: str
    server: PostgresServer

    def __init__(self) -> None:
        super().__init__()
        self._tidy: list[Any] = []
        database = self.server.database(prepare_database)
        self.dsn = database.__enter__()
        loaded = Settings(
            **settings_for("nowhere:1", self.dsn, instruments={"LSSTComCam": {"group_exposures": "by-group-metadata"}})
        )
        self.instruments = resolve_instruments(loaded)
        self.replicas = [_Replica(loaded, self.instruments) for _ in range(2)]
        self._tidy = [*self.replicas, database]
        self.log: dict[PartitionId, list[Message]] = {partition: [] for partition in PARTITIONS}
        # The oracle: what a clean reading of what is committed must have left.
        self.committed = dict.fromkeys(PARTITIONS, 0)
        self.ever = dict.fromkeys(PARTITIONS, 0)
        """The furthest that was ever committed: an operator may set a position back."""
        self.owner: dict[PartitionId, int] = {}
        self.stream_time_ms = itertools.count(START_MS, 10)

    def teardown(self) -> None:
        """Close both replicas and drop the database."""
        for replica in self.replicas:
            replica.database.close()
        self._tidy[-1].__exit__(None, None, None)

    @initialize()
    def first_claims(self) -> None:
        """Give each replica a partition."""
        for number, partition in enumerate(PARTITIONS):
            self.replicas[number].claim(partition)
            self.owner[partition] = number

    @rule(
        group=st.integers(0, N_GROUPS - 1),
        member=st.integers(0, GROUP_SIZE - 1),
        detector=st.integers(0, DETECTORS - 1),
        where=st.sampled_from(PARTITIONS),
    )
    def announce(self, group: int, member: int, detector: int, where: PartitionId) -> None:
        """Append an event, new or a repetition, to any partition."""
        number = 1 + group * GROUP_SIZE + member
        one = exposure(number, group=f"20261101{group:04d}", group_size=GROUP_SIZE)
        value = raws_of([one], [detector])[0].value
        log = self.log[where]
        log.append(Message(where, len(log), next(self.stream_time_ms), None, value))

    @rule(where=st.sampled_from(PARTITIONS), value=st.sampled_from([b"", b"junk", b"\xc3\x01short"]))
    def announce_junk(self, where: PartitionId, value: bytes) -> None:
        """Append a message that is no event."""
        log = self.log[where]
        log.append(Message(where, len(log), next(self.stream_time_ms), b"key", value))

    @rule(who=st.integers(0, 1), number=st.integers(1, 8))
    def poll_and_commit(self, who: int, number: int) -> None:
        """Let a replica read some messages and commit them; a zombie's batch is refused whole."""
        batch = self._poll(who, number)
        if batch is None:
            return
        stale = any(self.replicas[who].epochs[a.partition] != self._epoch(a.partition) for a in batch.offset_updates)
        try:
            self.replicas[who].apply(batch, self.instruments)
        except FencedError:
            assert stale, "a batch of the owner was refused"
            self._restart(who)
        else:
            assert not stale, "a zombie wrote"
            for advance in batch.offset_updates:
                assert advance.next_offset is not None
                self.committed[advance.partition] = advance.next_offset
                self.ever[advance.partition] = max(self.ever[advance.partition], advance.next_offset)

    @rule(who=st.integers(0, 1), number=st.integers(1, 8))
    def poll_and_crash(self, who: int, number: int) -> None:
        """Let a replica end after the last statement and before its commit; it starts again and claims."""
        batch = self._poll(who, number)
        replica = self.replicas[who]
        if batch is not None:
            with pytest.raises((CrashError, FencedError)):
                replica.apply(batch, self.instruments, crash=True)
        self._restart(who)

    @rule(where=st.sampled_from(PARTITIONS), told=st.booleans())
    def rebalance(self, where: PartitionId, told: bool) -> None:
        """Give a partition to the other replica; its former owner hears of it, or is a zombie from now on."""
        former = self.owner[where]
        if told:
            self.replicas[former].forget([where])
        self.owner[where] = 1 - former
        self.replicas[1 - former].claim(where)

    @rule(where=st.sampled_from(PARTITIONS))
    @precondition(lambda self: any(self.committed.values()))
    def replay_from_the_start(self, where: PartitionId) -> None:
        """Let an operator set a position back: everything is read again, and nothing may change."""
        with psycopg.connect(self.dsn) as connection:
            connection.execute(
                "UPDATE visits.consumer_offset SET next_offset = 0 WHERE partition = %s", [where.partition]
            )
        self.replicas[self.owner[where]].claim(where)
        self.replicas[1 - self.owner[where]].forget([where])
        self.committed[where] = 0

    @rule(who=st.integers(0, 1))
    def tick(self, who: int) -> None:
        """Close nothing: by these clocks no group is due."""
        replica = self.replicas[who]
        ends = {p: len(self.log[p]) for p in replica.epochs if replica.read.get(p) == len(self.log[p])}
        replica.builder.put([], ends, START_MS)
        batch = replica.builder.tick(START_MS)
        if batch is None:
            return
        stale = any(replica.epochs[a.partition] != self._epoch(a.partition) for a in batch.offset_updates)
        try:
            replica.apply(batch, self.instruments)
        except FencedError:
            assert stale
            self._restart(who)
        else:
            assert not stale

    @invariant()
    def tables_are_those_of_the_committed_log(self) -> None:
        """Compare every table with the oracle."""
        arrived: dict[int, set[int]] = {}
        junk: set[tuple[int, int]] = set()
        for partition in PARTITIONS:
            known = self.log[partition][: self.ever[partition]]
            for message in known:
                found = _MEANINGS.get(message.value or b"")
                if found is None:
                    junk.add((partition.partition, message.offset))
                else:
                    arrived.setdefault(found[0], set()).add(found[1])
        whole = [
            group
            for group in range(N_GROUPS)
            if all(1 + group * GROUP_SIZE + member in arrived for member in range(GROUP_SIZE))
        ]
        begun = {(number - 1) // GROUP_SIZE for number in arrived} - set(whole)
        with psycopg.connect(self.dsn) as connection:
            assert dict(connection.execute("SELECT id % 100000, detectors::text FROM visits.exposure")) == {
                number: _multirange(detectors) for number, detectors in arrived.items()
            }
            assert set(connection.execute("SELECT id, name FROM visits.visit")) == {
                (int(f"20261101{group:04d}"), f"20261101{group:04d}") for group in whole
            }
            assert set(connection.execute("SELECT visit, exposure % 100000 FROM visits.visit_definition")) == {
                (int(f"20261101{group:04d}"), 1 + group * GROUP_SIZE + member)
                for group in whole
                for member in range(GROUP_SIZE)
            }
            counted = connection.execute(
                "SELECT visit, count(*) FROM visits.visit_detector_region GROUP BY visit"
            ).fetchall()
            assert sorted(counted) == [(int(f"20261101{group:04d}"), 9) for group in whole]
            assert {row[0] for row in connection.execute("SELECT group_key FROM visits.open_group")} == {
                f"20261101{group:04d}" for group in begun
            }
            letters = connection.execute('SELECT partition, "offset" FROM visits.dead_letter').fetchall()
            assert sorted(letters) == sorted(junk)
            rows = connection.execute("SELECT partition, next_offset FROM visits.consumer_offset").fetchall()
            assert dict(rows) == {p.partition: offset for p, offset in self.committed.items()}

    def _poll(self, who: int, number: int) -> Batch | None:
        replica = self.replicas[who]
        messages = [
            message
            for partition in sorted(replica.epochs)
            for message in self.log[partition][replica.read[partition] : replica.read[partition] + number]
        ]
        for message in messages:
            replica.read[message.partition] = message.offset + 1
        replica.builder.put(messages, {}, START_MS + 10**9)
        return replica.builder.take()

    def _restart(self, who: int) -> None:
        """Forget everything, and claim what the group gave us."""
        self.replicas[who].forget(PARTITIONS)
        for partition, owner in self.owner.items():
            if owner == who:
                self.replicas[who].claim(partition)

    def _epoch(self, partition: PartitionId) -> int:
        return self.replicas[self.owner[partition]].epochs[partition] if self.owner else 0


class _Replica:
    """As much of a replica as the store sees of it."""

    def __init__(self, loaded: Settings, rules: Any) -> None:
        self.database = Database(loaded.database, application_name="model")
        self.positions = Positions(self.database, consumer_group="model", owner="model")
        self.builder = BatchBuilder(Decoder(), rules, max_clock_skew_ms=60_000)
        self.epochs: dict[PartitionId, int] = {}
        self.read: dict[PartitionId, int] = {}

    def claim(self, partition: PartitionId) -> None:
        position = self.positions.claim(LogPartition("cluster", "", partition))
        if position.next_offset is None:
            position = self.positions.begin(position, 0)
        start = position.next_offset or 0
        self.builder.add_partition(
            PartitionLease(partition, position.id, position.epoch, start, position.stream_time_ms, start)
        )
        self.epochs[partition], self.read[partition] = position.epoch, start

    def forget(self, partitions: list[PartitionId]) -> None:
        self.builder.drop_partitions(partitions)
        for partition in partitions:
            self.epochs.pop(partition, None)
            self.read.pop(partition, None)

    def apply(self, batch: Batch, rules: Any, *, crash: bool = False) -> None:
        with self.database.transaction() as session:
            apply_batch(BatchTransaction(session), batch, rules)
            if crash:
                raise CrashError


def _multirange(detectors: set[int]) -> str:
    """Write a set of integers as PostgreSQL writes an int4multirange."""
    spans: list[list[int]] = []
    for each in sorted(detectors):
        if spans and spans[-1][1] == each:
            spans[-1][1] = each + 1
        else:
            spans.append([each, each + 1])
    return "{" + ",".join(f"[{low},{high})" for low, high in spans) + "}"


_MEANINGS = {
    raws_of(
        [exposure(1 + group * GROUP_SIZE + member, group=f"20261101{group:04d}", group_size=GROUP_SIZE)], [detector]
    )[0].value: (1 + group * GROUP_SIZE + member, detector)
    for group in range(N_GROUPS)
    for member in range(GROUP_SIZE)
    for detector in range(DETECTORS)
}
"""What the bytes of each event mean: the exposure's number and the detector."""


@pytest.fixture
def machine(postgres18: PostgresServer) -> type[StoreMachine]:
    class Machine(StoreMachine):
        server = postgres18

    return Machine


def test_the_store_against_the_model(machine: type[StoreMachine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=30,
            derandomize=True,
            phases=(
                Phase.explicit,
                Phase.reuse,
                Phase.generate,
            ),  # a counter-example soon; the long run shrinks its own
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_store_against_the_model_for_longer(machine: type[StoreMachine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=500, stateful_step_count=60, suppress_health_check=list(HealthCheck)),
    )
