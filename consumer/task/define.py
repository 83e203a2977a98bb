"""Define the visits of a given list of exposures: the core of the batch driver.

The same rules, aggregates, hashes and regions as the service's; what differs is that the whole list is at hand, so that
every group is closed at once. Pure but for the store that it is handed: no clock, no log, no database of its own.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
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
)
from consumer.regions import RegionAlgorithm, same_region


class DefineError(VisitConsumerError, RuntimeError):
    """A batch of exposures cannot be worked on as it was given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DefineOptions:
    """How a batch treats visits that are stored already; named as `DefineVisitsTask` names them."""

    update_records: bool = False
    """Rewrite the rows and the detector regions of stored visits that differ."""
    incremental: bool = False
    """Add to stored visits: their members count beside the given exposures, and rows that differ are rewritten."""
    skip_conflicting: bool = False
    """Leave stored visits that differ alone, instead of failing."""
    prefilter: bool = False
    """Do not even compute visits that are stored with the same members."""
    check_detector_regions: bool = False
    """Compare detector regions too where the visit's own row is the same."""


@dataclass(slots=True, kw_only=True)
class DefineResult:
    """Counts of visits, named as the original's; their sum, ``n_visits`` apart, is ``n_visits``."""

    n_visits: int = 0
    """Visits that the exposures define."""
    n_skipped: int = 0
    """Stored visits left as they were: the same, or different and skipped for it."""
    n_new: int = 0
    n_fully_updated: int = 0
    """Stored visits whose rows were rewritten with their detector regions."""
    n_partially_updated: int = 0
    """Stored visits whose rows were rewritten, but not their detector regions, which were the same."""
    n_filtered: int = 0
    """Stored visits that were not computed; see `DefineOptions.prefilter`."""


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

    def stored_visits(self, instrument: str, visits: Collection[int]) -> Mapping[int, VisitRecords]:
        """Return those of these visits that are kept."""
        return {visit: self.visits[instrument, visit] for visit in visits if (instrument, visit) in self.visits}

    def group_members(self, groups: Collection[GroupKey]) -> Sequence[Exposure]:
        """Return the members of the visits that are kept of these groups."""
        return [e for records in self.visits.values() if records.group in groups for e in records.definition.exposures]

    def raw_regions(self, instrument: str, exposures: Collection[int]) -> Sequence[RawRegion]:
        """Return what is kept of these exposures' raws."""
        return [raw for raw in self.raws if raw.instrument == instrument and raw.exposure in exposures]

    def write(self, records: VisitRecords, *, detector_regions: bool) -> None:  # noqa: ARG002  # all is kept as one
        """Keep the rows of one visit."""
        self.visits[records.definition.instrument, records.definition.id] = records


class OfflineCandidate(NamedTuple):
    """One visit of the batch before its regions are known."""

    group: GroupKey
    definition: VisitDefinition
    raws: tuple[RawRegion, ...]
    stored: VisitRecords | None


