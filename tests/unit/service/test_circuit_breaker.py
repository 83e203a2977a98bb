import pytest

from consumer.config import BreakerSettings
from consumer.service.circuit_breaker import CircuitBreaker, Judgement, judge

SETTINGS = BreakerSettings(min_messages=10, max_bad_fraction=0.5, hold_s=2.0)


@pytest.mark.parametrize(
    ("messages", "bad", "held_s", "judgement"),
    [
        (100, 0, 0.0, Judgement.WRITE),
        (100, 50, 0.0, Judgement.WRITE),
        (100, 51, 0.0, Judgement.TRIP),
        (10, 10, 0.0, Judgement.TRIP),
        (9, 9, 0.0, Judgement.HOLD),
        (9, 9, 1.9, Judgement.HOLD),
        (9, 9, 2.0, Judgement.WRITE),
        (9, 4, 0.0, Judgement.WRITE),
    ],
)
def test_a_batch_is_judged_by_its_size_its_bad_part_and_how_long_it_was_held(
    messages: int, bad: int, held_s: float, judgement: Judgement
) -> None:
    assert judge(SETTINGS, messages=messages, bad=bad, held_s=held_s) is judgement


def test_a_breaker_that_is_off_never_opens() -> None:
    assert judge(BreakerSettings(enabled=False), messages=1000, bad=1000, held_s=0.0) is Judgement.WRITE


def test_a_topic_that_is_bad_but_slow_is_stopped_once_there_is_enough_to_judge() -> None:
    breaker = CircuitBreaker(SETTINGS)
    for number in range(9):
        assert breaker.judge(messages=1, bad=1, now_s=10.0 * number) is Judgement.HOLD
        assert breaker.judge(messages=1, bad=1, now_s=10.0 * number + 2.0) is Judgement.WRITE
        breaker.wrote(messages=1, bad=1)
    assert breaker.judge(messages=1, bad=1, now_s=100.0) is Judgement.TRIP
    # It has forgotten what was before, and holds what comes next.
    assert breaker.judge(messages=1, bad=1, now_s=101.0) is Judgement.HOLD
    assert breaker.judge(messages=1, bad=1, now_s=103.0) is Judgement.WRITE


def test_good_batches_before_a_small_bad_one_speak_for_it() -> None:
    breaker = CircuitBreaker(SETTINGS)
    breaker.wrote(messages=50, bad=0)
    assert breaker.judge(messages=9, bad=9, now_s=0.0) is Judgement.HOLD
    assert breaker.judge(messages=9, bad=9, now_s=2.0) is Judgement.WRITE
    assert breaker.judge(messages=3, bad=1, now_s=2.0) is Judgement.WRITE


def test_a_batch_without_bad_messages_ends_the_time_that_one_was_held() -> None:
    breaker = CircuitBreaker(SETTINGS)
    assert breaker.judge(messages=1, bad=1, now_s=0.0) is Judgement.HOLD
    assert breaker.judge(messages=0, bad=0, now_s=1.9) is Judgement.WRITE
    assert breaker.judge(messages=1, bad=1, now_s=2.5) is Judgement.HOLD
