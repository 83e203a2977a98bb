"""Leases without servers: where reading starts, what is refused, and what a fenced replica learns from the rows."""

from dataclasses import dataclass, field

import pytest

from consumer.errors import TransientError
from consumer.model import LogPartition, OffsetUpdate, PartitionId, StoredPosition
from consumer.service.leases import (
    PartitionLease,
    Refusal,
    acquire_leases,
    check_leases,
    may_follow_another_log,
    recreated_logs,
    replaced_logs,
)
from tests.support.stepped import MemoryStore, ScriptedSource
from tests.support.stepped_loop import good, partition

A, B = partition(0), partition(1)


@dataclass(slots=True)
class Growing(ScriptedSource):
    """Gets one more message in A between two questions where it ends."""

    asked: list[PartitionId] = field(default_factory=list)

    def watermarks(self, which: PartitionId) -> tuple[int, int]:
        if self.asked == [A] and which == A:
            self.logs[A].append(self.logs[A][0])
        self.asked.append(which)
        return ScriptedSource.watermarks(self, which)


class Silent(ScriptedSource):
    """Its brokers say nothing of topics."""

    def identify(self, topic: str) -> tuple[str, str]:
        raise TransientError(f"no answer about {topic}")


def logs(length: int = 5, low: int = 0) -> ScriptedSource:
    messages = [good(1)] * length
    return ScriptedSource({A: list(messages), B: list(messages)}, low=low)  # type: ignore[arg-type] # only their number counts


def acquire(source: ScriptedSource, store: MemoryStore, **how: bool) -> dict[object, PartitionLease | Refusal]:
    outcome = acquire_leases(source, store, [B, A], start_at_end=how.get("at_end", False))
    return {each.partition: each for each in outcome}


@pytest.mark.parametrize(("at_end", "start"), [(False, 2), (True, 5)])
def test_a_topic_that_was_never_read_begins_where_it_is_told_to(start: int, *, at_end: bool) -> None:
    store = MemoryStore()
    leased = acquire(logs(low=2), store, at_end=at_end)
    assert [leased[each].start for each in (A, B) if isinstance(leased[each], PartitionLease)] == [start, start]  # type: ignore[union-attr] # asked just before
    assert {p.epoch for p in store.state.positions.values()} == {1}


def test_each_lease_raises_the_epoch_and_goes_on_from_the_stored_position() -> None:
    source, store = logs(), MemoryStore()
    acquire(source, store)
    number = store.state.ids[LogPartition("cluster", "first", A)]
    store.state.positions[number] = store.state.positions[number]._replace(
        next_offset=3, stream_time_ms=77, accept_until=4
    )
    assert acquire(source, store)[A] == PartitionLease(A, number, 2, 3, 77, 3, 4, ("cluster", "first"))


class Replaced(ScriptedSource):
    """Its last two messages were written by a leader that was elected without them."""

    def divergence(self, partition: PartitionId, leader_epoch: int, offset: int) -> int | None:
        assert (leader_epoch, offset) == (7, 5)
        return 3 if partition == A else None


@pytest.mark.parametrize("known", [True, False])
def test_a_log_that_has_grown_past_the_position_after_it_lost_its_tail_waits_for_an_operator(*, known: bool) -> None:
    source, store = Replaced(logs().logs), MemoryStore()
    acquire(source, store)
    for number, each in store.state.positions.items():
        store.state.positions[number] = each._replace(next_offset=5, leader_epoch=7 if known else None)
    again = acquire(source, store)
    assert isinstance(again[B], PartitionLease)
    if known:
        refusal = again[A]
        assert isinstance(refusal, Refusal)
        assert refusal.lasting
        assert (refusal.position, refusal.end) == (5, 5)
        assert "offsets 3 to 4 of" in refusal.detail
        assert "elected after epoch 7" in refusal.detail
    else:
        assert isinstance(again[A], PartitionLease), "a release that did not store the epoch has moved the position"


@pytest.mark.parametrize(("stored", "low", "words"), [(1, 2, "offsets 1 to 1 were deleted"), (9, 0, "ends before it")])
def test_a_position_outside_the_log_waits_for_an_operator(stored: int, low: int, words: str) -> None:
    source, store = logs(), MemoryStore()
    acquire(source, store)
    for number, each in store.state.positions.items():
        store.state.positions[number] = each._replace(next_offset=stored)
    source.low = low
    refused = acquire(source, store)[A]
    assert isinstance(refused, Refusal)
    assert (refused.lasting, refused.breaker, refused.position, refused.end) == (True, False, stored, 5)
    assert words in refused.detail


