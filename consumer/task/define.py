"""Define the visits of a given list of exposures: the core of the batch driver.

The same rules, aggregates, hashes and regions as the service's; what differs is that the whole list is at hand, so that
every group is closed at once. Pure but for the store that it is handed: no clock, no log, no database of its own.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from consumer.domain.record_merge import merge_record
from consumer.domain.visit_records import inputs_hash, make_records
from consumer.errors import DeadLetterReason, GroupError, VisitConsumerError
from consumer.grouping import GroupingRule, Skip
from consumer.model import (
    CloseReason,
    Exposure,
    Group,
    GroupKey,
    RawRegion,
    VisitDefinition,
    VisitRecords,
    VisitRegions,
    in_time_order,
)
from consumer.regions import RegionAlgorithm, same_region
from consumer.task.options import OUTCOMES, OfflineChange, Situation


class ConflictingDefinitionError(GroupError):
    """A visit is stored, or claimed by another group, with other values; named as the Butler's error is."""

    def __init__(self, detail: str) -> None:
        super().__init__(DeadLetterReason.VISIT_CONFLICT, detail)


class DatabaseConflictError(ConflictingDefinitionError):
    """The same, as the original raises it."""


class DefineError(VisitConsumerError, RuntimeError):
    """A batch of exposures cannot be worked on as it was given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DefineOptions:
    """How a batch treats visits that are stored already; named as `DefineVisitsTask` names them."""

    update_records: bool = False
    """Rewrite the rows and the detector regions of stored visits; members that are stored besides stay members."""
    incremental: bool = False
    """Add to stored visits: their members count beside the given exposures, and rows that differ are rewritten."""
    skip_conflicting: bool = False
    """Leave stored visits that differ alone, instead of failing."""
    prefilter: bool = False
    """Do not even look at exposures that are members of a stored visit."""
    check_detector_regions: bool = False
    """Restore detector regions that are missing where the visit's own row is the same."""

    def __post_init__(self) -> None:
        """Refuse options that exclude each other.

        Raises
        ------
        TypeError
            When `prefilter` is combined with `update_records` or `incremental`.
        """
        if self.prefilter and (self.update_records or self.incremental):
            raise TypeError("prefilter=True cannot be used with update_records=True or incremental=True")


@dataclass(slots=True, kw_only=True)
class DefineResult:
    """Counts of visits, named as the original's; the sum of those between the first and the last is the first."""

    n_visits: int = 0
    """Visits that the exposures define; those of exposures that `n_filtered` counts are left out."""
    n_skipped: int = 0
    """Stored visits left as they were: the same, or different and skipped for it."""
    n_new: int = 0
    n_fully_updated: int = 0
    """Stored visits whose rows were rewritten with their detector regions, or whose lost regions were restored."""
    n_partially_updated: int = 0
    """Stored visits whose rows were rewritten, but not their detector regions, which were the same."""
    n_filtered: int = 0
    """Exposures that were not looked at; see `DefineOptions.prefilter`."""


class VisitStore(Protocol):
    """Where a batch finds stored visits and puts its own."""

    def stored_visits(self, instrument: str, visits: Collection[int]) -> Mapping[int, VisitRecords]:
        """Return those of these visits that are stored, with every row."""
        ...

    def group_members(self, groups: Collection[GroupKey]) -> Sequence[Exposure]:
        """Return the stored exposures of these groups; those off sky may be among them."""
        ...

    def raw_regions(self, instrument: str, exposures: Collection[int]) -> Sequence[RawRegion]:
        """Return what is stored of the own WCS of these exposures' raws."""
        ...

    def exposures(self, instrument: str, ids: Collection[int]) -> Sequence[Exposure]:
        """Return those of these exposures that are stored."""
        ...

    def write(self, records: VisitRecords, *, detector_regions: bool) -> None:
        """Put the rows of one visit in the place of those that are stored, in one transaction.

        Parameters
        ----------
        records
            Every row of the visit.
        detector_regions
            False leaves the stored detector regions alone: they are the same.
        """
        ...


