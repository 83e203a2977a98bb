"""The buffer of open groups: changes and clocks in, closings out; nothing is stored."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import pytest

from consumer.domain import open_groups
from consumer.domain.closing import ClosingPolicy, OpenGroup
from consumer.domain.open_groups import ExposureChange, Member, OpenGroups
from consumer.grouping import ByGroupMetadata, GroupingRule, OneToOne
from consumer.model import CloseReason, Exposure, GroupKey
from tests.support.exposures import exposure

GRACE_MS, IDLE_MS, AGE_MS = 10_000, 120_000, 3_600_000
INSTRUMENT = "LSSTComCam"


@dataclass(frozen=True)
class Rules:
    rule: GroupingRule = field(default_factory=ByGroupMetadata)
    closing: ClosingPolicy = field(default_factory=ClosingPolicy)

    @property
    def buffers(self) -> bool:
        return self.rule.buffers

    def complete(self, members: Iterable[Member]) -> bool:
        return self.rule.complete([m.exposure for m in members if m.arrived]) is True


def a_buffer(rule: GroupingRule | None = None) -> OpenGroups:
    return OpenGroups({INSTRUMENT: Rules(rule or ByGroupMetadata())}, (), {})


def change(
    one: Exposure,
    at_ms: int,
    *,
    offset_id: int = 1,
    former: str | None = None,
    arrived: bool = True,
    known: bool = False,
) -> ExposureChange:
    former_key = GroupKey(one.instrument, former) if former else GroupKey(one.instrument, one.group) if known else None
    return ExposureChange(offset_id, at_ms, Member(one, arrived), GroupKey(one.instrument, one.group), former_key)


def read(buffer: OpenGroups, *changes: ExposureChange) -> None:
    for each in changes:
        buffer.advance(each.offset_id, each.stream_time_ms)
        buffer.apply(each)


def closed(buffer: OpenGroups) -> list[tuple[str, CloseReason, tuple[int, ...]]]:
    return [(c.group.key.key, c.reason, tuple(e.seq_num or 0 for e in c.group.exposures)) for c in buffer.closings]


def test_a_group_of_known_size_closes_with_its_last_exposure() -> None:
    buffer = a_buffer()
    read(buffer, change(exposure(2, group="g", group_size=2), 0))
    assert closed(buffer) == []
    read(buffer, change(exposure(1, group="g", group_size=2), 5))
    assert closed(buffer) == [("g", CloseReason.COMPLETE, (1, 2))]
    assert buffer.groups == {}


def test_a_rule_without_buffer_closes_each_change() -> None:
    buffer = a_buffer(OneToOne())
    one = exposure(1)
    buffer.apply(ExposureChange(1, 7, Member(one, arrived=True), GroupKey(INSTRUMENT, str(one.id)), None))
    assert closed(buffer) == [(str(one.id), CloseReason.COMPLETE, (1,))]
    assert buffer.closings[0].last_ms == 7


def test_the_next_group_closes_the_one_before_after_the_grace() -> None:
    buffer = a_buffer()
    read(buffer, change(exposure(1, group="a"), 0), change(exposure(2, group="b"), 1_000))
    buffer.advance(1, 1_000 + GRACE_MS - 1)
    assert closed(buffer) == []
    buffer.advance(1, 1_000 + GRACE_MS)
    assert closed(buffer) == [("a", CloseReason.NEXT_GROUP, (1,))]


def test_a_snap_within_the_grace_belongs_to_the_group() -> None:
    buffer = a_buffer()
    read(
        buffer,
        change(exposure(1, group="a"), 0),
        change(exposure(3, group="b"), 1_000),
        change(exposure(2, group="a"), 1_000 + GRACE_MS - 1),
    )
    buffer.advance(1, 1_000 + GRACE_MS)
    assert closed(buffer) == [("a", CloseReason.NEXT_GROUP, (1, 2))]


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (exposure(1, group="b"), "an earlier begin"),
        (exposure(2, group="b"), "the same begin"),
        (exposure(3, group="b", timespan_begin=None, timespan_end=None), "an unknown begin"),
        (exposure(3, group="a"), "the same group"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_next_group(other: Exposure, why: str) -> None:
    buffer = a_buffer()
    read(buffer, change(exposure(2, group="a"), 0), change(other, 1_000))
    buffer.advance(1, 1_000 + GRACE_MS)
    assert closed(buffer) == [], why


def test_the_next_group_of_another_instrument_or_partition_closes_nothing() -> None:
    rules = {INSTRUMENT: Rules(), "LATISS": Rules()}
    buffer = OpenGroups(rules, (), {})
    read(
        buffer,
        change(exposure(1, group="a"), 0),
        change(exposure(2, group="b", instrument="LATISS"), 1_000),
        change(exposure(3, group="c"), 1_000, offset_id=2),
    )
    buffer.advance(1, 1_000 + GRACE_MS)
    buffer.advance(2, 1_000 + GRACE_MS)
    assert closed(buffer) == []


def test_a_group_closes_when_nothing_arrives_any_more() -> None:
    buffer = a_buffer()
    read(buffer, change(exposure(1, group="a"), 0), change(exposure(2, group="a"), 100_000))
    buffer.advance(1, 100_000 + IDLE_MS - 1)
    assert closed(buffer) == []
    buffer.advance(1, 100_000 + IDLE_MS)
    assert closed(buffer) == [("a", CloseReason.IDLE, (1, 2))]


def test_a_group_closes_at_its_age_whatever_arrives() -> None:
    buffer = a_buffer()
    step = IDLE_MS - 1
    for number in range(1, AGE_MS // step + 3):
        read(buffer, change(exposure(number, group="a"), number * step))
    assert [(key, reason) for key, reason, _ in closed(buffer)] == [("a", CloseReason.AGE)]
    assert len(buffer.groups) == 1, "the exposure after that opened it again"


def test_groups_close_in_order_of_their_deadlines_before_the_message_that_came_later() -> None:
    buffer = a_buffer()
    read(
        buffer,
        change(exposure(9, group="late"), 50),
        change(exposure(1, group="early"), 60),
        change(exposure(9, group="late", target_name="x"), 70, known=True),
        change(exposure(20, group="new"), 10 * IDLE_MS),
    )
    # 'early' has an earlier begin than 'late', which was touched after it
    assert [(key, reason) for key, reason, _ in closed(buffer)] == [
        ("early", CloseReason.NEXT_GROUP),
        ("late", CloseReason.IDLE),
    ]
    assert set(buffer.groups) == {GroupKey(INSTRUMENT, "new")}


def test_a_late_exposure_opens_its_group_again_and_is_counted() -> None:
    buffer = a_buffer()
    read(buffer, change(exposure(1, group="a"), 0), change(exposure(2, group="a"), IDLE_MS + 5))
    buffer.advance(1, 2 * IDLE_MS + 5)
    assert closed(buffer) == [("a", CloseReason.IDLE, (1,)), ("a", CloseReason.IDLE, (1, 2))]
    assert [e.seq_num for e in buffer.late] == [2]
    assert [c.group.exposures[-1].seq_num for c in buffer.last_closings()] == [2]


def test_a_changed_record_of_a_closed_group_is_not_late() -> None:
    one = exposure(1, group="a", group_size=1)
    buffer = a_buffer()
    read(buffer, change(one, 0), change(replace(one, target_name="x"), 5, known=True))
    assert buffer.late == []
    assert [reason for _, reason, _ in closed(buffer)] == [CloseReason.COMPLETE] * 2


def test_a_moved_exposure_changes_both_groups() -> None:
    buffer = a_buffer()
    read(
        buffer,
        change(exposure(1, group="a"), 0),
        change(exposure(2, group="a"), 0),
        change(exposure(2, group="b"), 7, former="a"),
    )
    buffer.advance(1, IDLE_MS + 7)
    assert sorted(closed(buffer)) == [("a", CloseReason.NEXT_GROUP, (1,)), ("b", CloseReason.IDLE, (2,))]


def test_an_emptied_group_closes_at_once() -> None:
    buffer = a_buffer()
    read(buffer, change(exposure(1, group="a"), 0), change(exposure(1, group="b"), 7, former="a"))
    assert closed(buffer) == [("a", CloseReason.COMPLETE, ())]


def test_a_group_lives_by_the_clock_of_its_latest_event() -> None:
    buffer = a_buffer()
    read(
        buffer,
        change(exposure(1, group="a"), 1_000_000, offset_id=1),
        change(exposure(2, group="a"), 500, offset_id=2),
    )
    buffer.advance(1, 1_000_000 + 10 * AGE_MS)
    assert closed(buffer) == []
    buffer.advance(2, 500 + IDLE_MS)
    assert closed(buffer) == [("a", CloseReason.IDLE, (1, 2))]


def test_a_clock_that_was_superseded_by_says_nothing_on_another() -> None:
    buffer = a_buffer()
    read(
        buffer,
        change(exposure(1, group="a"), 0, offset_id=1),
        change(exposure(3, group="b"), 5, offset_id=1),
        change(exposure(2, group="a"), 1_000, offset_id=2),
    )
    buffer.advance(1, 5 + GRACE_MS)
    buffer.advance(2, 1_000 + GRACE_MS)
    assert closed(buffer) == []


def test_an_exposure_of_which_the_raw_that_matters_is_missing_is_absent() -> None:
    buffer = a_buffer()
    one, two = exposure(1, group="a", group_size=2), exposure(2, group="a", group_size=2)
    read(buffer, change(one, 0), change(two, 0, arrived=False))
    assert closed(buffer) == []
    buffer.advance(1, IDLE_MS)
    assert closed(buffer) == [("a", CloseReason.IDLE, (1,))]
    assert buffer.closings[0].absent == (two.id,)
    read(buffer, change(two, IDLE_MS + 1, known=True))
    assert closed(buffer)[-1] == ("a", CloseReason.COMPLETE, (1, 2))


def test_open_groups_that_changed_can_be_looked_at() -> None:
    buffer = a_buffer()
    read(buffer, change(exposure(2, group="a"), 3), change(exposure(1, group="a"), 9))
    (opened,) = buffer.open_now()
    assert [e.seq_num for e in opened.group.exposures] == [1, 2]
    assert opened.last_ms == 9


def random_changes(seed: int) -> list[ExposureChange]:
    chance = random.Random(seed)  # noqa: S311 -- not a secret
    stream_times_ms = {1: 0, 2: 500_000}
    changes = []
    known: dict[int, str] = {}
    for _ in range(60):
        offset_id = chance.choice([1, 2])
        stream_times_ms[offset_id] += chance.choice([0, 10, 5_000, 11_000, 130_000])
        number = chance.randint(1, 8)
        group = chance.choice("abc")
        former = known.get(number)
        one = exposure(number, group=group, group_size=chance.choice([None, None, 3]))
        changes.append(change(one, stream_times_ms[offset_id], offset_id=offset_id, former=former))
        known[number] = group
    return changes


def in_batches(
    changes: Sequence[ExposureChange], borders: Sequence[int]
) -> list[tuple[str, CloseReason, tuple[int, ...]]]:
    """Read changes with a buffer for each batch that knows no more than what was stored before it."""
    groups: dict[GroupKey, OpenGroup] = {}
    members: dict[GroupKey, dict[int, Member]] = {}
    seen = []
    for begin, end in zip((0, *borders), (*borders, len(changes)), strict=True):
        buffer = OpenGroups({INSTRUMENT: Rules()}, groups.values(), members)
        read(buffer, *changes[begin:end])
        seen += closed(buffer)
        groups, members = dict(buffer.groups), buffer.members
    return seen


@pytest.mark.parametrize("seed", range(10))
def test_borders_between_batches_change_nothing(seed: int) -> None:
    changes = random_changes(seed)
    whole = in_batches(changes, [])
    assert {reason for _, reason, _ in whole} >= {CloseReason.IDLE, CloseReason.COMPLETE}
    chance = random.Random(seed)  # noqa: S311 -- not a secret
    for _ in range(5):
        borders = sorted(chance.sample(range(1, len(changes)), chance.randint(1, len(changes) - 1)))
        assert in_batches(changes, borders) == whole


def test_a_group_whose_raws_alternate_between_partitions_closes_by_age() -> None:
    buffer = a_buffer()
    at_ms = range(1_000, 1_000 + AGE_MS, IDLE_MS // 2)
    for number, now_ms in enumerate(at_ms, start=1):
        read(buffer, change(exposure(number, group="g"), now_ms, offset_id=1 + number % 2))
    assert closed(buffer) == []
    for offset_id in (1, 2):
        buffer.advance(offset_id, 1_000 + AGE_MS)
    assert [reason for _, reason, _ in closed(buffer)] == [CloseReason.AGE]


def test_a_group_that_moves_to_a_partition_that_is_behind_takes_its_age_along() -> None:
    buffer = a_buffer()
    for number, now_ms in enumerate(range(5_000_000, 5_000_000 + AGE_MS // 2, IDLE_MS // 2), start=1):
        read(buffer, change(exposure(number, group="g"), now_ms, offset_id=1))
        age_ms = now_ms - 5_000_000
    at_ms = range(1_000, 1_000 + AGE_MS - age_ms, IDLE_MS // 2)
    for number, now_ms in enumerate(at_ms, start=1_000):
        read(buffer, change(exposure(number, group="g"), now_ms, offset_id=2))
    buffer.advance(2, 1_000 + AGE_MS - age_ms - 1)
    assert closed(buffer) == []
    buffer.advance(2, 1_000 + AGE_MS - age_ms)
    assert [reason for _, reason, _ in closed(buffer)] == [CloseReason.AGE]


def test_the_age_of_a_group_that_moved_is_counted_on_its_new_partition() -> None:
    buffer = a_buffer()
    read(buffer, change(exposure(1, group="g"), 1_000_000, offset_id=1))
    at_ms = range(500, 500 + AGE_MS, IDLE_MS // 2)
    for number, now_ms in enumerate(at_ms, start=2):
        read(buffer, change(exposure(number, group="g"), now_ms, offset_id=2))
    assert closed(buffer) == []
    buffer.advance(2, 500 + AGE_MS - 1)
    assert closed(buffer) == []
    buffer.advance(2, 500 + AGE_MS)
    assert [reason for _, reason, _ in closed(buffer)] == [CloseReason.AGE]


def test_a_large_group_closes_by_idle_and_counts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 3 exposures it is complete, as its events say; but then it is large, and its members are not looked at."""
    monkeypatch.setattr(open_groups, "MOST_COUNTED", 2)
    buffer = a_buffer()
    members = [exposure(n, group="A", group_size=3, seq_num=n) for n in range(1, 4)]
    read(buffer, *(change(each, n) for n, each in enumerate(members)))
    assert closed(buffer) == []
    buffer.advance(1, 2 + IDLE_MS)
    key = GroupKey(INSTRUMENT, "A")
    assert closed(buffer) == [("A", CloseReason.IDLE, ())]
    assert buffer.large_closed() == {key}
    buffer.load_large({key: [Member(each, arrived=True) for each in members]})
    assert closed(buffer) == [("A", CloseReason.IDLE, (1, 2, 3))]
    assert buffer.last_closings()[0].last_ms == 2


