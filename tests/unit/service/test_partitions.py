"""The life of a partition: every cell of the table, and what an illegal step leaves behind."""

import itertools

import pytest

from consumer.model import PartitionId
from consumer.service.partitions import (
    TRANSITIONS,
    IllegalTransitionError,
    PartitionInput,
    Partitions,
    PartitionState,
)

A, B = PartitionId("t", 0), PartitionId("t", 1)


def reach(state: PartitionState) -> Partitions:
    """Return partitions of which A is in a state, and refused once before where that is possible."""
    partitions = Partitions()
    partitions.assign([A], 0.0)
    if state is PartitionState.ASSIGNED:
        return partitions
    assert partitions.ask_due(0.0) == {A}
    match state:
        case PartitionState.READING:
            assert partitions.lease(A)
        case PartitionState.REFUSED:
            assert partitions.refuse(A, "a gap", 15.0)
        case PartitionState.TRIPPED:
            assert partitions.refuse(A, "bad messages", 15.0, breaker=True)
    assert partitions.state(A) is state
    return partitions


def happen(partitions: Partitions, what: PartitionInput) -> None:
    match what:
        case PartitionInput.ASSIGN:
            partitions.assign([A], 1.0)
        case PartitionInput.ASK:
            assert partitions.ask_due(100.0) == {A}
        case PartitionInput.LEASE:
            assert partitions.lease(A)
        case PartitionInput.REFUSE:
            assert partitions.refuse(A, "refused", 30.0)
        case PartitionInput.TRIP if partitions.state(A) is PartitionState.CLAIMING:
            assert partitions.refuse(A, "refused", 30.0, breaker=True)
        case PartitionInput.TRIP:
            partitions.trip(A, "refused", 30.0)
        case PartitionInput.FENCE:
            assert partitions.fence([A]) == {A}
        case PartitionInput.RELEASE:
            partitions.release([A], 1.0)


LEGAL = [(state, what, after) for state, row in TRANSITIONS.items() for what, after in row.items()]
ILLEGAL = [
    (state, what) for state, what in itertools.product(PartitionState, PartitionInput) if what not in TRANSITIONS[state]
]


def test_the_table_has_a_row_for_every_state_and_every_state_can_be_reached() -> None:
    assert set(TRANSITIONS) == set(PartitionState)
    assert {after for _, _, after in LEGAL} == set(PartitionState)
    assert len(LEGAL) + len(ILLEGAL) == len(PartitionState) * len(PartitionInput)


@pytest.mark.parametrize(("state", "what", "after"), LEGAL)
def test_a_legal_step(state: PartitionState, what: PartitionInput, after: PartitionState) -> None:
    partitions = reach(state)
    happen(partitions, what)
    assert partitions.state(A) is after
    assert partitions.assigned == {A}


@pytest.mark.parametrize(("state", "what"), ILLEGAL)
def test_an_illegal_step_changes_nothing(state: PartitionState, what: PartitionInput) -> None:
    partitions = reach(state)
    before = (partitions.refused, partitions.tripped)
    with pytest.raises((IllegalTransitionError, AssertionError)):
        happen(partitions, what)
    assert partitions.state(A) is state
    assert (partitions.refused, partitions.tripped) == before


@pytest.mark.parametrize("state", PartitionState)
def test_a_partition_that_went_away_is_forgotten_whatever_its_state(state: PartitionState) -> None:
    partitions = reach(state)
    partitions.remove([A])
    assert partitions.state(A) is None
    assert not partitions.assigned
    assert not partitions.refused
    assert not partitions.tripped
    assert not partitions.ask_due(100.0)


def test_an_answer_for_a_partition_that_went_away_and_came_back_is_ignored() -> None:
    partitions = reach(PartitionState.CLAIMING)
    partitions.remove([A])
    assert not partitions.lease(A)
    partitions.assign([A], 1.0)
    assert not partitions.is_claiming(A)
    assert not partitions.lease(A)
    assert not partitions.refuse(A, "late", 2.0)
    assert partitions.state(A) is PartitionState.ASSIGNED
    assert partitions.ask_due(1.0) == {A}


def test_leases_are_asked_for_when_they_are_due_and_once() -> None:
    partitions = Partitions()
    partitions.assign([A], 5.0)
    partitions.assign([B], 6.0)
    assert partitions.ask_due(4.9) == set()
    assert partitions.ask_due(5.0) == {A}
    assert partitions.ask_due(6.0) == {B}
    assert partitions.ask_due(100.0) == set()
    assert partitions.refuse(A, "silent brokers", 101.0)
    assert partitions.ask_due(100.9) == set()
    assert partitions.ask_due(101.0) == {A}


def test_why_a_partition_was_refused_is_known_until_there_is_another_answer() -> None:
    partitions = reach(PartitionState.TRIPPED)
    assert partitions.ask_due(15.0) == {A}
    assert (partitions.refused, partitions.tripped) == ({A: "bad messages"}, frozenset({A}))
    assert partitions.refuse(A, "a gap", 30.0)
    assert (partitions.refused, partitions.tripped) == ({A: "a gap"}, frozenset())
    assert partitions.ask_due(30.0) == {A}
    assert partitions.lease(A)
    assert partitions.refused == {}


def test_only_partitions_that_are_read_are_fenced() -> None:
    partitions = reach(PartitionState.READING)
    partitions.assign([B], 0.0)
    assert partitions.fence([A, B, PartitionId("t", 2)]) == {A}
    assert partitions.is_claiming(A)
    assert partitions.state(B) is PartitionState.ASSIGNED
