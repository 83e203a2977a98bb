"""Visits by the exposure counter: every exposure one visit, and every run ``seq_start..seq_end`` one more."""

from collections.abc import Sequence
from dataclasses import dataclass

from consumer.grouping.rule import Definitions, Skip, checked_visit_id, off_sky_skips, on_sky
from consumer.model import (
    BY_SEQ_START_END,
    ONE_TO_ONE,
    Exposure,
    Group,
    SkipReason,
    VisitDefinition,
    VisitSystem,
)


@dataclass(frozen=True, slots=True)
class OneToOneAndByCounter:
    """One visit per exposure in system 0, one per run of the counter in system 2; a run of one is one visit in both.

    The key of a run is ``day_obs/seq_start/seq_end``. An exposure that is a run of one, or that lacks ``seq_start`` or
    ``seq_end``, is a group of its own with its id as the key: nothing waits for anything, and an instrument without a
    counter (all zero) does not gather its whole night in one group.
    """

    name: str = "one-to-one-and-by-counter"
    visit_systems: tuple[VisitSystem, ...] = (ONE_TO_ONE, BY_SEQ_START_END)
    buffers: bool = True

    def key(self, exposure: Exposure) -> str:
        """Return ``day_obs/seq_start/seq_end``, or the exposure's id where it stands alone."""
        if _alone(exposure):
            return str(exposure.id)
        return f"{exposure.day_obs}/{exposure.seq_start}/{exposure.seq_end}"

    def complete(self, exposures: Sequence[Exposure]) -> bool | None:
        """Return whether each number of ``seq_start..seq_end`` has arrived; a counter that runs backwards never has."""
        if not exposures:
            return False
        first, last = exposures[0].seq_start, exposures[0].seq_end
        if first is None or last is None or first == last:
            return True
        # Counted, not listed: a broken header may announce a run of 10^18 exposures.
        arrived = {e.seq_num for e in exposures if e.seq_num is not None and first <= e.seq_num <= last}
        return first < last and len(arrived) == last - first + 1

    def define(self, group: Group, *, closed: bool) -> Definitions:
        """Define each exposure's own visit at once, and the run's visit when the group closes.

        The run's visit has the plain id and name of its first exposure (``seq_num == seq_start``), which therefore
        gives its own visit ``obs_id + "_first"`` and its id with a 9 before it. A run whose first exposure is not
        there or not on sky gets no visit.

        Raises
        ------
        GroupError
            When an id does not fit 64 bits.
        """
        members = on_sky(group)
        visits = [_own_visit(e) for e in members]
        if not closed:
            return Definitions(visits=tuple(visits))
        skips = off_sky_skips(group)
        run = tuple(e for e in members if not _alone(e))
        if run:
            first = min((e for e in run if e.seq_num == e.seq_start), key=lambda e: e.id, default=None)
            if first is None:
                skips += (_first_missing(run),)
            else:
                visits.append(_run_visit(first, run, complete=self.complete(group.exposures)))
        return Definitions(visits=tuple(visits), skips=skips)


def _alone(exposure: Exposure) -> bool:
    return exposure.seq_start is None or exposure.seq_end is None or exposure.seq_start == exposure.seq_end


def _own_visit(exposure: Exposure) -> VisitDefinition:
    alone = _alone(exposure)
    is_first = not alone and exposure.seq_num == exposure.seq_start
    return VisitDefinition(
        instrument=exposure.instrument,
        id=checked_visit_id(int(f"9{exposure.id}") if is_first else exposure.id, origin=f"exposure {exposure.id}"),
        name=f"{exposure.obs_id}_first" if is_first else exposure.obs_id,
        # An exposure with one end of a run only is of no run, not even of its own.
        visit_systems=(ONE_TO_ONE.id, BY_SEQ_START_END.id)
        if exposure.seq_start == exposure.seq_end
        else (ONE_TO_ONE.id,),
        exposures=(exposure,),
        complete=True,
    )


def _run_visit(first: Exposure, run: tuple[Exposure, ...], *, complete: bool | None) -> VisitDefinition:
    return VisitDefinition(
        instrument=first.instrument,
        id=checked_visit_id(first.id, origin=f"exposure {first.id}"),
        name=first.obs_id,
        visit_systems=(BY_SEQ_START_END.id,),
        exposures=run,
        complete=complete,
    )


def _first_missing(run: tuple[Exposure, ...]) -> Skip:
    numbers = [e.seq_num for e in run if e.seq_num is not None]
    # A counter that stands at 0 says that the instrument does not count: there is no first exposure to miss.
    counts = not numbers or min(numbers) != 0
    one = run[0]
    return Skip(
        reason=SkipReason.FIRST_MISSING,
        exposures=tuple(e.id for e in run),
        warn=counts,
        detail=(
            f"the first exposure of {one.seq_start}..{one.seq_end} of {one.instrument} on day_obs {one.day_obs} "
            "is absent or off sky: the run gets no visit of its own"
        ),
    )
