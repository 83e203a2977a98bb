"""From the groups that closed or changed to their rows: define, compare with what is stored, compute, write.

Deleting or renaming a visit frees its id or name. Groups that conflicted on it before are processed again in the same
transaction, so that the result does not depend on the order in which groups closed.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from consumer.domain import (
    Candidate,
    Defined,
    ExposureKey,
    Instrument,
    MergedBatch,
    StoredVisit,
    VisitDiff,
    define,
    diff_visits,
    group_dead_letter,
    order_matters,
)
from consumer.domain.open_groups import Closing, Member, OpenGroups, group_of_members
from consumer.domain.visit_records import make_records
from consumer.errors import DataRefusedError, DeadLetterReason, GroupError
from consumer.events.visit_defined import Announce, RemovedVisit, outbox_rows, removal_rows
from consumer.grouping import on_sky
from consumer.model import CloseReason, DeadLetter, GroupKey, RawRegion, SkipReason, VisitRecords, VisitRegions
from consumer.regions import MOST_MERGED, compute_each
from consumer.service.region_prefetch import Prefetched, prefetched_regions
from consumer.service.tables import VisitTables


@dataclass(slots=True)
class StoreVisitsResult:
    """What became of the visits of a batch."""

    diff: VisitDiff = field(default_factory=VisitDiff)
    written: list[VisitRecords] = field(default_factory=list)
    removed: list[RemovedVisit] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    """Of groups; still to be written."""
    off_sky: list[tuple[str, SkipReason]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    contested: bool = False
    """Whether groups were refused visits, and another batch border might have refused others."""
    region_s: float = 0.0


def store_visits(
    tables: VisitTables,
    buffer: OpenGroups,
    rules: Mapping[str, Instrument],
    prefetched: Prefetched,
    *,
    merged: MergedBatch,
    announce: Announce | None,
    alone: bool,
    stopwatch: Callable[[], float],
) -> StoreVisitsResult:
    """Define the visits of the groups that closed or changed, compute what is not stored yet, and write it.

    Parameters
    ----------
    tables
        Bound to the batch's transaction.
    buffer
        After the batch was fed to it; its groups are stored.
    rules
        By instrument.
    prefetched
        Regions that were computed already.
    merged
        The batch's exposures: which groups they belong or belonged to, and where visit ids or names were given up.
    announce
        Encodes announcements for the outbox; None: nothing is announced.
    alone
        Write each visit under a savepoint.
    stopwatch
        Seconds of a monotonic clock.
    """
    outcome = StoreVisitsResult()
    closings, opened = buffer.last_closings(), buffer.open_now()
    # Who comes first has an id or a name. What follows takes closings in their order, each group's last one.
    in_order = len(closings) == len(buffer.closings) and not opened
    last_ms = max((each.last_ms for each in (*closings, *opened)), default=0)
    while closings or opened:
        raws = _raws_of(tables, [*closings, *opened], rules)
        defined = define(closings, opened, rules, raws)
        outcome.dead_letters += defined.dead_letters
        outcome.warnings += [skip.detail for _, skip in defined.skips if skip.warn]
        outcome.off_sky += [(key.instrument, skip.reason) for key, skip in defined.skips]
        one = _Pass(tables, rules, prefetched, outcome, defined, announce=announce, alone=alone, stopwatch=stopwatch)
        freed = one.run()
        in_order = in_order and not freed
        closings, opened = _refused_before(tables, rules, outcome, freed, last_ms), []
    touched = {key for each in merged.changes for key in (each.key, each.former_key or each.key)}
    touched |= {each.group.key for each in (*buffer.closings, *buffer.open_now())}
    outcome.contested = not in_order and any(touched & {*pair} for pair in outcome.diff.refused_by)
    outcome.contested = outcome.contested or order_matters(
        merged.changes, buffer.closings, rules, outcome.diff.refused_by
    )
    if merged.renamed and not outcome.contested:
        # One that was given up and taken again within the batch would have gone to a group that was refused it before.
        refused = {key for key in tables.refused_groups(merged.renamed) if key.instrument in rules}
        refused_by = {pair for pair in outcome.diff.refused_by if pair[0] in refused}
        others = refused - {key for key, _ in refused_by}
        concerned = others | _owners(tables, rules, others) | {key for pair in refused_by for key in pair}
        outcome.contested = bool(touched & concerned)
    return outcome


def _refused_before(
    tables: VisitTables, rules: Mapping[str, Instrument], outcome: StoreVisitsResult, freed: set[str], last_ms: int
) -> list[Closing]:
    """Close the groups again that were refused a visit id or a name, now that one of their instrument is free.

    The last message that their visits needed is the one that freed it, at `last_ms`.
    """
    if not freed:
        return []
    refused = {c.group for c, _ in outcome.diff.conflicts if c.group.instrument in freed}
    refused |= {key for key in tables.refused_groups(freed) if key.instrument in rules}
    if not refused:
        return []
    closed = refused - {group.key for group in tables.open_groups(refused)}
    members = group_members(tables, rules, closed)
    tables.delete_groups(closed)
    diff = outcome.diff
    diff.refused_by = {pair for pair in diff.refused_by if pair[0] not in closed}
    diff.conflicts = [(c, letter) for c, letter in diff.conflicts if c.group not in closed]
    outcome.dead_letters = [
        letter
        for letter in outcome.dead_letters
        if letter.reason != DeadLetterReason.VISIT_CONFLICT
        or GroupKey(letter.instrument or "", letter.group_key or "") not in closed
    ]
    return [
        group_of_members(
            key,
            members[key],
            CloseReason.COMPLETE if rules[key.instrument].complete(members[key]) else CloseReason.IDLE,
            last_ms,
        )
        for key in sorted(closed)
    ]


def group_members(
    tables: VisitTables, rules: Mapping[str, Instrument], groups: Collection[GroupKey]
) -> dict[GroupKey, list[Member]]:
    """Read all stored members of groups, and whether they have arrived."""
    members: dict[GroupKey, list[Member]] = {key: [] for key in groups}
    for known in tables.group_members(groups) if groups else ():
        members[known.group].append(Member(known.record, rules[known.group.instrument].arrived(known)))
    return members


def _owners(tables: VisitTables, rules: Mapping[str, Instrument], refused: Collection[GroupKey]) -> set[GroupKey]:
    """Return the groups that have the visit ids and names which refused groups want."""
    if not refused:
        return set()
    closings = [group_of_members(key, each) for key, each in group_members(tables, rules, refused).items()]
    wanted = define(closings, [], rules, _raws_of(tables, closings, rules)).candidates
    named = [(c.definition.instrument, c.definition.id, c.definition.name) for c in wanted]
    return {each.group for each in tables.lock_visits(named, ())} if named else set()


@dataclass(slots=True)
class _Pass:
    """One comparison of what groups define with what is stored, and its writes."""

    tables: VisitTables
    rules: Mapping[str, Instrument]
    prefetched: Prefetched
    outcome: StoreVisitsResult
    defined: Defined
    announce: Announce | None
    alone: bool
    stopwatch: Callable[[], float]
    failed: set[GroupKey] = field(default_factory=set)

    def run(self) -> set[str]:
        """Write, and return the instruments in which a visit id or a name became free."""
        defined, outcome = self.defined, self.outcome
        gone = defined.closed | defined.failed
        if not defined.candidates and not gone:
            return set()
        named = [(c.definition.instrument, c.definition.id, c.definition.name) for c in defined.candidates]
        diff = diff_visits(defined, self.tables.lock_visits(named, gone), self.rules)
        _add(outcome.diff, diff)
        outcome.dead_letters += [letter for _, letter in diff.conflicts]
        self.failed = {c.group for c, _ in diff.conflicts}
        started = self.stopwatch()
        records = self._records([*diff.new, *(c for c, _ in diff.updated)])
        outcome.region_s += self.stopwatch() - started
        olds: list[StoredVisit | None] = [*(None for _ in diff.new), *(old for _, old in diff.updated)]
        failed = [old for one, old in zip(records, olds, strict=True) if one is None and old is not None]
        self._remove([*diff.stale, *failed])
        lost = {old.instrument for old in failed}
        lost |= self._write([(one, old) for one, old in zip(records, olds, strict=True) if one is not None])
        self.tables.resolve_dead_letters(defined.closed - self.failed)
        return diff.freed | lost

    def _records(self, candidates: Sequence[Candidate]) -> list[VisitRecords | None]:
        """Finish visits' rows; one whose regions cannot be computed fails its group, and nothing else."""
        finished: list[VisitRecords | None] = []
        for candidate, regions in zip(candidates, self._regions(candidates), strict=True):
            if isinstance(regions, GroupError):
                self._fail(candidate.group, regions)
                finished.append(None)
                continue
            own = self.rules[candidate.group.instrument]
            records = make_records(
                candidate.definition,
                group=candidate.group,
                regions=regions,
                hashed=candidate.inputs_hash,
                rule=own.rule.name,
                algorithm=own.algorithm.name,
                padding=own.algorithm.padding,
                close_reason=candidate.reason,
            )
            finished.append(records)
        return finished

    def _regions(self, candidates: Sequence[Candidate]) -> list[VisitRegions | GroupError]:
        """Return regions: those that were prefetched, and the others computed, those of one instrument together."""
        found: dict[int, VisitRegions | GroupError] = {}
        by_instrument: dict[str, list[int]] = {}
        for index, candidate in enumerate(candidates):
            ready = prefetched_regions(self.prefetched, candidate.definition, candidate.raws)
            if ready is not None:
                found[index] = ready
            else:
                by_instrument.setdefault(candidate.group.instrument, []).append(index)
        for instrument, indices in by_instrument.items():
            inputs = [(candidates[i].definition.exposures, candidates[i].raws) for i in indices]
            found.update(zip(indices, compute_each(self.rules[instrument].algorithm, inputs), strict=True))
        return [found[index] for index in range(len(candidates))]

    def _write(self, rewrites: Sequence[tuple[VisitRecords, StoredVisit | None]]) -> set[str]:
        """Write new visits, and replace the rows of stored ones; return the instruments of stored ones that went."""
        lost: set[str] = set()
        for together in [[each] for each in rewrites] if self.alone else [list(rewrites)] if rewrites else []:
            olds = [old for _, old in together if old is not None]
            visits = [records for records, _ in together]
            try:
                revisions = self.tables.write_visits(visits, olds, alone=self.alone)
            except DataRefusedError as error:
                if not self.alone:
                    raise
                for records in visits:
                    self._fail(records.group, GroupError(DeadLetterReason.REFUSED_BY_DATABASE, error.detail))
                self._remove(olds)
                lost |= {old.instrument for old in olds}
            else:
                self.outcome.written += visits
                if self.announce is not None:
                    self.tables.write_outbox(outbox_rows(visits, revisions, self.announce))
        return lost

    def _remove(self, visits: Sequence[StoredVisit]) -> None:
        removed = self.tables.delete_visits(visits)
        self.outcome.removed += removed
        if removed and self.announce is not None:
            self.tables.write_outbox(removal_rows(removed, self.announce))

    def _fail(self, group: GroupKey, error: GroupError) -> None:
        self.outcome.dead_letters.append(group_dead_letter(group, error))
        self.failed.add(group)


def _add(total: VisitDiff, diff: VisitDiff) -> None:
    total.candidates += diff.candidates
    total.new += diff.new
    total.updated += diff.updated
    total.unchanged += diff.unchanged
    total.kept += diff.kept
    total.stale += diff.stale
    total.conflicts += diff.conflicts
    total.refused_by |= diff.refused_by


def _raws_of(
    tables: VisitTables, closings: Iterable[Closing], rules: Mapping[str, Instrument]
) -> Mapping[ExposureKey, Sequence[RawRegion]]:
    wanted = {
        ExposureKey(e.instrument, e.id)
        for group in (closing.group for closing in closings)
        if rules[group.key.instrument].algorithm.needs_headers
        for e in on_sky(group)[:MOST_MERGED]
    }
    return tables.raw_regions(wanted) if wanted else {}
