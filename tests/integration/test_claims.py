"""How partitions become readable: where a topic begins, and whose logs are asked for their ends."""

import time
from collections.abc import Iterator, Mapping

import pytest

from consumer.config import DatabaseSettings
from consumer.errors import FatalError, TransientError
from consumer.model import LogPartition, OffsetUpdate, PartitionId
from consumer.postgres.batch_tables import BatchStore, BatchTransaction
from consumer.postgres.connection import Database
from consumer.postgres.offsets import Positions
from consumer.read.status import read_positions
from consumer.service.batch import Batch
from consumer.service.leases import PartitionLease, Refusal, acquire_leases
from consumer.service.log_watch import EndWatch
from consumer.service.runtime import SYSTEM
from tests.support.postgres import PostgresServer
from tests.support.service import prepare_database
from tests.support.waiting import give_up_at

TOPIC = "raw-ingested"


class Logs:
    """A topic, as the brokers tell of it."""

    def __init__(self, ends: Mapping[int, int], topic_id: str = "first", silent: frozenset[int] = frozenset()) -> None:
        self.found = dict(ends)
        self.topic_id = topic_id
        self.silent = silent
        self.asked: list[int] = []

    def identify(self, topic: str) -> tuple[str, str]:
        assert topic == TOPIC
        return "cluster", self.topic_id

    def divergence(self, partition: PartitionId, leader_epoch: int, offset: int) -> int | None:
        """Answer that nothing was replaced."""
        del partition, leader_epoch, offset
        return None

    def watermarks(self, partition: PartitionId) -> tuple[int, int]:
        self.asked.append(partition.partition)
        if partition.partition in self.silent:
            raise TransientError("no answer")
        return 0, self.found[partition.partition]

    def ends(self, topic: str) -> dict[int, int]:
        assert topic == TOPIC
        return dict(self.found)


@pytest.fixture
def database(postgres18: PostgresServer) -> Iterator[Database]:
    """Return a session on tables that are empty."""
    with (
        postgres18.database(prepare_database) as dsn,
        Database(DatabaseSettings(conninfo=dsn)) as database,  # type: ignore[arg-type] # pydantic makes it a secret
    ):
        yield database


@pytest.fixture
def store(database: Database) -> Positions:
    """Return the stored positions, of which there are none yet."""
    return Positions(database, consumer_group="visit-consumer", owner="test")


def starts(logs: Logs, store: Positions, *numbers: int, at_end: bool = True) -> list[int]:
    """Claim partitions, and tell where each is read from."""
    claimed = acquire_leases(logs, store, [PartitionId(TOPIC, each) for each in numbers], start_at_end=at_end)
    assert all(isinstance(each, PartitionLease) for each in claimed)
    return [each.start for each in claimed if isinstance(each, PartitionLease)]


def test_only_a_topic_that_was_never_read_begins_at_its_end(store: Positions) -> None:
    assert starts(Logs({0: 10, 1: 20}), store, 0) == [10]
    # What another replica claims a little later begins where the topic ended for the first.
    assert starts(Logs({0: 11, 1: 25}), store, 1) == [20]
    # Nobody decided to skip what is written to a partition that is added, or to a topic that is made anew.
    assert starts(Logs({0: 11, 1: 25, 2: 7}), store, 0, 2) == [10, 0]
    assert starts(Logs({0: 5, 1: 5, 2: 5}, topic_id="second"), store, 0, 1, 2) == [0, 0, 0]


def test_a_topic_begins_at_its_start_where_nothing_else_is_said(store: Positions) -> None:
    assert starts(Logs({0: 10, 1: 20}), store, 0, 1, at_end=False) == [0, 0]


def test_a_partition_that_went_away_while_the_brokers_were_asked_is_not_claimed(
    database: Database, store: Positions
) -> None:
    logs = Logs({0: 10})
    partition = PartitionId(TOPIC, 0)
    claimed = acquire_leases(logs, store, [partition], start_at_end=False, wanted=lambda _: not logs.asked)
    assert (claimed, logs.asked, read_positions(database)) == ([], [0], [])


class LostTail(Logs):
    """A log whose last messages before the stored position are others by now."""

    def divergence(self, partition: PartitionId, leader_epoch: int, offset: int) -> int | None:
        """Answer where the other messages begin."""
        del partition, leader_epoch
        return offset - 2


