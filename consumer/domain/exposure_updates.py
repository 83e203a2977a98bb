"""From the events of a batch to merged exposures: ``events -> updates -> merged exposures and changes``."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, cast

from consumer.domain.instrument import ExposureKey, Instrument, KnownExposure
from consumer.domain.open_groups import ExposureChange, Member
from consumer.domain.record_merge import ExpectedDetectors, merge_expected, merge_record
from consumer.errors import DeadLetterReason
from consumer.model import (
    DeadLetter,
    Exposure,
    ExposureIngested,
    GroupKey,
    Ingested,
    Message,
    RawRegion,
    SkipReason,
)


class Event(NamedTuple):
    """One decoded event with the message that carried it, and its partition's stream time once it is applied."""

    message: Message
    offset_id: int
    stream_time_ms: int
    ingested: Ingested
    region: RawRegion | None


# A named tuple's own constructor takes three times as long; this one runs for every event.
new_event = cast(
    "Callable[[tuple[Message, int, int, Ingested, RawRegion | None]], Event]", partial(tuple.__new__, Event)
)
"""Make an `Event` of a tuple of its fields."""


@dataclass(slots=True)
class ExposureUpdate:
    """Raws of one batch that announce one record of one exposure, or one event of the exposure itself."""

    exposure: Exposure
    offset_id: int
    stream_time_ms: int
    """Stream time at the first of them."""
    detectors: int
    """Bit mask."""
    events: list[Event]
    expected: ExpectedDetectors | None = None


def fold_raws(events: Sequence[Event], rules: Mapping[str, Instrument]) -> list[ExposureUpdate]:
    """Fold the events of a batch into updates, in the order in which each record was first read.

    The decoder gives raws that repeat a record one and the same `Exposure` object, so that object's identity decides,
    and most events cost a dictionary look-up. Where single raws matter (``required_detectors``, headers), a raw that
    brings a region of its own is an update by itself, because it may complete its exposure. So is one whose record was
    seen before another record of the same exposure: what it means depends on what came between. An event of a whole
    exposure always is one.
    """
    updates: list[ExposureUpdate] = []
    by_record: dict[int, ExposureUpdate] = {}
    record_of: dict[ExposureKey, int] = {}
    waits = {name for name, each in rules.items() if each.required_detectors}
    for event in events:
        ingested = event.ingested
        exposure = ingested.exposure
        update = by_record.get(id(exposure))
        if (
            update is None
            or event.region is not None
            or exposure.instrument in waits
            or isinstance(ingested, ExposureIngested)
        ):
            update = _update_of(event)
            by_record[id(exposure)] = update
            updates.append(update)
            key = ExposureKey(exposure.instrument, exposure.id)
            other = record_of.get(key)
            if other is not None and other != id(exposure):
                by_record.pop(other, None)
            record_of[key] = id(exposure)
        else:
            update.detectors |= 1 << ingested.detector
            update.events.append(event)
    return updates


def _update_of(event: Event) -> ExposureUpdate:
    ingested, expected = event.ingested, None
    if isinstance(ingested, ExposureIngested):
        detectors = _mask(ingested.detectors or ())
        if ingested.expected_detectors is not None:
            expected = ExpectedDetectors(ingested.exposure.record_version, _mask(ingested.expected_detectors))
    else:
        detectors = 1 << ingested.detector
    return ExposureUpdate(ingested.exposure, event.offset_id, event.stream_time_ms, detectors, [event], expected)


def _mask(detectors: Collection[int]) -> int:
    return sum(1 << detector for detector in detectors)


@dataclass(slots=True)
class MergedBatch:
    """What the updates of a batch make of the exposures that were stored."""

    exposures: dict[ExposureKey, KnownExposure] = field(default_factory=dict)
    before: dict[ExposureKey, KnownExposure | None] = field(default_factory=dict)
    """The same exposures as they were stored; None for those that are new."""
    changes: list[ExposureChange] = field(default_factory=list)
    regions: dict[tuple[str, int, int], RawRegion] = field(default_factory=dict)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    new: Counter[str] = field(default_factory=Counter)
    """Events that say something new, by instrument; so are the next two."""
    repeated: Counter[str] = field(default_factory=Counter)
    contradicting: Counter[str] = field(default_factory=Counter)
    off_sky: list[tuple[str, SkipReason]] = field(default_factory=list)
    """Instrument and reason of each exposure that since this batch defines no visit."""
    returned_on_sky: set[ExposureKey] = field(default_factory=set)
    """Exposures that were off sky and are corrected: what was said of them holds no longer."""
    renamed: set[str] = field(default_factory=set)
    """Instruments of known exposures whose corrections give another visit id or name, or none."""