def test_a_large_group_is_not_superseded_and_its_new_exposures_are_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_groups, "MOST_COUNTED", 2)
    key = GroupKey(INSTRUMENT, "A")
    buffer = OpenGroups({INSTRUMENT: Rules()}, (), {}, {key})
    late, corrected = exposure(9, group="A"), exposure(1, group="A", target_name="other")
    read(buffer, change(late, 0), change(corrected, 1, known=True), change(exposure(10, group="B"), 2))
    assert buffer.late == [late]
    assert buffer.groups[key].latest_begin is None
    assert buffer.groups[key].superseded_ms is None
    assert [each.group.key.key for each in buffer.open_now()] == ["B"]
    moved = exposure(1, group="B", target_name="other")
    read(buffer, change(moved, 3, former="A"))
    assert closed(buffer) == [], "others are left, though none of them is known here"


def test_a_group_that_grows_large_forgets_that_it_was_superseded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_groups, "MOST_COUNTED", 1)
    buffer = a_buffer()
    read(buffer, change(exposure(1, group="A"), 0), change(exposure(5, group="B"), 1))
    assert buffer.groups[GroupKey(INSTRUMENT, "A")].superseded_ms == 1
    read(buffer, change(exposure(2, group="A"), 2))
    buffer.advance(1, 2 + IDLE_MS - 1)
    assert ("A", CloseReason.NEXT_GROUP) not in [each[:2] for each in closed(buffer)]
