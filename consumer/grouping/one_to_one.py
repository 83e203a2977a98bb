"""One visit per exposure: the rule of cameras that take no snaps."""

from collections.abc import Sequence
from dataclasses import dataclass

from consumer.grouping.rule import Definitions, checked_visit_id, off_sky_skips, on_sky
from consumer.model import ONE_TO_ONE, Exposure, Group, VisitDefinition, VisitSystem


@dataclass(frozen=True, slots=True)
class OneToOne:
    """Every exposure on sky is a visit with its own id and ``obs_id``, in visit system 0.

    The group's key is the exposure's id in decimal digits.
    """

    name: str = "one-to-one"
    visit_systems: tuple[VisitSystem, ...] = (ONE_TO_ONE,)
    buffers: bool = False

    def key(self, exposure: Exposure) -> str:
        """Return the exposure's id in decimal digits."""
        return str(exposure.id)

    def complete(self, exposures: Sequence[Exposure]) -> bool | None:
        """Return that the group is complete as soon as there is one."""
        return len(exposures) > 0

    def define(self, group: Group, *, closed: bool) -> Definitions:
        """Define one visit for each exposure on sky; none of them has anything to wait for.

        Raises
        ------
        GroupError
            When an exposure's id does not fit 64 bits.
        """
        visits = tuple(
            VisitDefinition(
                instrument=exposure.instrument,
                id=checked_visit_id(exposure.id, origin="the exposure's id"),
                name=exposure.obs_id,
                visit_systems=(ONE_TO_ONE.id,),
                exposures=(exposure,),
                complete=True,
            )
            for exposure in on_sky(group)
        )
        return Definitions(visits=visits, skips=off_sky_skips(group) if closed else ())
