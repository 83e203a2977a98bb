"""The loop, step by step: rebalances during a batch, fences, the breaker, ticks, shutdown; no thread, no server."""

from collections.abc import Callable

import pytest

from consumer.domain import KnownExposure
from consumer.errors import DataRefusedError, FatalError, TransientError
from consumer.events import encode
from consumer.model import ExposureIngested
from consumer.service.batch import Batch
from consumer.service.gathered import EXPOSURE_COUNTS_AS
from consumer.service.partitions import PartitionState
from tests.support.exposures import exposure
from tests.support.stepped_loop import (
    REVOCATION_WAIT_S,
    SESSION_TIMEOUT_S,
    SHUTDOWN_TIMEOUT_S,
    SteppedLoop,
    good,
    partition,
)

A, B = partition(0), partition(1)


def test_the_schema_is_checked_before_any_lease_is_asked_for() -> None:
    one = SteppedLoop()
    one.loop.assigned([A])
    one.turn(writes=False)
    assert len(one.writer_thread.calls) == 1
    one.writer_thread.run()
    assert one.prepared == ["schema"]
    assert not one.store.state.positions
    one.turn()
    assert one.stored(0) == (1, 0)


def test_what_is_read_is_written_with_its_position_and_mirrored() -> None:
    one = SteppedLoop()
    one.join(0, 1)
    one.append(0, good(1), good(2))
    one.append(1, good(3))
    one.turn(3)
    assert one.exposures() == {1, 2, 3}
    assert (one.stored(0), one.stored(1)) == ((1, 2), (1, 1))
    assert one.source.mirrored == {A: 2, B: 1}
    assert one.value("events_total", instrument="LSSTComCam", outcome="new") == 3


def whole(number: int) -> bytes:
    """Encode the event of a whole exposure that saw no sky."""
    return encode(ExposureIngested(exposure=exposure(number, can_see_sky=False)))


@pytest.mark.parametrize(("first", "then"), [(whole, good), (good, whole)])
def test_a_batch_has_fewer_events_of_whole_exposures_than_of_raws(
    first: Callable[[int], bytes], then: Callable[[int], bytes]
) -> None:
    room = 10
    one = SteppedLoop(max_messages=room * EXPOSURE_COUNTS_AS)
    one.join(0)
    one.append(0, first(100))  # how many are polled follows from what came before
    one.turn(5)
    one.append(0, *(first(number) for number in range(1, 4 * room)))
    one.turn(20)
    one.append(0, *(then(number) for number in range(101, 101 + 4 * room)))
    one.turn(20)
    assert one.exposures() == {*range(1, 4 * room), *range(100, 101 + 4 * room)}
    wholes = [[e for e in batch.events if isinstance(e.ingested, ExposureIngested)] for batch in one.given]
    raws = [len(batch.events) - len(found) for batch, found in zip(one.given, wholes, strict=True)]
    # After raws, one poll brings more than it should have: what comes next is known only then.
    assert max(map(len, wholes)) == (room if first is whole else 4 * room)
    assert max(raws) > 2 * room


def test_the_next_batch_is_gathered_while_one_is_written() -> None:
    one = SteppedLoop()
    one.join(0)
    one.append(0, good(1))
    one.turn(2, writes=False)
    one.append(0, good(2), good(3))
    one.turn(2, writes=False)
    assert len(one.writer_thread.calls) == 1
    assert one.builder.gathered.messages == 2
    assert one.exposures() == set()
    one.turn(3)
    assert one.exposures() == {1, 2, 3}


def test_a_full_batch_waits_for_the_writer_and_then_pauses() -> None:
    one = SteppedLoop(max_messages=2)
    one.join(0)
    one.append(0, *(good(number) for number in range(1, 8)))
    one.writer_thread.hangs = True
    one.turn(2, writes=False)
    assert one.builder.gathered.messages == 2
    one.turn(3, writes=False, step_s=0.6)
    assert one.source.calls[-1] == "pause"
    assert one.builder.gathered.messages == 2, "a paused partition delivers nothing"
    one.writer_thread.hangs = False
    one.turn(8)
    assert "resume" in one.source.calls
    assert one.exposures() == set(range(1, 8))


