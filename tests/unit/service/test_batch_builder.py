"""From polled messages to batches: positions, clocks, ends of logs, halves of a refused batch."""

from collections.abc import Mapping

import pytest

from consumer.errors import DeadLetterReason, TransientError
from consumer.events import Decoder, encode, encode_confluent
from consumer.model import Message, PartitionId, RawIngested
from consumer.service.batch import Batch, bisect
from consumer.service.batch_builder import BatchBuilder
from consumer.service.leases import PartitionLease
from tests.support.exposures import exposure
from tests.support.nights import rules_of

A, B = PartitionId("t", 0), PartitionId("t", 1)
NOW_MS = 1_000_000
SKEW_MS = 60_000
RULES = rules_of(
    {
        "instrument": "LSSTComCam",
        "camera": "lsstcomcam",
        "group_exposures": "one-to-one",
        "group_id": "lsst",
        "padding": 0,
        "merge_exposures": False,
    }
)


class Registry:
    """A schema registry that can be away."""

    def __init__(self) -> None:
        self.away = True

    def fetch(self, schema_id: int) -> str:
        if self.away:
            raise TransientError("no answer")
        raise LookupError(schema_id)


def a_builder(registry: Registry | None = None, *partitions: PartitionId, at: int | None = 0) -> BatchBuilder:
    builder = BatchBuilder(Decoder(registry=registry), RULES, max_clock_skew_ms=SKEW_MS)
    for partition in partitions or (A, B):
        builder.add_partition(PartitionLease(partition, 10 + partition.partition, 1, at, 0, at or 0))
    return builder


def message(offset: int, at_ms: int = 5, *, partition: PartitionId = A, value: bytes | None = None) -> Message:
    raw = RawIngested(exposure=exposure(offset + 1), detector=0)
    return Message(partition, offset, at_ms, None, encode(raw) if value is None else value)


def moved(batch: Batch | None) -> dict[PartitionId, tuple[int | None, int | None, int]]:
    assert batch is not None
    return {a.partition: (a.expected, a.next_offset, a.stream_time_ms) for a in batch.offset_updates}


def test_a_batch_moves_the_partitions_that_brought_something_and_no_other() -> None:
    builder = a_builder()
    builder.put([message(0, 5), message(1, 7)], {}, NOW_MS)
    batch = builder.take()
    assert moved(batch) == {A: (0, 2, 7)}
    assert batch is not None
    assert [(e.message.offset, e.offset_id, e.stream_time_ms) for e in batch.events] == [(0, 10, 5), (1, 10, 7)]
    assert batch.stream_times_ms == {10: 7}
    assert builder.take() is None
    builder.put([message(2, 6)], {}, NOW_MS)
    assert moved(builder.take()) == {A: (2, 3, 7)}


def test_the_clock_never_goes_back_and_each_partition_has_its_own() -> None:
    builder = a_builder()
    builder.put([message(0, 500), message(0, 9, partition=B), message(1, 100)], {}, NOW_MS)
    batch = builder.take()
    assert batch is not None
    assert [(e.offset_id, e.stream_time_ms) for e in batch.events] == [(10, 500), (11, 9), (10, 500)]
    assert batch.stream_times_ms == {10: 500, 11: 9}


def test_a_message_from_the_future_is_clamped_and_counted() -> None:
    builder = a_builder()
    builder.put([message(0, NOW_MS + SKEW_MS), message(1, NOW_MS + SKEW_MS + 1), message(2, 2**62)], {}, NOW_MS)
    assert moved(builder.take()) == {A: (0, 3, NOW_MS + SKEW_MS)}
    assert builder.take_clamped() == 2
    assert builder.take_clamped() == 0


def test_messages_that_are_clamped_count_each() -> None:
    builder = a_builder()
    builder.put([message(0, 2**62)], {}, NOW_MS)
    builder.put([message(1, 2**62)], {}, NOW_MS + 1)
    assert builder.take_clamped() == 2


def test_the_wall_clock_counts_at_the_end_of_a_log_only() -> None:
    builder = a_builder()
    assert builder.tick(NOW_MS) is None
    builder.put([message(0, 5)], {A: 1}, NOW_MS)
    assert builder.tick(NOW_MS) is None, "what was gathered comes first"
    builder.take()
    tick = builder.tick(NOW_MS)
    assert tick is not None
    assert tick.stream_times_ms == {10: NOW_MS}
    assert moved(tick) == {A: (1, 1, 5)}, "the stored stream time is that of the messages"
    builder.put([message(1, 6)], {}, NOW_MS)
    builder.take()
    assert builder.tick(NOW_MS) is None, "more was read, and the end is not known"


