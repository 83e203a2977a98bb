"""What a grouping rule is: the seam at which observatories add their own.

Pure: no I/O, no clock. A rule never decides *when* a group closes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from consumer.errors import DeadLetterReason, GroupError
from consumer.model import Exposure, Group, SkipReason, VisitDefinition, VisitSystem, in_time_order

BIGINT_MIN = -(2**63)
BIGINT_MAX = 2**63 - 1
"""Visit ids are PostgreSQL's ``bigint``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    """What of a closed group defines no visit, and why; to be counted, and logged where `warn` says so."""

    reason: SkipReason
    exposures: tuple[int, ...]
    """Ids of the exposures that the reason speaks of."""
    warn: bool
    """Whether an operator should hear of it: something is missing that was announced."""
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Definitions:
    """What a rule makes of one group."""

    visits: tuple[VisitDefinition, ...] = ()
    skips: tuple[Skip, ...] = ()
    """Empty until the group closes, so that a reader who counts them counts each group once."""


class GroupingRule(Protocol):
    """Gives each exposure its group, says whether a group is complete, turns a group into visits.

    A rule is a value: it keeps no state between calls, and its answers depend on nothing but its arguments, never on
    the order of the exposures in them.
    """

    @property
    def name(self) -> str:
        """The name by which the configuration finds it, and which stands in the visits' provenance."""
        ...

    @property
    def visit_systems(self) -> tuple[VisitSystem, ...]:
        """The visit systems that its visits belong to, ascending."""
        ...

    @property
    def buffers(self) -> bool:
        """Whether exposures may have to wait for others; False when each is a group of its own, complete at once."""
        ...

    def key(self, exposure: Exposure) -> str:
        """Return the text that names the exposure's group within its instrument; never fails."""
        ...

    def complete(self, exposures: Sequence[Exposure]) -> bool | None:
        """Return whether all exposures of one group have arrived; None when its size is unknown.

        Parameters
        ----------
        exposures
            All of the group that arrived, each once, on sky or not.
        """
        ...

    def define(self, group: Group, *, closed: bool) -> Definitions:
        """Turn a group into visits.

        Parameters
        ----------
        group
            Its exposures that arrived, on sky or not; those off sky define no visit.
        closed
            Whether the group is closed. False: only the visits that no further exposure of the group can change.

        Raises
        ------
        GroupError
            When the group can have no visit id.
        """
        ...


def on_sky(group: Group) -> tuple[Exposure, ...]:
    """Return the exposures of a group that can define visits, in time order."""
    return in_time_order([e for e in group.exposures if e.off_sky_reason is None])


def off_sky_skips(group: Group) -> tuple[Skip, ...]:
    """Account for the exposures of a group that define no visit because they saw no sky."""
    return tuple(
        Skip(
            reason=reason,
            exposures=(e.id,),
            warn=False,
            detail=f"exposure {e.id} of {e.instrument} is not on sky: {reason.value}",
        )
        for e in in_time_order(group.exposures)
        if (reason := e.off_sky_reason) is not None
    )


def checked_visit_id(visit: int, *, origin: str) -> int:
    """Return a visit id that the database can hold.

    Parameters
    ----------
    visit
        The id.
    origin
        What it was made from, for the error.

    Raises
    ------
    GroupError
        When it does not fit a ``bigint``.
    """
    if not BIGINT_MIN <= visit <= BIGINT_MAX:
        raise GroupError(
            DeadLetterReason.GROUP_FAILED,
            f"the visit id made from {origin} does not fit 64 bits: {visit}",
        )
    return visit