def test_an_end_that_moved_since_it_was_asked_for_is_asked_for_again() -> None:
    source, store = logs(), MemoryStore()
    acquire(source, store)
    number = store.state.ids[LogPartition("cluster", "first", A)]
    store.state.positions[number] = store.state.positions[number]._replace(next_offset=6)
    growing = Growing(source.logs)
    assert isinstance(acquire(growing, store)[A], PartitionLease)
    assert growing.asked == [A, A, B]


def test_an_open_breaker_refuses_the_partition() -> None:
    source, store = logs(), MemoryStore()
    acquire(source, store)
    store.trip(dict.fromkeys(store.state.positions, 1), "all bad")
    refused = acquire(source, store)[A]
    assert isinstance(refused, Refusal)
    assert (refused.breaker, refused.detail) == (True, "all bad")


def test_a_partition_that_was_revoked_while_the_brokers_were_asked_is_not_fenced() -> None:
    source, store = logs(), MemoryStore()
    asked: list[object] = []

    def wanted(which: object) -> bool:
        asked.append(which)
        return asked.count(which) == 1

    assert acquire_leases(source, store, [A], start_at_end=False, wanted=wanted) == []
    assert asked == [A, A]
    assert not store.state.positions


def test_silent_brokers_are_no_reason_to_decide() -> None:
    source, store = logs(), MemoryStore()
    source.silent = {A}
    outcome = acquire(source, store)
    assert outcome[A] == Refusal(A, "no answer", lasting=False)
    assert isinstance(outcome[B], PartitionLease)


def test_leases_at_our_epoch_go_on_and_others_are_lost() -> None:
    mine, theirs, gone, unread = (PartitionLease(partition(n), n, 4, 10, 5, 10) for n in range(4))
    stored = {
        0: StoredPosition(0, 4, 12, 99, leader_epoch=4),
        1: StoredPosition(1, 5, 10, 5),
        3: StoredPosition(3, 4, None, 0),
    }
    checked = check_leases(logs(20), [mine, theirs, gone, unread], stored)
    assert checked.renewed == [mine._replace(next_offset=12, start=12, stream_time_ms=99, leader_epoch=4)]
    assert checked.lost == [partition(1), partition(2), partition(3)]
    assert checked.doubtful == []


class Unanswered(ScriptedSource):
    """Its brokers do not say what was written by whom."""

    def divergence(self, partition: PartitionId, leader_epoch: int, offset: int) -> int | None:
        raise TransientError(f"no answer about {partition}, {leader_epoch}, {offset}")


def test_a_lease_at_our_epoch_does_not_go_on_behind_messages_that_were_replaced() -> None:
    """An answer was lost, and meanwhile a leader was elected without the messages: the log is looked at again."""
    held = [PartitionLease(each, each.partition, 4, 5, 5, 5) for each in (A, B)]
    stored = {each.offset_id: StoredPosition(each.offset_id, 4, 5, 99, leader_epoch=7) for each in held}
    checked = check_leases(Replaced(logs().logs), held, stored)
    assert ([each.partition for each in checked.renewed], checked.doubtful) == ([B], [A])
    assert check_leases(Unanswered(logs().logs), held, stored).doubtful == [A, B]
    assert check_leases(logs(4), held, stored).doubtful == [A, B], (
        "the log lost its tail, and has not grown past it yet"
    )
    unknown = {number: each._replace(leader_epoch=None) for number, each in stored.items()}
    assert len(check_leases(Replaced(logs().logs), held, unknown).renewed) == 2


def test_the_first_messages_after_a_lease_are_asked_about_where_a_later_leader_wrote_them() -> None:
    """A leader was elected after the lease had asked, and before the first fetch: it may lack what was read."""
    lease = PartitionLease(A, 1, 4, 5, 0, 5, leader_epoch=7)
    update = OffsetUpdate(A, 1, 4, 5, 6, 0, leader_epoch=8)
    assert may_follow_another_log(lease, update)
    assert not may_follow_another_log(lease, update._replace(leader_epoch=7)), "the same leader has the same log"
    assert not may_follow_another_log(lease, update._replace(expected=6)), "not the first: the client compares"
    assert not may_follow_another_log(lease, update._replace(leader_epoch=None))
    assert not may_follow_another_log(lease._replace(leader_epoch=None), update)

    assert replaced_logs(Replaced(logs().logs), [lease, lease._replace(partition=B)]) == [A]
    assert replaced_logs(Unanswered(logs().logs), [lease]) == [A], "no answer: leased again, which asks again"


def test_topics_of_silent_brokers_are_not_taken_for_recreated_ones() -> None:
    source = logs()
    lease = PartitionLease(A, 1, 1, 0, 0, 0, 0, ("cluster", "first"))
    assert recreated_logs(source, [lease]) == []
    source.topic_id = "second"
    assert recreated_logs(source, [lease]) == [A]

    assert recreated_logs(Silent({}), [lease]) == []