@pytest.mark.parametrize("offset", [7, 8])
def test_what_an_operator_sets_is_read_also_where_the_messages_before_it_are_others(
    database: Database, store: Positions, offset: int
) -> None:
    partition, logs = PartitionId(TOPIC, 0), LostTail({0: 10})
    log = LogPartition("cluster", "first", partition)
    position = store.begin(store.claim(log), 5)
    with BatchStore(database).transaction() as tables:
        tables.advance([OffsetUpdate(partition, position.id, position.epoch, 5, 7, 1, leader_epoch=3)])
    (refused,) = acquire_leases(logs, store, [partition], start_at_end=False)
    assert isinstance(refused, Refusal)
    assert "offsets 5 to 6 of" in refused.detail
    assert "'positions set'" in refused.detail
    store.set(log, offset)
    (lease,) = acquire_leases(logs, store, [partition], start_at_end=False)
    assert isinstance(lease, PartitionLease), lease
    assert (lease.start, lease.leader_epoch) == (offset, None)


def test_a_session_that_stands_in_another_schema_writes_nothing(database: Database, store: Positions) -> None:
    """As behind a pooler that ignores what a session was set to."""
    partition = PartitionId(TOPIC, 0)
    position = store.begin(store.claim(LogPartition("cluster", "first", partition)), 5)
    update = OffsetUpdate(partition, position.id, position.epoch, 5, 7, 1)

    def write() -> None:
        with database.transaction() as session:
            # The tables are still found, as they would be in the other service's schema.
            session.script("SET LOCAL search_path TO public, visits, pg_catalog")
            BatchTransaction(session).advance([update])

    with pytest.raises(FatalError, match="schema 'public', not in 'visits'"):
        write()


def _answer(watch: EndWatch, tick: Batch) -> set[int]:
    watch.ask(tick)
    deadline = give_up_at(10)
    while watch.asking:
        answer = watch.answer()
        if answer is not None:
            return {each.offset_id for each in answer.offset_updates}
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return set()


def test_brokers_that_do_not_answer_keep_no_other_log_from_being_asked() -> None:
    offset_updates = tuple(OffsetUpdate(PartitionId(TOPIC, n), n, 1, 10, 10, 0) for n in range(6))
    tick = Batch(offset_updates=offset_updates, stream_times_ms=dict.fromkeys(range(6), 1))
    logs = Logs(dict.fromkeys(range(6), 10) | {5: 11}, silent=frozenset({0, 1}))
    watch = EndWatch(logs, SYSTEM)
    try:
        assert _answer(watch, tick) == set()
        assert logs.asked == [0, 1]
        assert _answer(watch, tick) == {2, 3, 4}
        logs.silent = frozenset()
        assert _answer(watch, tick) == {0, 1, 2, 3, 4}
    finally:
        watch.end()


@pytest.mark.parametrize("gone", [0, 3])
def test_one_silent_broker_costs_its_own_partitions_alone(gone: int) -> None:
    offset_updates = tuple(OffsetUpdate(PartitionId(TOPIC, n), n, 1, 10, 10, 0) for n in range(4))
    watch = EndWatch(Logs(dict.fromkeys(range(4), 10), silent=frozenset({gone})), SYSTEM)
    try:
        assert _answer(watch, Batch(offset_updates=offset_updates, stream_times_ms=dict.fromkeys(range(4), 1))) == set(
            range(4)
        ) - {gone}
    finally:
        watch.end()


def test_a_lease_counts_how_often_the_position_hardly_moved(database: Database, store: Positions) -> None:
    """The third lease reads carefully, where there is something to read, until the position has really moved."""
    where, end, to_try = PartitionId(TOPIC, 0), 10_000, []
    position = 0
    for step in (0, 0, 1, 999, 0, 1_001, 1, 0, 600, 600, 0, 0):
        (lease,) = acquire_leases(Logs({0: end}), store, [where], start_at_end=False)
        assert isinstance(lease, PartitionLease)
        to_try.append(lease.trial_until)
        if step:
            moved = OffsetUpdate(where, lease.offset_id, lease.epoch, position, position + step, 1)
            with database.transaction() as session:
                BatchTransaction(session).advance([moved])
            position += step
    assert to_try == [0, 0, 2_000, 2_001, 3_000, 3_000, 0, 0, 4_002, 4_602, 0, 0]
    for last, expected in ((position, position), (position + 5, position + 5), (end, position + 2_000)):
        (lease,) = acquire_leases(Logs({0: last}), store, [where], start_at_end=False)
        assert isinstance(lease, PartitionLease)
        assert lease.trial_until == expected
