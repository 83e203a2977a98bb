"""How an exposure ended: as visits, skipped with a reason, waiting, as a dead letter, or never seen."""

from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from consumer.config import Settings
from consumer.config.resolve import resolve_instrument
from consumer.domain import Instrument
from consumer.domain.closing import deadline
from consumer.errors import GroupError
from consumer.model import Exposure, Group, in_time_order
from consumer.postgres.connection import Database
from consumer.postgres.exposure_history import Trace, find_exposures, read_traces
from consumer.postgres.row_codecs import detectors_to_list
from consumer.read.night import exposures_without_visit


class Outcome(StrEnum):
    """How an exposure ended; the first that holds, in this order."""

    VISIT = "visit"
    WAITING = "waiting"
    SKIPPED = "skipped"
    DEAD_LETTER = "dead_letter"
    UNFINISHED = "unfinished"
    """It is stored, but nothing says what became of it: the settings may have changed since."""
    NEVER_SEEN = "never_seen"


Explanation = dict[str, Any]
"""What became of one exposure, fit for JSON."""


def explain_exposure(
    database: Database, settings: Settings, exposure: int, instrument: str | None = None
) -> list[Explanation]:
    """Return what became of an exposure.

    Parameters
    ----------
    database
        A session of the reader role.
    settings
        The rules by which groups close.
    exposure
        Its id.
    instrument
        None: of whichever instruments have an exposure of this id.

    Returns
    -------
    explanations
        One for each instrument, at least one: ``instrument, exposure, ending, summary`` (a sentence), and ``record,
        detectors, group, raws_expected, raws_missing, visits, waiting, skips, dead_letters`` where there are any.

    Raises
    ------
    ConfigurationError
        When the instrument's settings do not make sense.
    TransientError
        When the database cannot be asked.
    """
    return [_explanation(settings, exposure, trace) for trace in read_traces(database, exposure, instrument)]


def explain_named(
    database: Database, settings: Settings, name: str, *, by: str, instrument: str | None = None
) -> list[Explanation]:
    """Return what became of every exposure of an obs_id, a group or a visit; none where there is none of that name.

    Parameters
    ----------
    database, settings, instrument
        As of `explain_exposure`.
    name
        An obs_id, a group's name or key, or the id of a visit.
    by
        ``obs_id``, ``group`` or ``visit``.
    """
    number = int(name) if by == "visit" else None
    found = find_exposures(database, by=by, text=name, number=number, instrument=instrument)
    return [each for own, exposure in found for each in explain_exposure(database, settings, exposure, own)]


def explain_night(
    database: Database, settings: Settings, day_obs: int, instrument: str | None = None
) -> list[Explanation]:
    """Return what became of the stored exposures of a night that are in no visit; see `explain_exposure`."""
    missing = exposures_without_visit(database, day_obs=day_obs, instrument=instrument)
    return [each for key in missing for each in explain_exposure(database, settings, key.id, key.instrument)]


def _explanation(settings: Settings, exposure: int, trace: Trace) -> Explanation:
    found: Explanation = {"instrument": trace.instrument, "exposure": exposure}
    known = trace.exposure
    if known is not None:
        found |= {
            "obs_id": known.record.obs_id,
            "day_obs": known.record.day_obs,
            "group": known.group.key,
            "detectors": detectors_to_list(known.detectors),
            "detectors_arrived": known.detectors.bit_count(),
            "record_version": known.record.record_version,
            "first_seen_at": trace.first_seen_at,
        }
        if known.expected is not None:
            missing = known.expected.detectors & ~known.detectors
            found |= {
                "raws_expected": known.expected.detectors.bit_count(),
                "raws_missing": missing.bit_count(),
                "missing_detectors": detectors_to_list(missing),
            }
            if missing and trace.at is not None and trace.first_seen_at is not None:
                found["missing_for_s"] = round((trace.at - trace.first_seen_at).total_seconds(), 1)
        found["neighbours"] = _neighbours(trace)
    found["visits"] = [each._asdict() for each in trace.visits]
    rules = _rules(settings, trace.instrument)
    found["waiting"] = _waiting(trace, rules)
    found["skips"] = list(_skips(trace, rules))
    found["dead_letters"] = [each._asdict() for each in trace.dead_letters]
    found["history"] = [{"at": at, "what": what} for at, what in sorted(_history(trace))]
    outcome = _outcome(found, trace)
    return found | {"ending": outcome.value, "summary": _summary(found, outcome, trace) + _arrival(found)}


def _rules(settings: Settings, instrument: str | None) -> Instrument | None:
    if instrument is None or instrument not in settings.instruments:
        return None
    return resolve_instrument(settings.instruments[instrument], settings.closing_of(instrument))


def _waiting(trace: Trace, rules: Instrument | None) -> Explanation | None:
    """Return until when the exposure's group waits, and for what."""
    if trace.waiting is None:
        return None
    group = trace.waiting.group
    found: Explanation = {
        "topic": trace.waiting.topic,
        "partition": trace.waiting.partition,
        "stream_time": _utc(trace.waiting.stream_time_ms),
        "opened": _utc(group.opened_ms),
        "last_change": _utc(group.last_ms),
        "members": [each.record.id for each in trace.members],
    }
    if rules is not None:
        policy = rules.closing
        due = deadline(group, policy)
        superseded = group.superseded_ms
        found |= {
            "closes": _utc(due.at_ms),
            "reason": due.reason.value,
            "deadlines": {
                "next_group": None if superseded is None else _utc(superseded + policy.next_group_grace_ms),
                "idle": _utc(group.last_ms + policy.close_after_ms),
                "age": _utc(group.opened_ms + policy.max_open_ms),
            },
            "raws_missing": [e.record.id for e in trace.members if not rules.arrived(e)],
        }
    return found