@dataclass(frozen=True, slots=True)
class MemoryStore:
    """Keeps visits in memory, where there is no database."""

    visits: dict[tuple[str, int], VisitRecords] = field(default_factory=dict)
    raws: tuple[RawRegion, ...] = ()
    registered: tuple[Exposure, ...] = ()
    """Exposures that data ids may name, besides the members of visits."""

    def stored_visits(self, instrument: str, visits: Collection[int]) -> Mapping[int, VisitRecords]:
        """Return those of these visits that are kept."""
        return {visit: self.visits[instrument, visit] for visit in visits if (instrument, visit) in self.visits}

    def group_members(self, groups: Collection[GroupKey]) -> Sequence[Exposure]:
        """Return the members of the visits that are kept of these groups."""
        return [e for records in self.visits.values() if records.group in groups for e in records.definition.exposures]

    def raw_regions(self, instrument: str, exposures: Collection[int]) -> Sequence[RawRegion]:
        """Return what is kept of these exposures' raws."""
        return [raw for raw in self.raws if raw.instrument == instrument and raw.exposure in exposures]

    def exposures(self, instrument: str, ids: Collection[int]) -> Sequence[Exposure]:
        """Return those of these exposures that are registered, or members of visits."""
        known = (*(e for v in self.visits.values() for e in v.definition.exposures), *self.registered)
        return list({e.id: e for e in known if e.instrument == instrument and e.id in ids}.values())

    def write(self, records: VisitRecords, *, detector_regions: bool) -> None:  # noqa: ARG002  # all is kept as one
        """Keep the rows of one visit."""
        self.visits[records.definition.instrument, records.definition.id] = records


class OfflineCandidate(NamedTuple):
    """One visit of the batch before its regions are known."""

    group: GroupKey
    definition: VisitDefinition
    raws: tuple[RawRegion, ...]
    stored: VisitRecords | None
    claimed_by: GroupKey | None = None
    """The other group that this batch has given the id."""


ComputeRegions = Callable[[Sequence[OfflineCandidate]], Iterable[VisitRegions]]
"""Computes the regions of many visits, in their order."""


def merge_exposures(exposures: Iterable[Exposure]) -> list[Exposure]:
    """Make one record of each exposure, whatever the number and order of its copies.

    Raises
    ------
    DefineError
        When there are none, when they are of more than one instrument, or when two records of one exposure contradict
        each other.
    """
    merged: dict[tuple[str, int], Exposure] = {}
    for exposure in exposures:
        key = (exposure.instrument, exposure.id)
        outcome = merge_record(merged.get(key, exposure), exposure)
        if outcome.contradictions:
            raise DefineError(f"two records of exposure {exposure.id} contradict each other: {outcome.detail}")
        merged[key] = outcome.exposure
    if not merged:
        raise DefineError("no exposures were given")
    instruments = sorted({instrument for instrument, _ in merged})
    if len(instruments) > 1:
        raise DefineError(f"all exposures must be of one instrument; these are of {', '.join(instruments)}")
    return list(merged.values())


def group_exposures(
    rule: GroupingRule, exposures: Iterable[Exposure]
) -> tuple[list[tuple[GroupKey, VisitDefinition]], list[Skip]]:
    """Group exposures and define the visits of every group.

    Returns
    -------
    definitions
        With the group of each, ordered by id.
    skips
        What defines no visit.

    Raises
    ------
    GroupError
        When a group can have no visit id.
    """
    groups: dict[GroupKey, list[Exposure]] = {}
    for exposure in exposures:
        groups.setdefault(GroupKey(exposure.instrument, rule.key(exposure)), []).append(exposure)
    definitions: list[tuple[GroupKey, VisitDefinition]] = []
    skips: list[Skip] = []
    for key in sorted(groups):
        made = rule.define(Group(key=key, exposures=tuple(groups[key])), closed=True)
        definitions += [(key, visit) for visit in made.visits]
        skips += made.skips
    return sorted(definitions, key=lambda pair: (pair[1].id, pair[0])), skips


def with_stored_members(rule: GroupingRule, exposures: Sequence[Exposure], store: VisitStore) -> list[Exposure]:
    """Add the stored exposures of the groups that these are of; a given record stands before the stored one."""
    known = {e.id: e for e in exposures}
    for member in store.group_members({GroupKey(e.instrument, rule.key(e)) for e in exposures}):
        known.setdefault(member.id, member)
    return list(known.values())


