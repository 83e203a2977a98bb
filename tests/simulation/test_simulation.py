"""Some schedules; and that faults which are put back are found."""

import pytest

from tests.simulation.faults import FAULTS
from tests.simulation.schedule import Schedule
from tests.simulation.watch import BrokenPromiseError

N_STEPS = 200
MOST_SCHEDULES = 1000
"""Within so many each fault is found; most are within a few."""


@pytest.mark.parametrize("first", range(0, 120, 30))
def test_schedules_keep_the_promises(first: int) -> None:
    for seed in range(first, first + 30):
        Schedule(seed).run(N_STEPS)


def test_a_seed_gives_the_same_schedule_again() -> None:
    one, two = Schedule(5), Schedule(5)
    for each in (one, two):
        each.run(N_STEPS)
    assert one.steps == two.steps
    assert one.store.state == two.store.state


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_is_put_back_is_found(fault: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        FAULTS[fault](patch)
        for seed in range(MOST_SCHEDULES):
            try:
                Schedule(seed).run(N_STEPS)
            except BrokenPromiseError:
                return
    pytest.fail(f"not found in {MOST_SCHEDULES} schedules")
