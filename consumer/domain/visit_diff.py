"""From candidate visits to a diff: what is new, updated, unchanged, stale or in conflict with what is stored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from consumer.domain.instrument import Instrument
from consumer.domain.visit_candidates import Candidate, Defined
from consumer.errors import DeadLetterReason
from consumer.model import DeadLetter, GroupKey


class VisitKey(NamedTuple):
    """Names one visit."""

    instrument: str
    id: int


class StoredVisit(NamedTuple):
    """What the comparison needs of a visit that is stored."""

    instrument: str
    id: int
    name: str
    group: GroupKey
    inputs_hash: bytes
    region: bytes


@dataclass(slots=True)
class VisitDiff:
    """What is to be done with the candidates, and with what is stored."""

    candidates: list[Candidate] = field(default_factory=list)
    """All that were judged, in order."""
    new: list[Candidate] = field(default_factory=list)
    updated: list[tuple[Candidate, StoredVisit]] = field(default_factory=list)
    unchanged: list[Candidate] = field(default_factory=list)
    kept: list[Candidate] = field(default_factory=list)
    """Would have been updated, but the instrument keeps what is stored."""
    stale: list[StoredVisit] = field(default_factory=list)
    """Stored visits that their group, closed again, no longer defines."""
    conflicts: list[tuple[Candidate, DeadLetter]] = field(default_factory=list)
    refused_by: set[tuple[GroupKey, GroupKey]] = field(default_factory=set)
    """For each conflict, the group that was refused a visit, and the group that has its id or name."""

    @property
    def freed(self) -> set[str]:
        """Instruments in which a visit id or name has become free: groups that were refused it may try again."""
        renamed = {old.instrument for candidate, old in self.updated if candidate.definition.name != old.name}
        return renamed | {each.instrument for each in self.stale}


def diff_visits(defined: Defined, stored: Sequence[StoredVisit], rules: Mapping[str, Instrument]) -> VisitDiff:
    """Compare the visits that a batch defines with the stored ones that have their ids, names or groups.

    A visit id or name belongs to the group that claimed it first: the stored visit stays, the other group becomes a
    dead letter. Equal `inputs_hash`: the rows stay untouched. What is stored of a group that closed, and is not what it
    defines now, goes: also where it defines nothing now, because that failed or is claimed by another group. So
    nothing is left of what the group was before its last change.
    """
    diff = VisitDiff()
    kept_groups = {each.group for each in stored if rules[each.instrument].keep_stored}
    reclosed = (defined.closed | defined.failed) - kept_groups
    wanted = {(c.group, c.definition.id) for c in defined.candidates}
    diff.stale = [each for each in stored if each.group in reclosed and (each.group, each.id) not in wanted]
    gone = {(each.instrument, each.id) for each in diff.stale}
    owner: dict[tuple[str, int | str], tuple[GroupKey, int]] = {}
    by_id: dict[tuple[GroupKey, int], StoredVisit] = {}
    for each in stored:
        if (each.instrument, each.id) not in gone:
            by_id[each.group, each.id] = each
            owner[each.instrument, each.id] = owner[each.instrument, each.name] = (each.group, each.id)
    diff.candidates = _latest(defined.candidates)
    for candidate in diff.candidates:
        visit = candidate.definition
        claims: tuple[tuple[str, int | str], ...] = ((visit.instrument, visit.id), (visit.instrument, visit.name))
        mine = (candidate.group, visit.id)
        own = by_id.get(mine)
        if own is not None and candidate.group in kept_groups and own.inputs_hash != candidate.inputs_hash:
            # Its row keeps the stored name: the new one stays free, and cannot be contested.
            diff.kept.append(candidate)
            continue
        other = next((owner[c] for c in claims if owner.get(c, mine) != mine), None)
        if other is not None:
            diff.conflicts.append((candidate, _conflict(candidate, other)))
            diff.refused_by.add((candidate.group, other[0]))
            if own is not None and candidate.group in reclosed:
                diff.stale.append(own)
            continue
        for claim in claims:
            owner[claim] = mine
        if own is None:
            diff.new.append(candidate)
        elif own.inputs_hash == candidate.inputs_hash:
            diff.unchanged.append(candidate)
        else:
            diff.updated.append((candidate, own))
    return diff


def _latest(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Keep the last candidate of each group and id: what the open group says comes after what its closing said."""
    latest = {(c.group, c.definition.id): c for c in candidates}
    return list(latest.values())


def _conflict(candidate: Candidate, other: tuple[GroupKey, int]) -> DeadLetter:
    visit = candidate.definition
    return DeadLetter(
        reason=DeadLetterReason.VISIT_CONFLICT,
        detail=(
            f"visit {visit.id} {visit.name!r} of group {candidate.group.key!r} is claimed already by group "
            f"{other[0].key!r} as visit {other[1]}; the stored visit stays"
        ),
        instrument=visit.instrument,
        group_key=candidate.group.key,
    )