def find_candidates(
    definitions: Iterable[tuple[GroupKey, VisitDefinition]],
    store: VisitStore,
    result: DefineResult,
) -> list[OfflineCandidate]:
    """Look up what is stored of each visit.

    Parameters
    ----------
    definitions
        The visits, with the group of each.
    store
        Where visits are stored.
    result
        Counts, to be added to.

    Returns
    -------
    candidates
        The visits, in the order given; of groups that claim one id the first has it.
    """
    claimed: dict[int, GroupKey] = {}
    ordered = list(definitions)
    result.n_visits += len(ordered)
    if not ordered:
        return []
    instrument = ordered[0][0].instrument
    stored = store.stored_visits(instrument, {d.id for _, d in ordered})
    raws: dict[int, list[RawRegion]] = {}
    for raw in store.raw_regions(instrument, {e.id for _, d in ordered for e in d.exposures}):
        raws.setdefault(raw.exposure, []).append(raw)
    candidates = []
    for key, definition in ordered:
        of_visit = tuple(raw for e in definition.exposures for raw in raws.get(e.id, ()))
        other = claimed.setdefault(definition.id, key)
        candidates.append(
            OfflineCandidate(
                key, definition, of_visit, stored.get(definition.id), claimed_by=other if other != key else None
            )
        )
    return candidates


def without_stored(
    rule: GroupingRule,
    exposures: Sequence[Exposure],
    store: VisitStore,
    *,
    result: DefineResult,
    is_whole: Callable[[Sequence[VisitRecords]], Collection[int]] | None,
) -> list[Exposure]:
    """Leave out exposures that are members of stored visits, and count them.

    Parameters
    ----------
    rule
        Defines the visits that are looked up.
    exposures
        Of one instrument.
    store
        Where visits are stored.
    result
        Counts, to be added to.
    is_whole
        Returns the ids of those of some stored visits that have all their detector regions; members of others are not
        left out. None: nobody asks.
    """
    definitions, _ = group_exposures(rule, exposures)
    stored = store.stored_visits(exposures[0].instrument, {d.id for _, d in definitions})
    broken = set() if is_whole is None else stored.keys() - set(is_whole(list(stored.values())))
    members = {e.id for v in stored.values() for e in v.definition.exposures}
    members -= {e.id for visit in broken for e in stored[visit].definition.exposures}
    rest = [e for e in exposures if e.id not in members]
    result.n_filtered += len(exposures) - len(rest)
    return rest


def define_batch(
    candidates: Sequence[OfflineCandidate],
    *,
    rule: GroupingRule,
    algorithm: RegionAlgorithm,
    compute: ComputeRegions,
    store: VisitStore,
    options: DefineOptions,
    result: DefineResult,
) -> None:
    """Compute the rows of visits and store those that are new or, where the options say so, different.

    Regions are computed where the inputs have changed or the options ask for them, and before the first is written.

    Parameters
    ----------
    candidates
        The visits.
    rule, algorithm
        What defined them and what computes their regions.
    compute
        Computes the regions of many visits; here is where a pool of processes comes in.
    store
        Where they are stored.
    options
        What to do with visits that are stored already.
    result
        Counts, to be added to.

    Raises
    ------
    DatabaseConflictError
        When a stored visit differs, or two groups claim one id, and the options say nothing of it. Visits with lower
        ids are stored then.
    RegionError
        When regions cannot be computed.
    """
    pending: list[tuple[OfflineCandidate, bytes]] = []
    for candidate in candidates:
        hashed = _hash_of(candidate, rule, algorithm)
        unchanged = candidate.stored is not None and candidate.stored.inputs_hash == hashed
        if unchanged and not options.check_detector_regions and not options.update_records:
            _count(OfflineChange.SKIPPED, result)
        else:
            pending.append((candidate, hashed))
    for (candidate, hashed), regions in zip(pending, compute([c for c, _ in pending]), strict=True):
        records = make_records(
            candidate.definition,
            group=candidate.group,
            regions=regions,
            hashed=hashed,
            rule=rule.name,
            algorithm=algorithm.name,
            padding=algorithm.padding,
            # A batch has all that will come: what is not complete closes as a group that has fallen silent would.
            close_reason=CloseReason.COMPLETE if candidate.definition.complete else CloseReason.IDLE,
        )
        change, kept = _change(candidate, records, options)
        if kept is not None:
            store.write(kept, detector_regions=change is not OfflineChange.PARTIALLY_UPDATED)
        _count(change, result)