def test_a_tick_never_takes_a_clock_back() -> None:
    builder = a_builder()
    builder.put([message(0, NOW_MS + 100)], {A: 1}, NOW_MS)
    builder.take()
    tick = builder.tick(NOW_MS)
    assert tick is not None
    assert tick.stream_times_ms == {10: NOW_MS + 100}


def test_a_busy_partition_does_not_keep_the_clock_of_an_idle_one() -> None:
    builder = a_builder()
    builder.put([], {B: 0}, NOW_MS)
    builder.put([message(0)], {}, NOW_MS)
    tick = builder.tick(NOW_MS)
    assert tick is not None
    assert tick.stream_times_ms == {11: NOW_MS}
    assert [e.message.offset for e in builder.take().events] == [0]  # type: ignore[union-attr] # a batch was gathered


def test_the_end_of_a_partition_passes_transaction_markers() -> None:
    builder = a_builder()
    builder.put([message(0)], {A: 3}, NOW_MS)
    assert moved(builder.take()) == {A: (0, 3, 5)}
    builder.put([], {A: 3}, NOW_MS)
    assert builder.take() is None


def test_a_registry_that_is_away_holds_its_partition_and_forgets_no_end() -> None:
    registry = Registry()
    builder = a_builder(registry)
    waiting = message(0, value=encode_confluent(RawIngested(exposure=exposure(1), detector=0), 7))
    with pytest.raises(TransientError):
        builder.put([message(0, partition=B), waiting], {A: 1, B: 1}, NOW_MS)
    assert moved(builder.take()) == {B: (0, 1, 5)}
    assert builder.tick(NOW_MS) is None or A not in moved(builder.tick(NOW_MS))
    registry.away = False
    builder.put([], {}, NOW_MS)
    batch = builder.take()
    assert batch is not None
    assert moved(batch)[A] == (0, 1, 5)
    assert [letter.reason for letter in batch.dead_letters] == [DeadLetterReason.UNKNOWN_SCHEMA_ID]
    tick = builder.tick(NOW_MS)
    assert tick is not None
    assert set(tick.stream_times_ms) == {10, 11}


def test_only_the_partition_that_needs_the_registry_waits_and_keeps_its_order() -> None:
    registry = Registry()
    builder = a_builder(registry)
    framed = encode_confluent(RawIngested(exposure=exposure(1), detector=0), 7)
    log = [message(0, value=framed), message(0, partition=B), message(1), message(1, partition=B)]
    for polled in (log, []):
        with pytest.raises(TransientError):
            builder.put(polled, {}, NOW_MS)
    assert builder.stalled == {A}
    assert moved(builder.take()) == {B: (0, 2, 5)}
    registry.away = False
    builder.put([message(2)], {}, NOW_MS)
    assert not builder.stalled
    batch = builder.take()
    assert moved(batch) == {A: (0, 3, 5)}
    assert batch is not None
    assert [letter.reason for letter in batch.dead_letters] == [DeadLetterReason.UNKNOWN_SCHEMA_ID]
    assert [event.message.offset for event in batch.events] == [1, 2]


def test_what_is_no_event_is_a_dead_letter_and_moves_the_position() -> None:
    builder = a_builder()
    other = encode(RawIngested(exposure=exposure(1, instrument="Elsewhere"), detector=0))
    builder.put([message(0, value=b"junk"), message(1, value=other)], {}, NOW_MS)
    batch = builder.take()
    assert moved(batch) == {A: (0, 2, 5)}
    assert batch is not None
    assert [x.reason for x in batch.dead_letters] == [
        DeadLetterReason.UNKNOWN_FRAMING,
        DeadLetterReason.UNKNOWN_INSTRUMENT,
    ]


def test_messages_below_the_position_and_of_partitions_that_are_not_ours_are_dropped() -> None:
    builder = a_builder(None, A, at=2)
    builder.put([message(1), message(2), message(0, partition=B)], {B: 1}, NOW_MS)
    batch = builder.take()
    assert moved(batch) == {A: (2, 3, 5)}
    assert batch is not None
    assert [e.message.offset for e in batch.events] == [2]