def merge(
    updates: Sequence[ExposureUpdate],
    stored: Mapping[ExposureKey, KnownExposure],
    stored_regions: Mapping[tuple[str, int, int], RawRegion],
    rules: Mapping[str, Instrument],
) -> MergedBatch:
    """Merge the updates of a batch, in order, into the exposures as they were before it.

    Parameters
    ----------
    updates
        Of the batch, in the order in which they were read.
    stored
        The batch's exposures, as far as they are stored.
    stored_regions
        The raw regions that are stored, by instrument, exposure and detector.
    rules
        By instrument; every instrument of the batch has them.
    """
    merged = MergedBatch()
    for update in updates:
        _merge_one(merged, update, stored, stored_regions, rules[update.exposure.instrument])
    for key, known in merged.exposures.items():
        _account_off_sky(merged, merged.before[key], known, rules[key.instrument])
    return merged


def _merge_one(
    merged: MergedBatch,
    update: ExposureUpdate,
    stored: Mapping[ExposureKey, KnownExposure],
    stored_regions: Mapping[tuple[str, int, int], RawRegion],
    rules: Instrument,
) -> None:
    incoming = update.exposure
    key = ExposureKey(incoming.instrument, incoming.id)
    known = merged.exposures.get(key) or stored.get(key)
    record, changed = incoming, True
    if known is not None:
        outcome = merge_record(known.record, incoming)
        if outcome.contradictions:
            merged.contradicting[incoming.instrument] += len(update.events)
            merged.dead_letters += [
                DeadLetter(
                    reason=DeadLetterReason.CONTRADICTION,
                    detail=outcome.detail,
                    instrument=incoming.instrument,
                    exposure=incoming.id,
                    message=event.message,
                )
                for event in update.events
            ]
            return
        record, changed = outcome.exposure, outcome.changed
    before = 0 if known is None else known.detectors
    known_expected = None if known is None else known.expected
    expected = merge_expected(known_expected, update.expected)
    group = GroupKey(record.instrument, rules.rule.key(record)) if changed or known is None else known.group
    if known is not None and _naming(record, group) != _naming(known.record, known.group):
        merged.renamed.add(incoming.instrument)
    merged.before.setdefault(key, stored.get(key))
    # An exposure that `define` alone has stored is processed as new by its first event; but an event that names no raw
    # brings no header, and leaves the visit that `define` made of stored ones as it is.
    announced = known is None or known.announced or update.detectors != 0 or not rules.algorithm.needs_headers
    now = KnownExposure(record, group, before | update.detectors, announced, expected)
    merged.exposures[key] = now
    first = known is None or (now.processed and not known.processed)
    _count(merged, update, (now.detectors & ~before).bit_count(), else_new=first or expected != known_expected)
    new_region = _keep_region(merged, update, stored_regions)
    arrived = rules.arrived(now)
    concerns_group = known is None or first or changed or new_region or arrived != rules.arrived(known)
    # Where no group waits, an exposure without the raws that its regions need is not handed on to one.
    if concerns_group and (arrived or rules.buffers):
        merged.changes.append(
            ExposureChange(
                offset_id=update.offset_id,
                stream_time_ms=update.stream_time_ms,
                member=Member(record, arrived),
                key=group,
                former_key=None if known is None else known.group,
            )
        )


def _count(merged: MergedBatch, update: ExposureUpdate, new_raws: int, *, else_new: bool) -> None:
    """Count events: of raws those that bring one which was not known, of an exposure one that brings anything new."""
    new = min(new_raws or int(else_new), len(update.events))
    merged.new[update.exposure.instrument] += new
    merged.repeated[update.exposure.instrument] += len(update.events) - new


def _naming(record: Exposure, group: GroupKey) -> tuple[str, GroupKey, bool]:
    """Return what an exposure's visits are named by, and whether there are any."""
    return record.obs_id, group, record.off_sky_reason is None


def _keep_region(
    merged: MergedBatch, update: ExposureUpdate, stored_regions: Mapping[tuple[str, int, int], RawRegion]
) -> bool:
    """Keep a raw's own region unless one of its version or a later one is known, as with the record it came with."""
    region = update.events[0].region
    if region is None:
        return False
    key = (region.instrument, region.exposure, region.detector)
    known = merged.regions.get(key) or stored_regions.get(key)
    if known is not None and known.record_version >= region.record_version:
        return False
    merged.regions[key] = region
    return True


def _account_off_sky(
    merged: MergedBatch, before: KnownExposure | None, known: KnownExposure, rules: Instrument
) -> None:
    """Compare an exposure before and after the batch: the result is independent of batch borders."""
    reason = known.record.off_sky_reason
    if before is not None and before.processed:
        if (before.record.off_sky_reason, before.group) == (reason, known.group):
            return
        if before.record.off_sky_reason is not None and not rules.ignore_non_science:
            merged.returned_on_sky.add(known.key)
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
