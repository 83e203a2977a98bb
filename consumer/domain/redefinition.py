"""What a change of rule, padding or camera makes of stored exposures: pure steps of ``redefine``.

Exposures are taken apart into components that share no group, before or after, and no visit id or name: each can be
replaced in a transaction of its own.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum

from consumer.domain import (
    Defined,
    ExposureKey,
    Instrument,
    KnownExposure,
    StoredVisit,
    VisitDiff,
    define,
    diff_visits,
)
from consumer.domain.open_groups import Member, group_of_members
from consumer.model import GroupKey, RawRegion, VisitAggregate, VisitRecords


class ChangeKind(StrEnum):
    """What redefining does with a visit, or why it leaves it as it is."""

    NEW = "new"
    UPDATED = "updated"
    REMOVED = "removed"
    UNCHANGED = "unchanged"
    WAITING = "waiting"
    """Its group is open: the service defines it when the group closes."""
    CONFLICT = "conflict"
    """Another group has the visit's id or name."""
    FAILED = "failed"
    """It cannot be defined, or its regions not computed; what is stored stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitChange:
    """One visit that is, or would be, changed or left."""

    kind: ChangeKind
    instrument: str
    visit: int | None
    """None where a group defines none."""
    name: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """Exposures whose visits, stored and to be, belong to no other component."""

    instrument: str
    exposures: frozenset[ExposureKey]
    groups: frozenset[GroupKey]
    """Their groups, as they are stored and by the present rule."""


def key_of(known: KnownExposure, rules: Instrument) -> GroupKey:
    """Return the group of an exposure by the present rule."""
    return GroupKey(known.record.instrument, rules.rule.key(known.record))


def in_scope(known: Sequence[KnownExposure], wanted: Collection[int], rules: Instrument) -> list[KnownExposure]:
    """Return the exposures that are wanted, and all that share a group with one of them, before or after."""
    chosen = {each.key for each in known if each.record.id in wanted}
    while True:
        groups = {key for each in known if each.key in chosen for key in (each.group, key_of(each, rules))}
        grown = {each.key for each in known if each.group in groups or key_of(each, rules) in groups}
        if grown <= chosen:
            return [each for each in known if each.key in chosen]
        chosen |= grown


def define_groups(
    known: Iterable[KnownExposure], rules: Instrument, raws: Mapping[ExposureKey, Sequence[RawRegion]]
) -> Defined:
    """Define the visits of exposures by the present rule, every group closed."""
    members: dict[GroupKey, list[Member]] = {}
    for each in known:
        members.setdefault(key_of(each, rules), []).append(Member(each.record, rules.arrived(each)))
    closings = [group_of_members(key, members[key]) for key in sorted(members)]
    return define(closings, [], {key.instrument: rules for key in members}, raws)


def components(
    known: Sequence[KnownExposure], defined: Defined, stored: Sequence[StoredVisit], rules: Instrument
) -> list[Component]:
    """Take exposures apart.

    Parameters
    ----------
    known
        All exposures of the groups concerned, of one instrument.
    defined
        What they define by the present rule.
    stored
        The visits that are stored of these groups, or with ids or names that are defined.
    rules
        Of the instrument.

    Returns
    -------
    components
        In order of their smallest exposure.
    """
    joined = _Joined()
    for each in known:
        joined.join(each.key, ("group", each.group), ("group", key_of(each, rules)))
    for candidate in defined.candidates:
        joined.join(("group", candidate.group), ("id", candidate.definition.id), ("name", candidate.definition.name))
    ours = {each.group for each in known}
    for visit in stored:
        if visit.group in ours:
            joined.join(("group", visit.group), ("id", visit.id), ("name", visit.name))
    parts: dict[object, list[KnownExposure]] = {}
    for each in sorted(known, key=lambda k: k.key):
        parts.setdefault(joined.root(each.key), []).append(each)
    return [
        Component(
            instrument=part[0].record.instrument,
            exposures=frozenset(each.key for each in part),
            groups=frozenset(key for each in part for key in (each.group, key_of(each, rules))),
        )
        for part in parts.values()
    ]


def judge(
    known: Collection[KnownExposure], defined: Defined, stored: Sequence[StoredVisit], rules: Instrument
) -> VisitDiff:
    """Compare what a component defines with what is stored.

    A stored visit of one of its former groups belongs to the group that defines its id now, or is stale.
    """
    former = {each.group for each in known}
    owners = {candidate.definition.id: candidate.group for candidate in reversed(defined.candidates)}
    reclosed = replace(defined, closed=defined.closed | former)
    regrouped = [
        each._replace(group=owners.get(each.id, each.group)) if each.group in reclosed.closed else each
        for each in stored
    ]
    instrument = next(iter(former)).instrument
    # An operator who redefines wants what is stored replaced, whatever holds for exposures that come late.
    return diff_visits(reclosed, regrouped, {instrument: replace(rules, keep_stored=False)})


def differences(old: VisitRecords, new: VisitRecords) -> list[str]:
    """Return what differs between two versions of a visit, for people."""
    differences = [
        f"{name} {getattr(old.aggregate, name)} -> {getattr(new.aggregate, name)}"
        for name in (each.name for each in fields(VisitAggregate))
        if getattr(old.aggregate, name) != getattr(new.aggregate, name)
    ]
    pairs = (
        ("name", old.definition.name, new.definition.name),
        ("exposures", _ids(old), _ids(new)),
        ("systems", old.definition.visit_systems, new.definition.visit_systems),
        ("complete", old.definition.complete, new.definition.complete),
        ("group", old.group.key, new.group.key),
        ("rule", old.rule, new.rule),
        ("algorithm", old.algorithm, new.algorithm),
        ("camera", old.regions.camera_version, new.regions.camera_version),
        ("padding", old.padding, new.padding),
        ("detectors", len(old.regions.detectors), len(new.regions.detectors)),
    )
    differences = [f"{name} {before} -> {after}" for name, before, after in pairs if before != after] + differences
    moved = sum(
        before != after
        for before, after in zip(old.regions.detector_regions, new.regions.detector_regions, strict=False)
    )
    if old.regions.visit != new.regions.visit or moved:
        differences.append("regions")
    return differences or ["settings of the algorithm or fields of the exposures"]


class _Joined:
    """Disjoint sets of labels."""

    def __init__(self) -> None:
        self._parent: dict[object, object] = {}

    def root(self, label: object) -> object:
        while (parent := self._parent.setdefault(label, label)) != label:
            self._parent[label] = self._parent[parent]
            label = parent
        return label

    def join(self, first: object, *others: object) -> None:
        for other in others:
            self._parent[self.root(other)] = self.root(first)


def _ids(records: VisitRecords) -> tuple[int, ...]:
    return tuple(sorted(e.id for e in records.definition.exposures))
