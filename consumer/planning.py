"""What one batch of events means for the tables: pure steps between the reads and the writes of its transaction.

``events -> sightings -> merged exposures and changes -> closings -> candidate visits -> verdicts``

The transaction (`consumer.transaction`) loads what each step needs to know and writes what the steps decide. Nothing
here does I/O or reads a clock.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, cast

from consumer.buffer import Change, Closing, Member
from consumer.closing import ClosingPolicy
from consumer.errors import DeadLetterReason, GroupError
from consumer.grouping import GroupingRule, Skip
from consumer.merging import merge_record
from consumer.model import (
    CloseReason,
    DeadLetter,
    Exposure,
    GroupKey,
    Message,
    RawIngested,
    RawRegion,
    SkipReason,
    VisitDefinition,
)
from consumer.regions import RegionAlgorithm
from consumer.visits import inputs_hash


@dataclass(frozen=True, slots=True, kw_only=True)
class InstrumentRules:
    """How the exposures of one instrument become visits: its configuration, resolved to objects."""

    rule: GroupingRule
    algorithm: RegionAlgorithm
    closing: ClosingPolicy = field(default_factory=ClosingPolicy)
    required_detectors: int = 0
    """Bit mask of the detectors whose raws must have arrived before an exposure counts as arrived; 0: any raw does."""
    ignore_non_science: bool = True
    """Whether exposures that are not on sky are skipped; otherwise they are dead letters."""
    keep_stored: bool = False
    """``on_change: keep``: a late exposure does not redefine its visit."""

    @property
    def buffers(self) -> bool:
        """Whether groups wait at all: for other exposures, or for the raws that matter."""
        return self.rule.buffers or self.required_detectors != 0

    def arrived(self, detectors: int) -> bool:
        """Whether an exposure of which these detectors (bit mask) were announced counts as arrived."""
        return detectors & self.required_detectors == self.required_detectors

    def complete(self, members: Iterable[Member]) -> bool:
        """Whether these are known to be all exposures of their group, arrived."""
        return self.rule.complete([m.exposure for m in members if m.arrived]) is True


class ExposureKey(NamedTuple):
    """Names one exposure."""

    instrument: str
    id: int


class Event(NamedTuple):
    """One decoded event with the message that carried it, and its partition's stream time once it is applied."""

    message: Message
    clock: int
    clock_ms: int
    raw: RawIngested
    region: RawRegion | None


# A named tuple's own constructor takes three times as long; this one runs for every event.
new_event = cast(
    "Callable[[tuple[Message, int, int, RawIngested, RawRegion | None]], Event]", partial(tuple.__new__, Event)
)
"""Make an `Event` of a tuple of its fields."""


class KnownExposure(NamedTuple):
    """One exposure as it is stored: its record, its group, and which detectors were announced (bit mask)."""

    record: Exposure
    group: GroupKey
    detectors: int

    @property
    def key(self) -> ExposureKey:
        """Name of the exposure."""
        return ExposureKey(self.record.instrument, self.record.id)


@dataclass(slots=True)
class Sighting:
    """Raws of one batch that announce one record of one exposure; they differ in nothing but the detector."""

    exposure: Exposure
    clock: int
    clock_ms: int
    """Stream time at the first of them."""
    detectors: int
    events: list[Event]


def collate(events: Sequence[Event], rules: Mapping[str, InstrumentRules]) -> list[Sighting]:
    """Fold the raws of a batch into sightings, in the order in which each record was first read.

    The decoder gives raws that repeat a record one and the same `Exposure` object, so that object's identity decides,
    and most events cost a dictionary look-up. Where single raws matter (``required_detectors``, headers), a raw that
    brings a region of its own is a sighting by itself, because it may complete its exposure. So is one whose record was
    seen before another record of the same exposure: what it means depends on what came between.
    """
    sightings: list[Sighting] = []
    by_record: dict[int, Sighting] = {}
    record_of: dict[ExposureKey, int] = {}
    waits = {name for name, each in rules.items() if each.required_detectors}
    for event in events:
        exposure = event.raw.exposure
        sighting = by_record.get(id(exposure))
        if sighting is None or event.region is not None or exposure.instrument in waits:
            sighting = Sighting(exposure, event.clock, event.clock_ms, 1 << event.raw.detector, [event])
            by_record[id(exposure)] = sighting
            sightings.append(sighting)
            key = ExposureKey(exposure.instrument, exposure.id)
            other = record_of.get(key)
            if other is not None and other != id(exposure):
                by_record.pop(other, None)
            record_of[key] = id(exposure)
        else:
            sighting.detectors |= 1 << event.raw.detector
            sighting.events.append(event)
    return sightings


