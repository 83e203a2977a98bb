"""An offset is committed once all before it are acknowledged."""

from hypothesis import given
from hypothesis import strategies as st

from consumer.kafka.notification_consumer import OffsetTracker


@given(st.permutations(range(12)), st.integers(0, 12))
def test_what_is_committed_is_acknowledged_whatever_the_order(order: list[int], read: int) -> None:
    tracker = OffsetTracker()
    for offset in range(read):
        tracker.begin(offset * 2)  # a log has gaps
    done: set[int] = set()
    committed = 0
    for offset in (each for each in order if each < read):
        tracker.finish(offset * 2)
        done.add(offset)
        taken = tracker.take()
        first_left = next((each for each in range(read) if each not in done), read)
        if taken is not None:
            committed = taken
        assert committed == (first_left * 2 - 1 if first_left else 0)
    assert tracker.take() is None