class OfflineChange(Enum):
    """What a batch does with one visit; each is counted in the field of `DefineResult` of its name."""

    SKIPPED = auto()
    NEW = auto()
    FULLY_UPDATED = auto()
    PARTIALLY_UPDATED = auto()
    FILTERED = auto()

    def count(self, result: DefineResult) -> None:
        """Add one to the field of this name."""
        name = f"n_{self.name.lower()}"
        setattr(result, name, getattr(result, name) + 1)


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
    options: DefineOptions,
    result: DefineResult,
) -> list[OfflineCandidate]:
    """Look up what is stored of each visit, and leave out what needs no work.

    Parameters
    ----------
    definitions
        The visits, with the group of each.
    store
        Where visits are stored.
    options
        What to do with visits that are stored already.
    result
        Counts, to be added to.

    Returns
    -------
    candidates
        The visits to compute, in the order given.

    Raises
    ------
    GroupError
        When two groups claim one visit id, unless conflicts are skipped: then the first of them stays.
    """
    claimed: dict[int, tuple[GroupKey, VisitDefinition]] = {}
    for key, definition in definitions:
        result.n_visits += 1
        first, _ = claimed.setdefault(definition.id, (key, definition))
        if claimed[definition.id][1] is definition:
            continue
        if not options.skip_conflicting:
            raise _conflict(f"the groups {first.key!r} and {key.key!r} of {key.instrument} claim visit {definition.id}")
        OfflineChange.SKIPPED.count(result)
    if not claimed:
        return []
    instrument = next(iter(claimed.values()))[0].instrument
    stored = store.stored_visits(instrument, claimed.keys())
    raws: dict[int, list[RawRegion]] = {}
    for raw in store.raw_regions(instrument, {e.id for _, d in claimed.values() for e in d.exposures}):
        raws.setdefault(raw.exposure, []).append(raw)
    candidates = []
    for visit, (key, definition) in claimed.items():
        old = stored.get(visit)
        if options.prefilter and old is not None and _members(old.definition) == _members(definition):
            OfflineChange.FILTERED.count(result)
            continue
        of_visit = tuple(raw for e in definition.exposures for raw in raws.get(e.id, ()))
        candidates.append(OfflineCandidate(key, definition, of_visit, old))
    return candidates


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

    Regions are computed only where the inputs have changed. All visits are finished before the first is written.

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
    GroupError
        When a stored visit differs and the options say nothing of it, or when the change would remove a member.
    RegionError
        When regions cannot be computed.
    """
    pending: list[tuple[OfflineCandidate, bytes]] = []
    for candidate in candidates:
        hashed = _hash_of(candidate, rule, algorithm)
        unchanged = candidate.stored is not None and candidate.stored.inputs_hash == hashed
        if unchanged and not options.check_detector_regions:
            OfflineChange.SKIPPED.count(result)
        else:
            pending.append((candidate, hashed))
    finished: list[tuple[OfflineChange, VisitRecords]] = []
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
        finished.append((_change(candidate.stored, records, options), records))
    for change, records in finished:
        if change is not OfflineChange.SKIPPED:
            store.write(records, detector_regions=change is not OfflineChange.PARTIALLY_UPDATED)
        change.count(result)


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


def _change(stored: VisitRecords | None, records: VisitRecords, options: DefineOptions) -> OfflineChange:
    if stored is None:
        return OfflineChange.NEW
    row_differs = _row(stored) != _row(records)
    region_differs = not same_region(stored.regions.visit, records.regions.visit)
    differs = row_differs or region_differs
    if options.check_detector_regions and not differs:
        region_differs = differs = not _same_detector_regions(stored.regions, records.regions)
    if not differs:
        return OfflineChange.SKIPPED
    removed = _members(stored.definition) - _members(records.definition)
    if (options.update_records or options.incremental) and not removed:
        return (
            OfflineChange.FULLY_UPDATED if options.update_records or region_differs else OfflineChange.PARTIALLY_UPDATED
        )
    if options.skip_conflicting:
        return OfflineChange.SKIPPED
    visit = records.definition
    if removed:
        raise _conflict(
            f"visit {visit.id} of {visit.instrument} is stored with exposures that it would lose: "
            + ", ".join(map(str, sorted(removed)))
        )
    raise _conflict(
        f"visit {visit.id} of {visit.instrument} is stored and differs; update_records, incremental or "
        "skip_conflicting say what to do with it"
    )


def _conflict(detail: str) -> GroupError:
    return GroupError(DeadLetterReason.VISIT_CONFLICT, detail)


def _members(definition: VisitDefinition) -> set[int]:
    return {e.id for e in definition.exposures}


def _row(records: VisitRecords) -> tuple[object, ...]:
    definition = records.definition
    return (definition.name, definition.visit_systems, _members(definition), definition.complete, records.aggregate)


def _same_detector_regions(one: VisitRegions, other: VisitRegions) -> bool:
    return one.detectors == other.detectors and all(
        same_region(a, b) for a, b in zip(one.detector_regions, other.detector_regions, strict=True)
    )
