"""One night of one instrument at one moment: what is stored, and what its exposures define by the present settings."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, cast

import numpy as np

from consumer.domain import Candidate, Defined, Instrument, KnownExposure
from consumer.domain.redefinition import define_groups, differences, key_of
from consumer.domain.visit_records import make_records
from consumer.errors import GroupError
from consumer.model import CloseReason, GroupKey, VisitRecords
from consumer.postgres.batch_tables import BatchTransaction
from consumer.postgres.connection import Database, Session
from consumer.postgres.offline_store import read_visits
from consumer.postgres.row_codecs import exposure_from_row
from consumer.regions.algorithm import compute_each
from consumer.regions.polygons import decode

TOLERANCE_RAD = 1e-12
_AT_ONCE = 100
_TAI_MINUS_UTC_NS = 37_000_000_000


class NightExposure(NamedTuple):
    """One stored exposure."""

    known: KnownExposure
    first_seen_at: datetime
    settled: bool
    """It ended, and nothing of it arrived, for longer than the grace: what is missing will not come by itself."""


class StoredRevision(NamedTuple):
    """One stored visit of the night or of its groups."""

    id: int
    group: str
    revision: int
    kept: bool | None
    """It was written since announcements are kept; None where none is kept."""


class OpenGroupRow(NamedTuple):
    """One open group; times are UTC milliseconds."""

    key: str
    opened_ms: int
    deadline_ms: int
    stream_time_ms: int | None
    """Where its partition's clock stands; None where no position has that clock."""
    quiet_s: float | None
    """For how long that position did not move."""
    now_ms: int


class OpenDeadLetter(NamedTuple):
    """One open dead letter."""

    id: int
    reason: str
    exposure: int | None
    group: str | None
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitCheck:
    """How a stored visit compares with the one that its stored exposures define."""

    visit: int
    exposures: frozenset[int]
    """That define it, or that it has."""
    missing_detectors: tuple[int, ...] = ()
    members_changed: str = ""
    differs: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """What rules check."""

    instrument: str
    day_obs: int
    rules: Instrument
    grace_s: float
    exposures: Sequence[NightExposure]
    """Of this day, ordered by id."""
    members: Mapping[GroupKey, Sequence[KnownExposure]]
    """By group, those of neighbouring days too."""
    defined: Defined
    visits: Mapping[int, StoredRevision]
    members_of_visits: Collection[int]
    """Exposures that are in a stored visit."""
    open_groups: Mapping[str, OpenGroupRow]
    dead_letters: Sequence[OpenDeadLetter]
    announced: Mapping[int, int] | None
    """The last announced revision by visit, as far as announcements are kept; None where none are made."""
    checks: Sequence[VisitCheck]
    camera_detectors: frozenset[int]
    """Of the camera, as the regions of this night have them; empty where that is not known."""
    untold: Sequence[str]
    """What could not be checked, and why."""


def instruments_of(database: Database, day_obs: int) -> list[str]:
    """Read which instruments have exposures or visits of a night; needs a session of the reader role."""
    with database.snapshot() as session:
        return [str(row[0]) for row in session.rows("audit", "instruments", {"day_obs": day_obs})]


def read_audited_night(
    database: Database, rules: Instrument, *, instrument: str, day_obs: int, grace_s: float, announces: bool
) -> Night:
    """Read a night at one moment, and define its visits again without a write.

    Parameters
    ----------
    database
        A session of the reader role.
    rules
        Of the instrument.
    instrument, day_obs
        Which night.
    grace_s
        How long after its end, and after the last event of it, an exposure's raws and neighbours may be under way.
    announces
        Whether the service announces visits.

    Raises
    ------
    TransientError, FatalError
        When the database cannot be asked.
    """
    wanted: dict[str, object] = {"instrument": instrument, "day_obs": day_obs}
    with database.transaction(timeout_factor=10, snapshot=True) as session:
        exposures = [_exposure(row, grace_s) for row in session.rows("audit", "exposures", wanted)]
        tables = BatchTransaction(session)
        groups = {key for each in exposures for key in (each.known.group, key_of(each.known, rules))}
        members: dict[GroupKey, list[KnownExposure]] = {}
        for known in tables.group_members(groups):
            members.setdefault(known.group, []).append(known)
        opened = {str(row[0]): OpenGroupRow(*row) for row in session.rows("audit", "open_groups", wanted)}  # type: ignore[arg-type]  # the columns' types
        closed = [each for key, group in members.items() if key.key not in opened for each in group]
        raws = tables.raw_regions(each.key for each in closed) if rules.algorithm.needs_headers else {}
        defined = define_groups(closed, rules, raws)
        keys = sorted(key.key for key in groups)
        rows = session.rows("audit", "visits", wanted | {"group_keys": keys})
        visits = {cast("int", row[0]): StoredRevision(*row) for row in rows}  # type: ignore[arg-type]  # the columns' types
        of_visits = session.rows(
            "read",
            "visits_of_exposures",
            {"instrument": instrument, "exposures": [e.known.record.id for e in exposures]},
        )
        untold = [f"group {letter.group_key!r}: {letter.detail}" for letter in defined.dead_letters]
        comparison = _Comparison(session, instrument, rules)
        settled = {id_: visit for id_, visit in visits.items() if visit.group not in opened}
        checks = list(comparison.checks(defined.candidates, settled, members))
        announced = session.rows("audit", "announced", wanted)
        return Night(
            instrument=instrument,
            day_obs=day_obs,
            rules=rules,
            grace_s=grace_s,
            exposures=exposures,
            members=members,
            defined=defined,
            visits=visits,
            members_of_visits={id_ for visit, ids in of_visits if visit in visits for id_ in cast("list[int]", ids)},
            open_groups=opened,
            dead_letters=[
                OpenDeadLetter(*row)  # type: ignore[arg-type]  # the columns' types
                for row in session.rows("audit", "dead_letters", wanted | _named(exposures, day_obs, keys))
            ],
            announced=dict(cast("list[tuple[int, int]]", announced)) if announces else None,
            checks=checks,
            camera_detectors=frozenset(comparison.detectors),
            untold=[*untold, *comparison.untold],
        )