def _count(change: OfflineChange, result: DefineResult) -> None:
    name = f"n_{change}"
    setattr(result, name, getattr(result, name) + 1)


def _hash_of(candidate: OfflineCandidate, rule: GroupingRule, algorithm: RegionAlgorithm) -> bytes:
    return inputs_hash(
        candidate.definition,
        group=candidate.group,
        rule=rule.name,
        algorithm=algorithm.name,
        padding=algorithm.padding,
        fingerprint=algorithm.fingerprint(candidate.definition.exposures),
        raws=candidate.raws,
    )


def _change(
    candidate: OfflineCandidate, records: VisitRecords, options: DefineOptions
) -> tuple[OfflineChange, VisitRecords | None]:
    """Return what becomes of a visit, and its rows if they are to be written; see `consumer.task.options.OUTCOMES`."""
    stored = candidate.stored
    situation = _situation(candidate, records)
    for outcome in OUTCOMES:
        if situation in outcome.situations and (outcome.option is None or getattr(options, outcome.option)):
            break
    if outcome.change is None:
        raise _conflict(candidate)
    if outcome.change is OfflineChange.SKIPPED:
        return outcome.change, None
    if stored is None:
        return outcome.change, records
    if outcome.option == "check_detector_regions":
        return outcome.change, replace(stored, regions=_restored(stored.regions, records.regions))
    if situation is Situation.SAME and _same_detector_regions(stored.regions, records.regions):
        return outcome.change, None
    return outcome.change, _with_members(records, stored)


def _situation(candidate: OfflineCandidate, records: VisitRecords) -> Situation:
    stored = candidate.stored
    if candidate.claimed_by is not None:
        return Situation.CLAIMED
    if stored is None:
        return Situation.NEW
    if not same_region(stored.regions.visit, records.regions.visit):
        return Situation.REGION_DIFFERS
    if _row(stored) != _row(records):
        return Situation.ROW_DIFFERS
    whole = {*records.regions.detectors} <= {*stored.regions.detectors}
    return Situation.SAME if whole else Situation.REGIONS_MISSING


def _conflict(candidate: OfflineCandidate) -> DatabaseConflictError:
    name = f"visit {candidate.definition.id} of {candidate.definition.instrument}"
    if candidate.claimed_by is not None:
        groups = f"{candidate.claimed_by.key!r} and {candidate.group.key!r}"
        return DatabaseConflictError(f"{name}: the groups {groups} claim it")
    return DatabaseConflictError(
        f"{name} is stored and differs; update_records, incremental or skip_conflicting say what to do with it"
    )


def _with_members(records: VisitRecords, stored: VisitRecords) -> VisitRecords:
    """Keep stored members that were not given: the original removes no row of ``visit_definition``."""
    known = _members(records.definition)
    others = tuple(e for e in stored.definition.exposures if e.id not in known)
    if not others:
        return records
    members = in_time_order((*records.definition.exposures, *others))
    return replace(records, definition=replace(records.definition, exposures=members))


def _restored(stored: VisitRegions, computed: VisitRegions) -> VisitRegions:
    """Add the detector regions that are missing; those that are there stay, also where they differ."""
    merged = dict(zip(computed.detectors, computed.detector_regions, strict=True))
    merged |= dict(zip(stored.detectors, stored.detector_regions, strict=True))
    return replace(stored, detectors=tuple(sorted(merged)), detector_regions=tuple(merged[n] for n in sorted(merged)))


def _members(definition: VisitDefinition) -> set[int]:
    return {e.id for e in definition.exposures}


def _row(records: VisitRecords) -> tuple[object, ...]:
    definition = records.definition
    return (definition.name, definition.visit_systems, _members(definition), definition.complete, records.aggregate)


def _same_detector_regions(one: VisitRegions, other: VisitRegions) -> bool:
    return one.detectors == other.detectors and all(
        same_region(a, b) for a, b in zip(one.detector_regions, other.detector_regions, strict=True)
    )
