"""One batch, one transaction: the fence, what is stored, what follows from it, the writes.

The steps alternate between what PostgreSQL knows (`Tables`) and what the core decides (`consumer.domain`). Locks are
taken in one order by every replica: positions, exposures, groups, visits, each in the order of their keys. Groups that
fall due, and those that are processed again because an id became free, come out of that order: where two replicas then
wait for each other, PostgreSQL ends one of the transactions, and it is tried again at once.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from consumer.domain import (
    ExposureKey,
    ExposureUpdate,
    Instrument,
    KnownExposure,
    MergedBatch,
    fold_raws,
    merge,
)
from consumer.domain.closing import Later, deadline
from consumer.domain.open_groups import MOST_COUNTED, Member, OpenGroups
from consumer.events.visit_defined import Announce
from consumer.model import (
    GroupKey,
    VisitRecords,
)
from consumer.service.batch import MOST_GROUPS_OF_A_TICK, Batch, BatchResult
from consumer.service.store_visits import group_members, store_visits
from consumer.service.tables import Tables


class TooManyGroupsError(Exception):
    """A batch concerns more open groups than one transaction has time for."""


def apply_batch(
    tables: Tables,
    batch: Batch,
    rules: Mapping[str, Instrument],
    *,
    announce: Announce | None = None,
    alone: bool = False,
    most_groups: int | None = None,
    stopwatch: Callable[[], float] = float,
) -> BatchResult:
    """Apply a batch inside an open transaction; the caller commits.

    Parameters
    ----------
    tables
        Bound to the transaction.
    batch
        To be applied whole.
    rules
        By instrument; every instrument of the batch's events has them.
    announce
        Encodes announcements for the outbox; None: nothing is announced.
    alone
        Write each visit under a savepoint: one that PostgreSQL refuses fails its group, and nothing else.
    most_groups
        Do not apply a batch of events that makes more groups due or superseded; None: any number.
    stopwatch
        Seconds of a monotonic clock, for the times in the result; by default it stands still.

    Returns
    -------
    BatchResult
        Valid once the transaction is committed.

    Raises
    ------
    FencedError
        When the batch's partitions are not ours, or not where we left them; nothing must be committed then.
    TooManyGroupsError
        When more than `most_groups` are concerned; nothing must be committed then either.
    """
    result = BatchResult(bad=batch.dead_letters, dead_letters=list(batch.dead_letters))
    tables.advance(batch.offset_updates)
    started = stopwatch()
    merged = _store_exposures(tables, fold_raws(batch.events, rules), rules)
    result.new, result.repeated, result.contradicting = merged.new, merged.repeated, merged.contradicting
    result.off_sky = merged.off_sky
    result.dead_letters += merged.dead_letters
    buffer, open_before = _fill_buffer(tables, merged, batch, rules, most_groups)
    for change in merged.changes:
        buffer.advance(change.offset_id, change.stream_time_ms)
        buffer.apply(change)
    last = batch.events[-1].offset_id if batch.events else None
    for offset_id, stream_time_ms in sorted(batch.stream_times_ms.items(), key=lambda each: each[0] != last):
        buffer.advance(offset_id, stream_time_ms)  # first that of the last event: it may have brought nothing new
    result.late = Counter(exposure.instrument for exposure in buffer.late)
    if large := buffer.large_closed():
        buffer.load_large(group_members(tables, rules, large))
    result.closed = [(each.group.key.instrument, each.reason) for each in buffer.closings]
    _store_groups(tables, buffer, open_before, rules)
    result.group_s = stopwatch() - started
    stored = store_visits(
        tables,
        buffer,
        rules,
        batch.prefetched,
        merged=merged,
        announce=announce,
        alone=alone,
        stopwatch=stopwatch,
    )
    result.diff, result.written, result.removed = stored.diff, stored.written, stored.removed
    result.region_s = stored.region_s
    result.warnings, result.contested = stored.warnings, stored.contested
    result.off_sky += stored.off_sky
    result.dead_letters += stored.dead_letters
    result.detectors_without_region = _without_region(result.written, merged.exposures)
    tables.resolve_dead_letters_of_exposures(merged.returned_on_sky)
    tables.write_dead_letters(result.dead_letters, {a.partition: a.offset_id for a in batch.offset_updates})
    if batch.rereads:
        bad = {each.message for each in result.dead_letters}
        good = {(each.offset_id, each.message.offset) for each in batch.events if each.message not in bad}
        tables.resolve_dead_letters_of_messages(good)
    if any(each.buffers for each in rules.values()):
        result.waiting = tables.waiting(list(batch.stream_times_ms))
    result.write_s = stopwatch() - started - result.group_s - result.region_s
    return result


def _store_exposures(tables: Tables, updates: list[ExposureUpdate], rules: Mapping[str, Instrument]) -> MergedBatch:
    """Merge a batch's exposures into the stored ones and store the outcome.

    Most exposures are new, and their outcome does not depend on what is stored: it is tried first without a look. Only
    when some turn out to exist are those locked, read and merged.
    """
    if not updates:
        return MergedBatch()
    keys = {ExposureKey(s.exposure.instrument, s.exposure.id) for s in updates}
    with_headers = {key for key in keys if rules[key.instrument].algorithm.needs_headers}
    merged = merge(updates, {}, {}, rules)
    existing = keys - tables.insert_exposures(list(merged.exposures.values()))
    if existing:
        stored = tables.lock_exposures(existing)
        regions = tables.raw_regions(existing & with_headers) if existing & with_headers else {}
        known = {(r.instrument, r.exposure, r.detector): r for each in regions.values() for r in each}
        merged = merge(updates, stored, known, rules)
        tables.update_exposures(merged.exposures, stored)
    if merged.regions:
        tables.insert_raw_regions(merged.regions.values())
    return merged


def _fill_buffer(
    tables: Tables, merged: MergedBatch, batch: Batch, rules: Mapping[str, Instrument], most: int | None
) -> tuple[OpenGroups, set[GroupKey]]:
    """Load the open groups that the batch may concern, and their members as they were before it."""
    if not any(each.buffers for each in rules.values()):
        return OpenGroups(rules, (), {}), set()
    touched: set[GroupKey] = set()
    later: set[Later] = set()
    for change in merged.changes:
        if rules[change.key.instrument].buffers:
            touched |= {change.key, change.former_key or change.key}
            begin = change.member.exposure.timespan_begin
            if begin is not None:
                later.add(Later(change.offset_id, change.key.instrument, begin))
    groups = {g.key: g for g in tables.open_groups(touched)} if touched else {}
    if batch.events:
        # All of them, before the events are applied: whether one comes too late must not depend on the batch's borders.
        due = tables.lock_due_groups(
            batch.stream_times_ms, rules.keys(), _latest(later), None if most is None else most + 1
        )
        if most is not None and len(due) > most:
            raise TooManyGroupsError
    else:
        due = tables.lock_first_due_groups(batch.stream_times_ms, rules.keys(), MOST_GROUPS_OF_A_TICK)
    groups |= {g.key: g for g in due if g.key not in touched}
    # A group of an instrument that is not configured any more waits until it is again.
    known = {key: group for key, group in groups.items() if key.instrument in rules}
    wanted = touched | known.keys()
    # The batch's own exposures are stored already. Whether a group is large does not depend on the batch's borders.
    most = MOST_COUNTED + len(merged.changes)
    stored, large = tables.few_group_members(wanted, most) if wanted else ([], set())
    members: dict[GroupKey, dict[int, Member]] = {key: {} for key in wanted}
    others = [each for each in stored if each.key not in merged.exposures]
    for before in (*others, *merged.before.values()):
        if before is not None and before.group in members:
            arrived = rules[before.record.instrument].arrived(before)
            members[before.group][before.record.id] = Member(before.record, arrived)
    large |= {key for key, each in members.items() if len(each) > MOST_COUNTED}
    return OpenGroups(rules, known.values(), members, large), touched | known.keys()


def _without_region(written: Sequence[VisitRecords], exposures: Mapping[ExposureKey, KnownExposure]) -> dict[str, int]:
    """Count the detectors that the batch announced and that got no region, by instrument of the written visits."""
    missing: dict[str, int] = {}
    for records in written:
        covered = sum(1 << detector for detector in records.regions.detectors)
        announced = 0
        for exposure in records.definition.exposures:
            known = exposures.get(ExposureKey(exposure.instrument, exposure.id))
            announced |= known.detectors if known is not None else 0
        instrument = records.definition.instrument
        missing[instrument] = missing.get(instrument, 0) + (announced & ~covered).bit_count()
    return missing


def _latest(later: set[Later]) -> set[Later]:
    """Keep, for each partition and instrument, the latest exposure: it supersedes whatever an earlier one does."""
    latest: dict[tuple[int, str], Later] = {}
    for each in later:
        key = (each.offset_id, each.instrument)
        if key not in latest or latest[key].begin < each.begin:
            latest[key] = each
    return set(latest.values())


def _store_groups(tables: Tables, buffer: OpenGroups, locked: set[GroupKey], rules: Mapping[str, Instrument]) -> None:
    tables.store_groups((g, deadline(g, rules[g.key.instrument].closing)) for g in buffer.groups.values())
    tables.delete_groups(locked - buffer.groups.keys())