def test_a_partition_that_goes_takes_what_was_gathered_with_it() -> None:
    builder = a_builder()
    builder.put([message(0), message(0, partition=B), message(1, value=b"junk")], {}, NOW_MS)
    assert [claim.partition for claim in builder.drop_partitions([A])] == [A]
    batch = builder.take()
    assert moved(batch) == {B: (0, 1, 5)}
    assert batch is not None
    assert (len(batch.events), batch.dead_letters) == (1, ())


def whole(batches: tuple[Batch, ...]) -> Mapping[PartitionId, list[tuple[int | None, int | None]]]:
    steps: dict[PartitionId, list[tuple[int | None, int | None]]] = {}
    for batch in batches:
        for each in batch.offset_updates:
            steps.setdefault(each.partition, []).append((each.expected, each.next_offset))
    return steps


def test_the_halves_of_a_batch_follow_each_other() -> None:
    builder = a_builder()
    builder.put(
        [
            message(0, 10),
            message(1, 20, value=b"junk"),
            message(0, 30, partition=B),
            message(2, 40),
            message(3, 50, value=b"junk"),
            message(1, 60, partition=B),
        ],
        {A: 5},
        NOW_MS,
    )
    batch = builder.take()
    assert batch is not None
    first, second = bisect(batch)
    assert whole((first, second)) == {A: [(0, 2), (2, 5)], B: [(0, 1), (1, 2)]}
    assert [e.message.timestamp_ms for e in first.events + second.events] == [10, 30, 40, 60]
    assert [len(half.events) for half in (first, second)] == [2, 2]
    assert [[x.message.offset for x in half.dead_letters if x.message] for half in (first, second)] == [[1], [3]]
    assert first.stream_times_ms == {10: 10, 11: 30}
    assert second.stream_times_ms == batch.stream_times_ms


def test_the_first_half_does_not_move_a_partition_that_begins_in_the_second() -> None:
    builder = a_builder(at=None)
    builder.put([message(0), message(0, partition=B)], {}, NOW_MS)
    batch = builder.take()
    assert batch is not None
    first, second = bisect(batch)
    assert whole((first,)) == {A: [(None, 1)], B: [(None, 0)]}
    assert whole((second,)) == {A: [(1, 1)], B: [(0, 1)]}
    assert first.stream_times_ms[11] == 0


def test_keys_count_as_values_do_until_they_are_taken() -> None:
    builder = a_builder()
    good = message(0)._replace(key=b"k" * 1000)
    bad = Message(A, 1, 5, b"k" * 50, None)
    other = Message(B, 0, 5, None, b"junk")
    assert good.value is not None
    builder.put([good, bad, other], {}, NOW_MS)
    assert builder.bytes == 1000 + len(good.value) + 50 + 4
    builder.drop_partitions([B])
    assert builder.bytes == 1000 + len(good.value) + 50
    builder.take()
    assert builder.bytes == 0


def test_a_partition_whose_messages_wait_for_the_registry_has_no_part_in_a_tick() -> None:
    builder = a_builder(Registry())
    builder.put([], {A: 0, B: 0}, NOW_MS)
    with pytest.raises(TransientError):
        builder.put([message(0, value=encode_confluent(RawIngested(exposure=exposure(1), detector=0), 7))], {}, NOW_MS)
    tick = builder.tick(NOW_MS)
    assert tick is not None
    assert set(tick.stream_times_ms) == {11}


def test_the_first_half_ends_before_the_first_event_of_the_second() -> None:
    builder = a_builder()
    log = [message(0, partition=B), message(1, partition=B), message(0), message(1), message(2), message(3)]
    builder.put(log, {}, NOW_MS)
    batch = builder.take()
    assert batch is not None
    first, second = bisect(batch)
    assert [(e.message.partition, e.message.offset) for e in first.events] == [(B, 0), (B, 1), (A, 0)]
    assert {p: (before, after) for p, (before, after, _) in moved(first).items()} == {A: (0, 1), B: (0, 2)}
    assert {p: (before, after) for p, (before, after, _) in moved(second).items()} == {A: (1, 4), B: (2, 2)}


def test_bad_messages_that_an_operator_accepted_do_not_count_for_the_breaker() -> None:
    builder = BatchBuilder(Decoder(), RULES, max_clock_skew_ms=SKEW_MS)
    builder.add_partition(PartitionLease(A, 10, 1, 0, 0, 0, accept_until=2))
    builder.put([message(number, value=b"bad") for number in range(4)], {}, NOW_MS)
    assert builder.gathered.messages == 4
    assert [letter.message.offset for letter in builder.unaccepted if letter.message is not None] == [2, 3]
