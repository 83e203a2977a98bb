import pytest

from consumer.domain.closing import ClosingPolicy, Deadline, OpenGroup, deadline
from consumer.model import CloseReason, GroupKey

POLICY = ClosingPolicy(next_group_grace_ms=10, close_after_ms=120, max_open_ms=3600)


def opened(**changes: int | None) -> OpenGroup:
    values = {"opened_ms": 1000, "last_ms": 1000, "superseded_ms": None} | changes
    return OpenGroup(key=GroupKey("LATISS", "g"), offset_id=1, **values)  # type: ignore[arg-type] # times and None


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        (opened(), Deadline(1120, CloseReason.IDLE)),
        (opened(last_ms=4000), Deadline(4120, CloseReason.IDLE)),
        (opened(last_ms=4599), Deadline(4600, CloseReason.AGE)),
        (opened(superseded_ms=1050), Deadline(1060, CloseReason.NEXT_GROUP)),
        (opened(superseded_ms=1115), Deadline(1120, CloseReason.IDLE)),
        (opened(last_ms=4595, superseded_ms=4595), Deadline(4600, CloseReason.AGE)),
    ],
    ids=["idle", "idle after the last", "age", "next group", "idle before next group", "age before all"],
)
def test_the_earliest_deadline_decides(group: OpenGroup, expected: Deadline) -> None:
    assert deadline(group, POLICY) == expected


def test_of_equal_deadlines_next_group_comes_before_idle_and_idle_before_age() -> None:
    assert deadline(opened(superseded_ms=1110), POLICY).reason is CloseReason.NEXT_GROUP
    assert deadline(opened(last_ms=4480), POLICY) == Deadline(4600, CloseReason.IDLE)


def test_no_grace_closes_at_the_moment_of_the_next_group() -> None:
    policy = ClosingPolicy(next_group_grace_ms=0, close_after_ms=120, max_open_ms=3600)
    assert deadline(opened(superseded_ms=1001), policy) == Deadline(1001, CloseReason.NEXT_GROUP)