@dataclass(slots=True)
class Merged:
    """What the sightings of a batch make of the exposures that were stored."""

    exposures: dict[ExposureKey, KnownExposure] = field(default_factory=dict)
    before: dict[ExposureKey, KnownExposure | None] = field(default_factory=dict)
    """The same exposures as they were stored; None for those that are new."""
    changes: list[Change] = field(default_factory=list)
    regions: dict[tuple[str, int, int], RawRegion] = field(default_factory=dict)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    new: Counter[str] = field(default_factory=Counter)
    """Raws that were not known, by instrument; so are the next two."""
    repeated: Counter[str] = field(default_factory=Counter)
    contradicting: Counter[str] = field(default_factory=Counter)
    off_sky: list[tuple[str, SkipReason]] = field(default_factory=list)
    """Instrument and reason of each exposure that since this batch defines no visit."""
    not_off_sky_any_more: set[ExposureKey] = field(default_factory=set)
    """Exposures that were off sky and are corrected: what was said of them holds no longer."""


def merge(
    sightings: Sequence[Sighting],
    stored: Mapping[ExposureKey, KnownExposure],
    stored_regions: Mapping[tuple[str, int, int], RawRegion],
    rules: Mapping[str, InstrumentRules],
) -> Merged:
    """Merge the sightings of a batch, in order, into the exposures as they were before it.

    Parameters
    ----------
    sightings
        Of the batch, in the order in which they were read.
    stored
        The batch's exposures, as far as they are stored.
    stored_regions
        The raw regions that are stored, by instrument, exposure and detector.
    rules
        By instrument; every instrument of the batch has them.
    """
    merged = Merged()
    for sighting in sightings:
        _merge_one(merged, sighting, stored, stored_regions, rules[sighting.exposure.instrument])
    for key, known in merged.exposures.items():
        _account_off_sky(merged, merged.before[key], known, rules[key.instrument])
    return merged


def _merge_one(
    merged: Merged,
    sighting: Sighting,
    stored: Mapping[ExposureKey, KnownExposure],
    stored_regions: Mapping[tuple[str, int, int], RawRegion],
    rules: InstrumentRules,
) -> None:
    incoming = sighting.exposure
    key = ExposureKey(incoming.instrument, incoming.id)
    known = merged.exposures.get(key) or stored.get(key)
    record, changed = incoming, True
    if known is not None:
        outcome = merge_record(known.record, incoming)
        if outcome.contradictions:
            merged.contradicting[incoming.instrument] += len(sighting.events)
            merged.dead_letters += [
                DeadLetter(
                    reason=DeadLetterReason.CONTRADICTION,
                    detail=outcome.detail,
                    instrument=incoming.instrument,
                    exposure=incoming.id,
                    message=event.message,
                )
                for event in sighting.events
            ]
            return
        record, changed = outcome.exposure, outcome.changed
    before = 0 if known is None else known.detectors
    detectors = before | sighting.detectors
    new = (detectors & ~before).bit_count()
    merged.new[incoming.instrument] += new
    merged.repeated[incoming.instrument] += len(sighting.events) - new
    group = GroupKey(record.instrument, rules.rule.key(record)) if changed or known is None else known.group
    merged.before.setdefault(key, stored.get(key))
    merged.exposures[key] = KnownExposure(record, group, detectors)
    new_region = _keep_region(merged, sighting, stored_regions)
    if changed or new_region or rules.arrived(detectors) != rules.arrived(before):
        merged.changes.append(
            Change(
                clock=sighting.clock,
                clock_ms=sighting.clock_ms,
                member=Member(record, rules.arrived(detectors)),
                key=group,
                former_key=None if known is None else known.group,
            )
        )


