"""Some schedules; and that faults which are put back are found."""

from collections.abc import Callable

import pytest

from consumer.errors import FencedError
from consumer.service import lease_holder, leases
from consumer.service.leases import CheckedLeases
from tests.simulation.schedule import BrokenPromiseError, Schedule
from tests.simulation.world import Brokers
from tests.support import stepped

N_STEPS = 200
MOST_SCHEDULES = 300
"""Within so many each fault is found; most are within a few."""

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("first", range(0, 120, 30))
def test_schedules_keep_the_promises(first: int) -> None:
    for seed in range(first, first + 30):
        Schedule(seed).run(N_STEPS)


def test_a_seed_gives_the_same_schedule_again() -> None:
    one, two = Schedule(5), Schedule(5)
    for each in (one, two):
        each.run(N_STEPS)
    assert one.steps == two.steps
    assert one.store.commits == two.store.commits


def _no_fence(patch: pytest.MonkeyPatch) -> None:
    advance = stepped._MemoryTables.advance

    def careless(self: stepped._MemoryTables, updates: list[object]) -> None:
        try:
            advance(self, updates)  # type: ignore[arg-type] # passed on
        except FencedError:
            for each in updates:
                stored = self._state.positions[each.offset_id]  # type: ignore[attr-defined] # an update
                self._state.positions[stored.id] = stored._replace(next_offset=each.next_offset)  # type: ignore[attr-defined] # as above

    patch.setattr(stepped._MemoryTables, "advance", careless)


def _leader_epoch_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Brokers, "divergence", lambda *_: None)


def _position_not_stored(patch: pytest.MonkeyPatch) -> None:
    """Go on reading behind what was gathered, whether or not it was written."""

    def renewed(_: object, held: list[leases.PartitionLease], __: object) -> CheckedLeases:
        return CheckedLeases([lease._replace(start=(lease.next_offset or 0) + 1) for lease in held], [], [])

    patch.setattr(lease_holder, "check_leases", renewed)


def _later_leader_not_asked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lease_holder, "may_follow_another_log", lambda *_: False)


FAULTS: list[Callable[[pytest.MonkeyPatch], None]] = [
    _no_fence,
    _leader_epoch_ignored,
    _position_not_stored,
    _later_leader_not_asked,
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda each: each.__name__.strip("_"))
def test_a_fault_that_is_put_back_is_found(fault: Callable[[pytest.MonkeyPatch], None]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        fault(patch)
        for seed in range(MOST_SCHEDULES):
            try:
                Schedule(seed).run(N_STEPS)
            except BrokenPromiseError:
                return
    pytest.fail(f"not found in {MOST_SCHEDULES} schedules")
