"""One visit per group that the acquisition system named in the exposures' ``group`` field."""

from collections.abc import Sequence
from dataclasses import dataclass

from consumer.grouping.group_ids import GroupIdFunction, digits
from consumer.grouping.rule import Definitions, off_sky_skips, on_sky
from consumer.model import BY_GROUP_METADATA, Exposure, Group, VisitDefinition, VisitSystem


@dataclass(frozen=True, slots=True)
class ByGroupMetadata:
    """All exposures of one ``group`` on sky are one visit with the group's name, in visit system 1.

    The group's key is the ``group`` itself.

    Parameters
    ----------
    visit_id
        Turns the group's name into the visit's id.
    """

    visit_id: GroupIdFunction = digits
    name: str = "by-group-metadata"
    visit_systems: tuple[VisitSystem, ...] = (BY_GROUP_METADATA,)
    buffers: bool = True

    def key(self, exposure: Exposure) -> str:
        """Return the ``group``."""
        return exposure.group

    def complete(self, exposures: Sequence[Exposure]) -> bool | None:
        """Return whether ``group_size`` exposures have arrived; None where no exposure tells it.

        Exposures that disagree about the size are waited for up to the largest: closing late harms less than
        closing twice.
        """
        sizes = [e.group_size for e in exposures if e.group_size is not None]
        return len(exposures) >= max(sizes) if sizes else None

    def define(self, group: Group, *, closed: bool) -> Definitions:
        """Define the group's one visit when it closes, if any of it is on sky.

        Raises
        ------
        GroupError
            When its name gives no visit id.
        """
        if not closed:
            return Definitions()
        skips = off_sky_skips(group)
        members = on_sky(group)
        if not members:
            return Definitions(skips=skips)
        name = members[0].group
        visit = VisitDefinition(
            instrument=members[0].instrument,
            id=self.visit_id(name),
            name=name,
            visit_systems=(BY_GROUP_METADATA.id,),
            exposures=members,
            complete=self.complete(group.exposures),
        )
        return Definitions(visits=(visit,), skips=skips)