def _keep_region(merged: Merged, sighting: Sighting, stored_regions: Mapping[tuple[str, int, int], RawRegion]) -> bool:
    """Keep a raw's own region unless one of its version or a later one is known, as with the record it came with."""
    region = sighting.events[0].region
    if region is None:
        return False
    key = (region.instrument, region.exposure, region.detector)
    known = merged.regions.get(key) or stored_regions.get(key)
    if known is not None and known.record_version >= region.record_version:
        return False
    merged.regions[key] = region
    return True


def _account_off_sky(
    merged: Merged, before: KnownExposure | None, known: KnownExposure, rules: InstrumentRules
) -> None:
    """Compare an exposure before and after the batch: borders between batches decide nothing that stays."""
    reason = known.record.off_sky_reason
    if before is not None:
        if (before.record.off_sky_reason, before.group) == (reason, known.group):
            return
        if before.record.off_sky_reason is not None and not rules.ignore_non_science:
            merged.not_off_sky_any_more.add(known.key)
    if reason is None:
        return
    merged.off_sky.append((known.record.instrument, reason))
    if not rules.ignore_non_science:
        merged.dead_letters.append(
            DeadLetter(
                reason=DeadLetterReason.NOT_ON_SKY,
                detail=f"exposure {known.record.id} of {known.record.instrument} defines no visit: {reason}",
                instrument=known.record.instrument,
                exposure=known.record.id,
                group_key=known.group.key,
            )
        )


class Candidate(NamedTuple):
    """One visit that a batch defines, before it is compared with what is stored."""

    definition: VisitDefinition
    group: GroupKey
    reason: CloseReason
    inputs_hash: bytes
    raws: tuple[RawRegion, ...]
    last_ms: int
    """Stream time of the last message that it needed, UTC milliseconds."""


@dataclass(slots=True)
class Defined:
    """What the groups of a batch define."""

    candidates: list[Candidate] = field(default_factory=list)
    closed: set[GroupKey] = field(default_factory=set)
    """Groups all of whose visits are among the candidates: others that are stored for them are stale."""
    failed: set[GroupKey] = field(default_factory=set)
    """Groups that closed and cannot be defined: whatever is stored for them is stale."""
    skips: list[tuple[GroupKey, Skip]] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)


def define(
    closings: Iterable[Closing],
    opened: Iterable[Closing],
    rules: Mapping[str, InstrumentRules],
    raws: Mapping[ExposureKey, Sequence[RawRegion]],
) -> Defined:
    """Turn the groups that closed, and the open ones that changed, into candidate visits.

    Parameters
    ----------
    closings
        One of each group that closed.
    opened
        Groups that are open and changed; one may have closed before that.
    rules
        By instrument.
    raws
        What the raws' own WCS say, by exposure, for instruments whose regions need it.
    """
    defined = Defined()
    for closing in closings:
        _define_group(defined, closing, rules[closing.group.key.instrument], raws, closed=True)
    for closing in opened:
        _define_group(defined, closing, rules[closing.group.key.instrument], raws, closed=False)
    return defined


def _define_group(
    defined: Defined,
    closing: Closing,
    rules: InstrumentRules,
    raws: Mapping[ExposureKey, Sequence[RawRegion]],
    *,
    closed: bool,
) -> None:
    group = closing.group
    try:
        if closed:
            _require_raws(closing)
        made = rules.rule.define(group, closed=closed)
        candidates = [_candidate(visit, closing, rules, raws) for visit in made.visits]
    except GroupError as error:
        defined.dead_letters.append(group_dead_letter(group.key, error))
        if closed:
            defined.failed.add(group.key)
        return
    if closed:
        defined.closed.add(group.key)
        defined.skips += [(group.key, skip) for skip in made.skips if skip.reason is SkipReason.FIRST_MISSING]
    defined.candidates += candidates


def _require_raws(closing: Closing) -> None:
    """Refuse to close a group of which nothing has arrived that the regions need."""
    if closing.absent and not closing.group.exposures:
        raise GroupError(
            DeadLetterReason.GROUP_FAILED,
            f"no raw that the regions need has arrived of exposure {', '.join(map(str, closing.absent))}",
        )