def _skips(trace: Trace, rules: Instrument | None) -> Iterator[Explanation]:
    """Yield for which reasons the exposure, or the rest of its group, defines no visit."""
    if trace.exposure is None:
        return
    record: Exposure = trace.exposure.record
    reason = record.off_sky_reason
    if reason is not None:
        yield {"reason": reason.value, "detail": f"exposure {record.id} is not on sky: {reason.value}"}
        return
    if rules is None or trace.waiting is not None:
        return
    if not rules.arrived(trace.exposure):
        yield {
            "reason": "raw_missing",
            "detail": "no raw has arrived of a detector whose header the regions need",
        }
        return
    arrived = [each.record for each in trace.members if rules.arrived(each)]
    try:
        made = rules.rule.define(Group(key=trace.exposure.group, exposures=in_time_order(arrived)), closed=True)
    except GroupError:
        return  # the group's dead letter says it
    yield from (
        {"reason": skip.reason.value, "detail": skip.detail} for skip in made.skips if record.id in skip.exposures
    )


def _outcome(found: Explanation, trace: Trace) -> Outcome:
    if found["visits"]:
        return Outcome.VISIT
    if found["skips"]:
        return Outcome.SKIPPED
    if found["waiting"]:
        return Outcome.WAITING
    if found["dead_letters"]:
        return Outcome.DEAD_LETTER
    return Outcome.NEVER_SEEN if trace.exposure is None else Outcome.UNFINISHED


def _summary(found: Explanation, outcome: Outcome, trace: Trace) -> str:
    name = f"exposure {found['exposure']}" + (f" of {trace.instrument}" if trace.instrument else "")
    match outcome:
        case Outcome.VISIT:
            visits = " and ".join(f"visit {v['id']}" for v in found["visits"])
            also = "; its group waits for more" if found["waiting"] else ""
            return f"{name} is in {visits}{also}"
        case Outcome.WAITING:
            closes = found["waiting"].get("closes")
            until = f"; it closes at {closes} of the stream's time, by {found['waiting']['reason']}" if closes else ""
            return f"{name} waits in the open group {found['group']!r}{until}"
        case Outcome.SKIPPED:
            return f"{name} defines no visit: " + "; ".join(s["detail"] for s in found["skips"])
        case Outcome.DEAD_LETTER:
            letters = ", ".join(f"{x['id']} ({x['reason']}, {x['status']})" for x in found["dead_letters"])
            return f"{name} has no visit, but dead letters: {letters}"
        case Outcome.UNFINISHED:
            return f"{name} is stored, but has no visit, waits in no group and was not skipped: look at its group"
        case Outcome.NEVER_SEEN:
            maybe = f"; {trace.unattributed} open dead letters name no exposure" if trace.unattributed else ""
            return f"{name} was never seen{maybe}"


def _arrival(found: Explanation) -> str:
    """Return how many of the expected raws arrived, and which are missing, where that is known."""
    expected, missing = found.get("raws_expected"), found.get("raws_missing", 0)
    if expected is None:
        return ""
    if not missing:
        return f"; all {expected} expected raws arrived"
    since = f", for {found['missing_for_s']:.0f} s" if "missing_for_s" in found else ""
    return f"; {expected - missing} of {expected} expected raws arrived; missing: {found['missing_detectors']}{since}"


def _neighbours(trace: Trace) -> Explanation:
    """Return the exposures before and after in the night's sequence, and the numbers in between that are missing."""
    assert trace.exposure is not None  # noqa: S101 -- asked before
    own = trace.exposure.record.seq_num
    found: Explanation = {}
    for each in trace.neighbours:
        assert own is not None  # noqa: S101 -- neighbours are by it
        side, first, last = (
            ("before", each.seq_num + 1, own - 1) if each.seq_num < own else ("after", own + 1, each.seq_num - 1)
        )
        found[side] = {"exposure": each.exposure, "seq_num": each.seq_num}
        if first <= last:
            found[side]["missing_seq_num"] = f"{first}" if first == last else f"{first}-{last}"
    return found


def _history(trace: Trace) -> Iterator[tuple[datetime, str]]:
    """Yield what happened and when, by the wall clock; each table keeps its first and its last change."""
    if trace.exposure is not None and trace.first_seen_at is not None and trace.updated_at is not None:
        yield trace.first_seen_at, "the first event of the exposure was stored"
        if trace.updated_at > trace.first_seen_at:
            version = trace.exposure.record.record_version
            what = f"a raw, or the correction with record version {version}," if version else "a raw"
            yield trace.updated_at, f"the exposure changed last: {what} was stored"
    for visit in trace.visits:
        why = f" ({visit.close_reason})" if visit.revision == 1 else ""
        yield visit.defined_at, f"the group closed{why}: visit {visit.id} was defined"
        if visit.revision > 1:
            yield visit.updated_at, f"visit {visit.id} was redefined: revision {visit.revision} ({visit.close_reason})"
    for letter in trace.dead_letters:
        yield letter.recorded_at, f"dead letter {letter.id}: {letter.reason}: {letter.detail}"
        if letter.settled_at is not None:
            yield letter.settled_at, f"dead letter {letter.id} was {letter.status}"


def _utc(time_ms: int | None) -> str | None:
    if time_ms is None:
        return None
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
