"""From closings to candidate visits."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from consumer.domain.instrument import ExposureKey, Instrument
from consumer.domain.open_groups import Closing, ExposureChange
from consumer.domain.visit_records import inputs_hash
from consumer.errors import DeadLetterReason, GroupError
from consumer.grouping import Skip
from consumer.model import (
    CloseReason,
    DeadLetter,
    GroupKey,
    RawRegion,
    SkipReason,
    VisitDefinition,
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
    rules: Mapping[str, Instrument],
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
    rules: Instrument,
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
    rules: Instrument,
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


def order_matters(
    changes: Iterable[ExposureChange],
    closings: Sequence[Closing],
    rules: Mapping[str, Instrument],
    refused_by: Iterable[tuple[GroupKey, GroupKey]],
) -> bool:
    """Whether a batch is to be applied in parts: what its events do one after the other cannot be seen at its end.

    That is where an exposure, as it was at first, may have claimed an id or a name that it does not claim at the end;
    where a visit that is kept as it was defined first may have been defined twice; and where a group was refused what
    another exposure of its own has, or another group that closed with it, since a deadline passes with any message of
    its partition.
    """
    closed = [each.group.key for each in closings]
    by_deadline = {each.group.key for each in closings if each.reason is not CloseReason.COMPLETE}
    if any(one == other or ({one, other} <= {*closed} and {one, other} & by_deadline) for one, other in refused_by):
        return True
    seen: dict[ExposureKey, ExposureChange] = {}
    for change in changes:
        exposure = ExposureKey(change.key.instrument, change.member.exposure.id)
        former = seen.get(exposure)
        if former is not None and (_claims(former) != _claims(change) or rules[change.key.instrument].keep_stored):
            return True
        seen[exposure] = change
    kept = [key for key in closed if rules[key.instrument].keep_stored]
    return len({*kept}) < len(kept)


def _claims(change: ExposureChange) -> tuple[object, ...]:
    """Return what decides which ids and names an exposure's visits have, and whether it has any."""
    exposure = change.member.exposure
    return change.key, exposure.obs_id, exposure.seq_num, exposure.off_sky_reason is None
