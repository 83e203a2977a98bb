"""Messages that may have ended processes: tried in a child first, which may die of them; no process, no server."""

import signal

import pytest

from consumer.errors import DeadLetterReason
from consumer.service import leases
from consumer.service.trials import TrialResult
from tests.support.stepped_loop import SteppedLoop, good, partition

A, B = partition(0), partition(1)


def suspected(*values: bytes, deaths: int = 2) -> SteppedLoop:
    """Make a loop whose partition was leased so often by readers that died of what is in its log."""
    one = SteppedLoop()
    one.join(0)
    one.loop.lost([A])
    (position,) = one.store.state.positions.values()
    one.store.state.positions[position.id] = position._replace(lease_count=deaths)
    one.append(0, *values)
    one.loop.assigned([A])
    return one


def poisoned(one: SteppedLoop) -> list[tuple[str, int]]:
    return [(each.reason, each.message.offset) for each in one.store.state.dead_letters if each.message is not None]


def test_nothing_is_tried_where_the_position_moved_or_nothing_is_in_the_log() -> None:
    one = suspected(good(1), good(2), deaths=1)
    one.turn(5)
    assert one.exposures() == {1, 2}
    idle = suspected(deaths=9)
    idle.turn(5)
    idle.append(0, good(1))
    idle.turn(5)
    assert idle.exposures() == {1}
    assert one.trials.asked == idle.trials.asked == []


def test_messages_that_are_good_are_written_by_the_child_and_counted_here() -> None:
    one = suspected(*map(good, range(1, 8)))
    one.turn(5)
    assert one.exposures() == set(range(1, 8))
    assert [len(each.messages) for each in one.trials.asked] == [7]
    assert [each for each in one.given if each.events] == [], "nothing of it was written here"
    assert one.value("events_total", instrument="LSSTComCam", outcome="new") == 7
    assert one.source.mirrored == {A: 7}
    one.append(0, good(8))
    one.turn(5)
    assert one.exposures() == set(range(1, 9))
    assert len(one.trials.asked) == 1, "what came later killed nobody"


@pytest.mark.parametrize("number", range(7))
def test_the_one_that_kills_alone_is_a_dead_letter_and_its_neighbours_are_stored(number: int) -> None:
    values = [good(n) for n in range(1, 8)]
    one = suspected(*values)
    one.trials.deaths[values[number]] = signal.SIGABRT
    one.append(1, good(100))
    one.loop.assigned([B])
    one.turn(40)
    assert one.exposures() == {100, *range(1, 8)} - {number + 1}
    assert poisoned(one) == [(DeadLetterReason.POISON, number)]
    assert "dies of it: SIGABRT" in one.store.state.dead_letters[0].detail
    assert one.stored(0)[1] == 7
    assert one.value("dead_letters_total", reason="poison") == 1


def test_each_of_two_that_kill_is_a_dead_letter() -> None:
    values = [good(n) for n in range(1, 8)]
    one = suspected(*values)
    one.trials.deaths = {values[2]: signal.SIGSEGV, values[5]: signal.SIGFPE}
    one.turn(100)
    assert one.exposures() == {1, 2, 4, 5, 7}
    assert poisoned(one) == [(DeadLetterReason.POISON, 2), (DeadLetterReason.POISON, 5)]


def test_a_child_that_was_killed_from_outside_says_nothing_of_its_message() -> None:
    one = suspected(good(1))
    one.trials.deaths[good(1)] = signal.SIGKILL
    one.turn(30)
    assert len(one.trials.asked) > 10
    assert poisoned(one) == []
    one.trials.deaths.clear()
    one.turn(5)
    assert one.exposures() == {1}


@pytest.mark.parametrize("before", [0, 1])
def test_one_death_alone_may_be_chance(before: int) -> None:
    one = suspected(*[good(n) for n in range(1, before + 1)], good(9))
    one.trials.deaths[good(9)] = signal.SIGSEGV
    while [each.messages[0].offset for each in one.trials.asked if len(each.messages) == 1][-1:] != [before]:
        one.turn()
    one.trials.deaths.clear()
    one.turn(9)
    assert one.exposures() == {*range(1, before + 1), 9}
    assert poisoned(one) == []


def test_what_is_only_bad_is_judged_by_the_circuit_breaker() -> None:
    one = suspected(good(1), *[b"bad"] * 30, good(2))
    one.turn(80)
    assert one.exposures() == {1}
    assert one.loop._leases.partitions.tripped == {A}
    assert poisoned(one) == []


def test_bad_ones_that_are_few_are_dead_letters_in_their_order() -> None:
    one = suspected(b"", good(1), b"bad", b"worse", good(2))
    one.turn(100)
    assert one.exposures() == {1, 2}
    assert [offset for _, offset in poisoned(one)] == [0, 2, 3]
    assert {reason for reason, _ in poisoned(one)} == {DeadLetterReason.EMPTY, DeadLetterReason.UNKNOWN_FRAMING}


def test_only_the_next_messages_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_TRIAL_MESSAGES", 3)
    one = suspected(*map(good, range(1, 8)))
    one.turn(20)
    assert one.exposures() == set(range(1, 8))
    assert [len(each.messages) for each in one.trials.asked] == [3]


def test_a_position_that_was_moved_meanwhile_is_read_again() -> None:
    one = suspected(good(1), good(2))
    while not one.builder.untried():
        one.turn()
    (position,) = one.store.state.positions.values()
    one.store.state.positions[position.id] = position._replace(next_offset=1)
    one.turn(10)
    assert one.exposures() == {2}


def test_a_partition_that_went_away_meanwhile_is_let_go() -> None:
    one = suspected(good(1))
    while not one.builder.untried():
        one.turn()
    one.turn(1, writes=False)
    one.loop.lost([A])
    one.trials.deaths[good(1)] = signal.SIGSEGV
    one.turn(5)
    assert len(one.trials.asked) == 1
    assert one.exposures() == set()


def test_a_database_that_is_away_is_asked_again_and_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    one = suspected(good(1))
    answers = [TrialResult(unavailable="connection refused"), TrialResult()]
    run = one.trials.ask
    monkeypatch.setattr(type(one.trials), "ask", lambda _, trial: answers.pop(0) if answers else run(trial))
    one.turn(10)
    assert one.exposures() == {1}
    assert not answers
    errors = [each for each in one.metrics.registry.collect() if each.name == "visit_consumer_db_errors"]
    assert sum(s.value for each in errors for s in each.samples if s.name.endswith("_total")) == 1
