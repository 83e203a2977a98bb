"""A grouping rule of an outsider: all exposures of one night in one filter are one visit."""  # noqa: INP001  # it is a top-level module

from collections.abc import Sequence
from dataclasses import dataclass

from consumer.grouping import Definitions
from consumer.model import Exposure, Group, VisitDefinition, VisitSystem, in_time_order

BY_NIGHT = VisitSystem(100, "by-night-and-filter")


@dataclass(frozen=True, slots=True)
class ByNightAndFilter:
    """One visit per night and filter, numbered by its first exposure; it is never known to be complete."""

    name: str = BY_NIGHT.name
    visit_systems: tuple[VisitSystem, ...] = (BY_NIGHT,)
    buffers: bool = True

    def key(self, exposure: Exposure) -> str:
        return f"{exposure.day_obs}/{exposure.physical_filter}"

    def complete(self, exposures: Sequence[Exposure]) -> bool | None:  # noqa: ARG002  # a night's length is unknown
        return None

    def define(self, group: Group, *, closed: bool) -> Definitions:
        members = in_time_order([e for e in group.exposures if e.off_sky_reason is None])
        if not closed or not members:
            return Definitions()
        visit = VisitDefinition(
            instrument=group.key.instrument,
            id=members[0].id,
            name=group.key.key,  # the text that `key` returned
            visit_systems=(BY_NIGHT.id,),
            exposures=members,
            complete=None,
        )
        return Definitions(visits=(visit,))


def make_rule(*, group_id: str) -> ByNightAndFilter:  # noqa: ARG001  # the registry hands it to every rule
    """Make the rule; what the entry point names. `group_id` is a setting of the instrument, which this one ignores."""
    return ByNightAndFilter()