def test_a_revoked_partition_waits_for_its_batch_and_is_let_go_with_its_position_stored() -> None:
    one = SteppedLoop()
    one.join(0, 1)
    one.append(0, good(1))
    one.turn(2, writes=False)
    one.append(0, good(2))
    one.source.script.append(lambda: one.loop.revoked([A]))
    one.turn(writes=False)
    assert one.exposures() == {1}, "the batch that was being written is waited for"
    assert one.stored(0) == (1, 1)
    assert one.builder.partitions == {B}
    assert one.builder.gathered.messages == 0, "what was gathered is dropped"
    one.turn(3)
    assert one.stored(0) == (1, 1)


def test_a_revocation_waits_no_longer_than_it_may() -> None:
    one = SteppedLoop()
    one.join(0)
    one.append(0, good(1))
    one.turn(2, writes=False)
    one.writer_thread.hangs = True
    before_s = one.time.now_s
    one.loop.revoked([A])
    assert one.time.now_s - before_s == REVOCATION_WAIT_S
    assert not one.builder.partitions


def test_another_partitions_batch_does_not_hold_up_a_revocation() -> None:
    one = SteppedLoop()
    one.join(0, 1)
    one.append(0, good(1))
    one.turn(2, writes=False)
    before_s = one.time.now_s
    one.writer_thread.hangs = True
    one.loop.revoked([B])
    assert one.time.now_s == before_s
    one.turn(2)
    assert one.exposures() == {1}


def test_a_lost_partition_is_dropped_at_once_and_its_batch_is_fenced() -> None:
    one = SteppedLoop()
    one.join(0)
    one.append(0, good(1))
    one.turn(2, writes=False)
    one.fence(0)
    one.loop.lost([A])
    assert not one.builder.partitions
    one.turn(3)
    assert one.exposures() == set()
    assert one.value("fenced_total") == 1
    assert one.stored(0) == (2, 0)


def test_a_fenced_batch_leaves_the_partition_to_its_new_owner_and_asks_again_after_a_session() -> None:
    one = SteppedLoop()
    one.join(0, 1)
    one.append(0, good(1))
    one.append(1, good(2))
    one.turn(2, writes=False)
    one.fence(0)
    one.turn(4)
    partitions = one.loop._leases.partitions
    assert partitions.refused == {A: "another replica has claimed it"}
    assert one.exposures() == {2}, "the other partition goes on from its stored position"
    assert one.stored(1) == (1, 1)
    one.turn(int(SESSION_TIMEOUT_S * 10) - 10)
    assert partitions.state(A) is PartitionState.REFUSED
    one.turn(20)
    assert partitions.state(A) is PartitionState.READING
    assert one.exposures() == {1, 2}
    assert one.stored(0) == (3, 1)


def test_the_half_that_was_committed_before_a_fence_is_counted() -> None:
    one = SteppedLoop()
    one.join(0)
    one.append(0, good(1), good(2), b"bad")
    refusals = 0

    def refuses(known: KnownExposure) -> Exception | None:
        nonlocal refusals
        if known.record.id % 100_000 == 2 and refusals < 3:
            refusals += 1
            if refusals == 3:  # the first half is committed by now
                one.fence(0)
            return DataRefusedError("refused", sqlstate="22003")
        return None

    one.store.refuses = refuses
    one.turn(30)
    assert one.value("fenced_total") == 1
    assert one.value("events_total", instrument="LSSTComCam", outcome="new") == 1
    assert one.exposures() == {1}


def test_a_commit_whose_answer_was_lost_is_no_fence() -> None:
    one = SteppedLoop()
    one.join(0)
    one.append(0, good(1))
    one.store.lost_answers.append(TransientError("connection lost in the commit"))
    one.turn(4)
    assert one.exposures() == {1}
    assert one.value("fenced_total") == 0
    assert one.stored(0) == (1, 1)
    assert one.value("events_total", instrument="LSSTComCam", outcome="new") == 1


def test_a_position_that_an_operator_moved_is_noticed_at_the_end_of_the_log() -> None:
    one = SteppedLoop()
    one.join(0)
    one.append(0, good(1), good(2))
    one.turn(3)
    number = one.store.state.ids[next(iter(one.store.state.ids))]
    one.store.state.positions[number] = one.store.state.positions[number]._replace(next_offset=0)
    one.turn(60)
    assert "start 0 at 0" in one.source.calls[1:], "the lease is still ours: reading goes on from the new position"
    assert one.stored(0) == (1, 2)