def _exposure(row: Sequence[object], grace_s: float) -> NightExposure:
    known = exposure_from_row(row[:-3])
    first_seen_at, updated_at, now = cast("tuple[datetime, datetime, datetime]", row[-3:])
    end_ns = known.record.timespan_end
    ended = end_ns is None or now.timestamp() - (end_ns - _TAI_MINUS_UTC_NS) / 1e9 >= grace_s
    return NightExposure(known, first_seen_at, ended and (now - updated_at).total_seconds() >= grace_s)


def _named(exposures: Sequence[NightExposure], day_obs: int, keys: Sequence[str]) -> dict[str, object]:
    """Return what names the dead letters of a night."""
    noon = datetime(day_obs // 10000, day_obs // 100 % 100, day_obs % 100, 12, tzinfo=UTC)
    seen = [each.first_seen_at for each in exposures]
    hour = timedelta(hours=1)
    return {
        "exposures": [each.known.record.id for each in exposures],
        "group_keys": list(keys),
        "since": min(seen) - hour if seen else noon,
        "until": max(seen) + hour if seen else noon + timedelta(days=1),
    }


class _Comparison:
    """Compares stored visits with those that are defined now, some at a time."""

    def __init__(self, session: Session, instrument: str, rules: Instrument) -> None:
        self._session = session
        self._instrument = instrument
        self._rules = rules
        self.detectors: set[int] = set()
        self.untold: list[str] = []

    def checks(
        self,
        candidates: Sequence[Candidate],
        visits: Mapping[int, StoredRevision],
        members: Mapping[GroupKey, Sequence[KnownExposure]],
    ) -> Iterator[VisitCheck]:
        """Yield the visits in which something differs."""
        by_id = {each.definition.id: each for each in candidates}
        for id_ in sorted(visits.keys() - by_id.keys()):
            group = members.get(GroupKey(self._instrument, visits[id_].group), ())
            yield VisitCheck(
                visit=id_,
                exposures=frozenset(each.record.id for each in group),
                members_changed="the stored exposures of its group do not define it",
            )
        common = [by_id[id_] for id_ in sorted(visits.keys() & by_id.keys())]
        for start in range(0, len(common), _AT_ONCE):
            some = common[start : start + _AT_ONCE]
            stored = read_visits(self._session, self._instrument, [each.definition.id for each in some])
            regions = compute_each(self._rules.algorithm, [(each.definition.exposures, each.raws) for each in some])
            for candidate, made in zip(some, regions, strict=True):
                if isinstance(made, GroupError):
                    self.untold.append(f"visit {candidate.definition.id}: {made.detail}")
                    continue
                self.detectors.update(made.detectors)
                new = make_records(
                    candidate.definition,
                    group=candidate.group,
                    regions=made,
                    hashed=candidate.inputs_hash,
                    rule=self._rules.rule.name,
                    algorithm=self._rules.algorithm.name,
                    padding=self._rules.algorithm.padding,
                    close_reason=CloseReason.COMPLETE,
                )
                check = compare(stored[candidate.definition.id], new, keep_stored=self._rules.keep_stored)
                if check is not None:
                    yield check


def compare(old: VisitRecords, new: VisitRecords, *, keep_stored: bool) -> VisitCheck | None:
    """Compare a stored visit with the one that its exposures define; None where they agree within 1e-12 rad."""
    ours, theirs = (dict(zip(r.detectors, r.detector_regions, strict=True)) for r in (old.regions, new.regions))
    same_camera = old.regions.camera_version == new.regions.camera_version
    missing = tuple(sorted(theirs.keys() - ours.keys())) if same_camera else ()
    moved = sorted(detector for detector in ours if not alike(ours[detector], theirs.get(detector)))
    whole_moved = not alike(old.regions.visit, new.regions.visit)
    hash_differs = old.inputs_hash != new.inputs_hash
    if keep_stored and hash_differs:
        return None  # as the settings want it: late exposures stay out
    texts = differences(old, replace(new, regions=replace(old.regions, camera_version=new.regions.camera_version)))
    texts = [each for each in texts if not each.startswith("settings")]
    texts += ["region of the visit"] * whole_moved
    texts += [f"regions of {len(moved)} detectors"] * bool(moved)
    same_settings = all(getattr(old, name) == getattr(new, name) for name in ("rule", "algorithm", "padding"))
    members = [{e.id for e in records.definition.exposures} for records in (old, new)]
    changed = members[0] != members[1] or (hash_differs and same_settings and same_camera and bool(texts))
    if hash_differs and not texts:
        texts = ["stored inputs hash"]
    if not texts and not missing:
        return None
    text = "; ".join(texts)
    return VisitCheck(
        visit=new.definition.id,
        exposures=frozenset(members[1]),
        missing_detectors=missing,
        members_changed=text if changed else "",
        differs="" if changed else text,
    )


def alike(stored: bytes, computed: bytes | None) -> bool:
    """Whether two encoded polygons have the same corners within 1e-12 rad."""
    if computed is None or stored == computed:
        return computed is not None
    try:
        ours, theirs = decode(stored), decode(computed)
    except (RuntimeError, ValueError):
        return False  # what is stored is no polygon
    return ours.shape == theirs.shape and bool(np.all(np.abs(ours - theirs) <= TOLERANCE_RAD))