def _candidate(
    visit: VisitDefinition,
    closing: Closing,
    rules: InstrumentRules,
    raws: Mapping[ExposureKey, Sequence[RawRegion]],
) -> Candidate:
    own = tuple(raw for e in visit.exposures for raw in raws.get(ExposureKey(e.instrument, e.id), ()))
    hashed = inputs_hash(
        visit,
        group=closing.group.key,
        rule=rules.rule.name,
        algorithm=rules.algorithm.name,
        padding=rules.algorithm.padding,
        fingerprint=rules.algorithm.fingerprint(visit.exposures),
        raws=own,
    )
    return Candidate(visit, closing.group.key, closing.reason, hashed, own, closing.last_ms)


def group_dead_letter(key: GroupKey, error: GroupError) -> DeadLetter:
    """Make the dead letter that names a group which cannot be closed."""
    return DeadLetter(reason=error.reason, detail=error.detail, instrument=key.instrument, group_key=key.key)


class StoredVisit(NamedTuple):
    """What the comparison needs of a visit that is stored."""

    instrument: str
    id: int
    name: str
    group: GroupKey
    inputs_hash: bytes
    revision: int
    region: bytes


@dataclass(slots=True)
class Verdicts:
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

    @property
    def freed(self) -> set[str]:
        """Instruments in which a visit id or name that was claimed is free now: whom it was refused may try again."""
        renamed = {old.instrument for candidate, old in self.updated if candidate.definition.name != old.name}
        return renamed | {each.instrument for each in self.stale}


def compare(defined: Defined, stored: Sequence[StoredVisit], rules: Mapping[str, InstrumentRules]) -> Verdicts:
    """Compare the visits that a batch defines with the stored ones that have their ids, names or groups.

    A visit id or name belongs to the group that claimed it first: the stored visit stays, the other group becomes a
    dead letter. Equal `inputs_hash`: the rows stay untouched. What is stored of a group that closed, and is not what it
    defines now, goes: also where it defines nothing now, because that failed or is claimed by another group. So
    nothing is left of what the group was before its last change.
    """
    verdicts = Verdicts()
    kept_groups = {each.group for each in stored if rules[each.instrument].keep_stored}
    settled = (defined.closed | defined.failed) - kept_groups
    wanted = {(c.group, c.definition.id) for c in defined.candidates}
    verdicts.stale = [each for each in stored if each.group in settled and (each.group, each.id) not in wanted]
    gone = {(each.instrument, each.id) for each in verdicts.stale}
    owner: dict[tuple[str, int | str], tuple[GroupKey, int]] = {}
    by_id: dict[tuple[GroupKey, int], StoredVisit] = {}
    for each in stored:
        if (each.instrument, each.id) not in gone:
            by_id[each.group, each.id] = each
            owner[each.instrument, each.id] = owner[each.instrument, each.name] = (each.group, each.id)
    verdicts.candidates = _latest(defined.candidates)
    for candidate in verdicts.candidates:
        visit = candidate.definition
        claims: tuple[tuple[str, int | str], ...] = ((visit.instrument, visit.id), (visit.instrument, visit.name))
        mine = (candidate.group, visit.id)
        own, kept = by_id.get(mine), candidate.group in kept_groups
        other = next((owner[c] for c in claims if owner.get(c, mine) != mine), None)
        if other is not None:
            verdicts.conflicts.append((candidate, _conflict(candidate, other)))
            if own is not None and candidate.group in settled:
                verdicts.stale.append(own)
            continue
        for claim in claims:
            owner[claim] = mine
        _judge(verdicts, candidate, own, kept=kept)
    return verdicts


def _judge(verdicts: Verdicts, candidate: Candidate, stored: StoredVisit | None, *, kept: bool) -> None:
    if stored is not None and stored.inputs_hash == candidate.inputs_hash:
        verdicts.unchanged.append(candidate)
    elif stored is None:
        verdicts.new.append(candidate)
    elif kept:
        verdicts.kept.append(candidate)
    else:
        verdicts.updated.append((candidate, stored))


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