def test_mostly_bad_messages_are_held_and_then_stop_the_partition_without_a_dead_letter() -> None:
    one = SteppedLoop()
    one.join(0, 1)
    one.append(0, *[b"bad"] * 5)
    one.turn(3)
    assert one.builder.gathered.messages == 5, "held: too few to judge"
    assert one.stored(0) == (1, 0)
    one.append(0, *[b"bad"] * 5)
    one.append(1, good(1))
    one.turn(10)
    partitions = one.loop._leases.partitions
    assert partitions.tripped == {A}
    assert one.store.state.dead_letters == []
    assert "circuit breaker is open: 10 of 11" in partitions.refused[A]
    assert one.exposures() == {1}, "what was dropped of the other partition is read again"
    assert one.value("breaker_open") == 1
    assert one.reporter.ready().ok is False
    # The stored breaker keeps it stopped; once an operator has reset it, it is read again.
    one.turn(200)
    assert partitions.tripped == {A}
    number = next(i for log, i in one.store.state.ids.items() if log.partition == A)
    one.store.state.positions[number] = one.store.state.positions[number]._replace(breaker=None, accept_until=10)
    one.turn(200)
    assert len(one.store.state.dead_letters) == 10
    assert one.stored(0)[1] == 10
    assert one.value("breaker_open") == 0


def test_a_few_bad_messages_become_dead_letters_after_the_hold() -> None:
    one = SteppedLoop()
    one.join(0)
    one.append(0, b"bad")
    one.turn(10)
    assert not one.store.state.dead_letters
    one.turn(20)
    assert [letter.reason for letter in one.store.state.dead_letters] == ["unknown_framing"]
    assert one.stored(0) == (1, 1)


def test_bad_messages_of_a_recreated_topic_are_not_written_under_the_former_one() -> None:
    one = SteppedLoop()
    one.join(0)
    one.append(0, good(1), b"bad")
    one.source.topic_id = "second"
    one.turn(20)
    assert one.exposures() == {1}
    (letter,) = one.store.state.dead_letters
    assert letter.message is not None
    topics = {log.topic_id: one.store.state.positions[i].next_offset for log, i in one.store.state.ids.items()}
    assert topics == {"first": 0, "second": 2}


def test_a_recreated_topic_is_leased_as_another_log() -> None:
    one = SteppedLoop()
    one.join(0)
    one.source.topic_id = "second"
    one.turn(80)
    assert {log.topic_id for log in one.store.state.ids} == {"first", "second"}
    assert one.loop._leases.partitions.state(A) is PartitionState.READING


def test_a_position_outside_the_log_is_refused_with_the_gap_and_asked_for_again() -> None:
    one = SteppedLoop()
    one.source.low = 0
    one.join(0)
    one.append(0, *(good(number) for number in range(1, 6)))
    one.source.low = 3
    one.turn(5)
    refused = one.loop._leases.partitions.refused
    assert "offsets 0 to 2 were deleted before they were read" in refused[A]
    assert one.value("lag_messages", topic="t", partition="0") == 5
    assert one.reporter.ready().reasons == (f"t[0]: {refused[A]}",)
    one.source.low = 0
    one.turn(200)
    assert one.exposures() == {1, 2, 3, 4, 5}


def test_silent_brokers_are_asked_again_after_a_second() -> None:
    one = SteppedLoop()
    one.source.silent = {A}
    one.loop.assigned([A, B])
    one.turn(4)
    assert one.loop._leases.partitions.refused == {A: "no answer"}
    assert one.builder.partitions == {B}
    one.source.silent = set()
    one.turn(15)
    assert one.builder.partitions == {A, B}


def is_tick(batch: Batch) -> bool:
    return not batch.events and not batch.dead_letters


def test_leases_come_before_ticks_and_ticks_before_batches() -> None:
    one = SteppedLoop()
    one.join(0)
    one.append(0, good(1))
    one.turn(2, writes=False)
    one.loop.assigned([B])
    number = next(iter(one.store.state.ids.values()))
    one.loop._ticks.forget(number)
    one.turn(2, writes=False)
    one.append(0, good(2))
    one.given.clear()
    one.writer_thread.run()  # the first batch; now a lease, a tick and a batch are due
    one.turn(writes=False)
    assert (one.stored(0), one.given) == ((1, 1), [])
    one.turn()
    assert one.stored(1) == (1, 0), "the lease came first"
    one.turn(20)
    assert [is_tick(batch) for batch in one.given[:2]] == [False, True], "a tick waits until nothing is gathered"
    assert one.exposures() == {1, 2}


def test_a_tick_is_written_only_where_the_brokers_confirm_the_end() -> None:
    one = SteppedLoop()
    one.join(0, 1)
    numbers = {log.partition: number for log, number in one.store.state.ids.items()}
    assert {a.partition for batch in one.given if is_tick(batch) for a in batch.offset_updates} == {A, B}
    one.given.clear()
    for number in numbers.values():
        one.loop._ticks.forget(number)
    # What the client has not delivered yet, the broker knows: the replica was cut off, or frozen.
    one.source.next_offsets.pop(A)
    one.append(0, good(1))
    one.turn(30)
    assert {a.partition for batch in one.given for a in batch.offset_updates} == {B}
    assert all(is_tick(batch) for batch in one.given)


def test_an_error_of_the_writer_that_is_final_ends_the_loop_and_leaves_the_group() -> None:
    one = SteppedLoop()
    one.join(0)
    one.append(0, good(1))
    one.store.faults.append(FatalError("a missing table"))

    def advance() -> None:
        one.time.advance(0.1)
        while one.writer_thread.calls:
            one.writer_thread.run()

    one.source.script.extend([advance] * 10)
    with pytest.raises(FatalError, match="a missing table"):
        one.loop.run()
    assert one.source.calls[-1] == "close"


def idle(one: SteppedLoop) -> None:
    one.join(0)


def before_it_is_prepared(one: SteppedLoop) -> None:
    one.loop.assigned([A])
    one.turn(writes=False)


def asking_for_a_lease(one: SteppedLoop) -> None:
    one.turn(2)
    one.loop.assigned([A])
    one.turn(writes=False)


def writing(one: SteppedLoop) -> None:
    one.join(0)
    one.append(0, good(1))
    one.turn(2, writes=False)
    assert one.writer_thread.calls


def stopped_by_the_breaker(one: SteppedLoop) -> None:
    one.join(0)
    one.append(0, *[b"bad"] * 10)
    one.turn(2, writes=False)


def paused(one: SteppedLoop) -> None:
    one.loop._poller._max_messages = 1
    one.join(0)
    one.append(0, good(1), good(2), good(3))
    one.writer_thread.hangs = True
    one.turn(5, writes=False, step_s=1.0)
    assert one.source.calls[-1] == "pause"


@pytest.mark.parametrize("hangs", [False, True], ids=["writer answers", "writer hangs"])
@pytest.mark.parametrize(
    "state", [idle, before_it_is_prepared, asking_for_a_lease, writing, stopped_by_the_breaker, paused]
)
def test_a_shutdown_leaves_the_group_in_time_in_every_state(
    state: Callable[[SteppedLoop], None], *, hangs: bool
) -> None:
    one = SteppedLoop()
    state(one)
    one.writer_thread.hangs = hangs
    before_s = one.time.now_s
    one.loop.stop()
    one.loop.shut_down()
    assert one.time.now_s - before_s <= SHUTDOWN_TIMEOUT_S
    assert one.source.calls[-1] == "close"
    assert all(executor.ended for name, executor in one.time.executors.items() if name != "leave the group")
    assert one.reporter.ready().ok is False
    assert "the process is ending" in one.reporter.ready().reasons
    assert one.store.cancelled is hangs
    if not hangs:
        assert one.store.closed
        if state is writing:
            assert one.exposures() == {1}, "the batch that was being written is finished"


def test_brokers_that_do_not_answer_do_not_hold_up_the_end() -> None:
    one = SteppedLoop()
    one.join(0)
    one.time.executors["leave the group"] = type(one.writer_thread)("leave the group", one.time.advance)
    one.time.executors["leave the group"].hangs = True
    before_s = one.time.now_s
    one.loop.shut_down()
    assert one.time.now_s - before_s <= SHUTDOWN_TIMEOUT_S
    assert "close" not in one.source.calls


def test_a_stop_while_the_database_is_away_ends_the_loop() -> None:
    one = SteppedLoop()
    one.join(0)
    one.append(0, good(1))
    one.store.faults.extend([TransientError("no connection")] * 3)
    one.time.on_wait = one.loop._writer.stop
    one.turn(3)
    assert one.loop._stopping
    assert one.exposures() == set()
