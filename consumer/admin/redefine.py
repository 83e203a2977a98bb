"""Define stored exposures again after a change of padding, rule or camera, and replace what differs.

Safe beside running consumers: each component is one transaction, which locks exposures, groups and visits in the
service's order, and is left as it is when something of it changed in the meantime or waits. Consumers that still run
with the former settings make what they define by those: restart them first.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from time import sleep, time_ns
from typing import TypeVar, cast

from consumer.config import Settings
from consumer.config.resolve import resolve_instrument, resolve_obscore
from consumer.domain import Candidate, ExposureKey, Instrument, KnownExposure, VisitDiff
from consumer.domain.redefinition import (
    ChangeKind,
    Component,
    VisitChange,
    components,
    define_groups,
    differences,
    in_scope,
    judge,
    key_of,
)
from consumer.domain.visit_records import make_records
from consumer.errors import ConfigurationError, DataRefusedError, GroupError, TransientError
from consumer.events.visit_defined import announcer, outbox_rows, removal_rows
from consumer.model import CloseReason, RawRegion, VisitRecords
from consumer.postgres.batch_tables import BatchTransaction
from consumer.postgres.connection import Database, Session
from consumer.postgres.migrate import check_schema, store_visit_systems
from consumer.postgres.offline_store import lock_groups, read_visits, release_visits
from consumer.postgres.row_codecs import columns, exposure_from_row

_ATTEMPTS = 5
_PAUSE_S = 0.5

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What to define again."""

    instrument: str
    day_obs: int | None = None
    visit: int | None = None


class Redefinition:
    """Defines again the visits of a night, or one of them with all that shares a group with it.

    Parameters
    ----------
    database
        A session of the writer role.
    settings
        The changed ones.
    scope
        What to define again.

    Raises
    ------
    ConfigurationError
        When the instrument is not configured, or the visit is not stored.
    FatalError
        When the database has not this release's schema.
    """

    def __init__(self, database: Database, settings: Settings, scope: Scope) -> None:
        if scope.instrument not in settings.instruments:
            known = ", ".join(sorted(settings.instruments))
            raise ConfigurationError(f"instrument {scope.instrument!r} is not among the configured ones: {known}")
        self._scope = scope
        self._database = database
        self._obscore = resolve_obscore(settings)
        self._announce = announcer(settings.announce.topic, now_ns=time_ns)
        self._rules = resolve_instrument(settings.instruments[scope.instrument], settings.closing_of(scope.instrument))
        check_schema(self._database)

    def components(self) -> list[Component]:
        """Read the exposures concerned, and take them apart."""
        return _again(self._components)

    def redefine(self, component: Component, *, write: bool, again: Collection[int] = frozenset()) -> list[VisitChange]:
        """Compare what a component defines with what is stored, and replace it in one transaction.

        Parameters
        ----------
        component
            Of `components`.
        write
            False: only tell.
        again
            Visits that are written again although their stored inputs hash is right: rows of them were damaged.
        """
        return _again(lambda: self._settle(component, write=write, again=again))

    def store_systems(self) -> None:
        """Store the visit systems of the rule."""
        store_visit_systems(self._database, {self._scope.instrument: self._rules.rule.visit_systems})

    def _components(self) -> list[Component]:
        instrument = self._scope.instrument
        with self._database.transaction() as session:
            tables = BatchTransaction(session)
            wanted, days = self._wanted(session)
            reach = {day for each in days for day in _around(each)}
            around: set[int] = set()
            while not reach <= around:
                around |= reach
                rows = session.rows("visits", "exposures_of_days", {"instrument": instrument, "days": sorted(around)})
                nights = [exposure_from_row(row) for row in rows]
                if wanted is None:
                    wanted = {each.record.id for each in nights if each.record.day_obs in days}
                known = in_scope(nights, wanted, self._rules)
                reach = {each.record.day_obs for each in tables.group_members({each.group for each in known})}
            defined = define_groups(known, self._rules, self._raws(tables, known))
            named = [(instrument, c.definition.id, c.definition.name) for c in defined.candidates]
            stored = tables.lock_visits(named, {each.group for each in known})
            return components(known, defined, stored, self._rules)

    def _wanted(self, session: Session) -> tuple[set[int] | None, set[int]]:
        """Return the ids of the exposures to start from (None: all of the days), and the days that they are of."""
        scope = self._scope
        if scope.visit is None:
            return None, {cast("int", scope.day_obs)}
        rows = session.rows("visits", "exposures_of_visit", {"instrument": scope.instrument, "visit": scope.visit})
        if not rows:
            raise ConfigurationError(f"visit {scope.visit} of {scope.instrument} is not stored")
        return {cast("int", row[0]) for row in rows}, {cast("int", row[1]) for row in rows}

    def _settle(self, component: Component, *, write: bool, again: Collection[int]) -> list[VisitChange]:
        with self._database.transaction() as session:
            tables = BatchTransaction(session, self._obscore)
            known = tables.lock_exposures(component.exposures)
            free = lock_groups(tables, component.groups)
            members = {each.key for each in tables.group_members(component.groups)}
            groups = {key for each in known.values() for key in (each.group, key_of(each, self._rules))}
            if component.groups - free:
                tables.delete_groups(free)
                return [_left(component, ChangeKind.WAITING, "its group is open")]
            if not members <= known.keys() or groups != component.groups or len(known) != len(component.exposures):
                tables.delete_groups(free)
                return [_left(component, ChangeKind.WAITING, "it was changed just now: run the command again")]
            changes = self._replace(session, tables, component, list(known.values()), write=write, again=again)
            tables.delete_groups(free)
            return changes

    def _replace(
        self,
        session: Session,
        tables: BatchTransaction,
        component: Component,
        known: Sequence[KnownExposure],
        *,
        write: bool,
        again: Collection[int],
    ) -> list[VisitChange]:
        defined = define_groups(known, self._rules, self._raws(tables, known))
        if defined.failed:
            return [_left(component, ChangeKind.FAILED, letter.detail) for letter in defined.dead_letters]
        named = [(component.instrument, c.definition.id, c.definition.name) for c in defined.candidates]
        stored = tables.lock_visits(named, component.groups)
        diff = judge(known, defined, stored, self._rules)
        by_id = {each.id: each for each in stored}
        damaged = [each for each in diff.unchanged if each.definition.id in again]
        diff.updated += [(each, by_id[each.definition.id]) for each in damaged]
        diff.unchanged = [each for each in diff.unchanged if each not in damaged]
        conflicts = [_changed(c, ChangeKind.CONFLICT, letter.detail) for c, letter in diff.conflicts]
        if conflicts and diff.stale:
            return conflicts  # a group that is refused its new visits would lose its stored ones as well
        wanted = [*diff.new, *(candidate for candidate, _ in diff.updated)]
        try:
            records = [_records(candidate, self._rules) for candidate in wanted]
        except GroupError as error:
            return [_left(component, ChangeKind.FAILED, error.detail)]
        changes = list(_changes(session, component.instrument, diff, records))
        if write:
            regrouped = [(*each.key, key_of(each, self._rules).key) for each in known]
            session.run("visits", "regroup_exposures", columns(("instruments", "ids", "group_keys"), regrouped))
            replaced = [old for _, old in diff.updated]
            removed = tables.delete_visits(diff.stale)
            if self._announce is not None:
                tables.write_outbox(removal_rows(removed, self._announce))
            release_visits(session, [(old, candidate.group) for candidate, old in diff.updated])
            if records:
                revisions = tables.write_visits(records, replaced, alone=False)
                if self._announce is not None:
                    tables.write_outbox(outbox_rows(records, revisions, self._announce))
            tables.resolve_dead_letters(defined.closed - {candidate.group for candidate, _ in diff.conflicts})
        return changes + conflicts

    def _raws(self, tables: BatchTransaction, known: Sequence[KnownExposure]) -> dict[ExposureKey, list[RawRegion]]:
        return tables.raw_regions(each.key for each in known) if self._rules.algorithm.needs_headers else {}


def _records(candidate: Candidate, rules: Instrument) -> VisitRecords:
    return make_records(
        candidate.definition,
        group=candidate.group,
        regions=rules.algorithm.compute(candidate.definition.exposures, candidate.raws),
        hashed=candidate.inputs_hash,
        rule=rules.rule.name,
        algorithm=rules.algorithm.name,
        padding=rules.algorithm.padding,
        close_reason=CloseReason.COMPLETE if candidate.definition.complete else CloseReason.IDLE,
    )


def _changes(
    session: Session, instrument: str, diff: VisitDiff, records: Sequence[VisitRecords]
) -> Iterator[VisitChange]:
    """Return what happens to each visit of a component."""
    old = read_visits(session, instrument, [stored.id for _, stored in diff.updated])
    for candidate in diff.new:
        yield _changed(candidate, ChangeKind.NEW, "")
    for each in records[len(diff.new) :]:
        visit = each.definition
        detail = "; ".join(differences(old[visit.id], each))
        yield VisitChange(
            kind=ChangeKind.UPDATED, instrument=instrument, visit=visit.id, name=visit.name, detail=detail
        )
    for stored in diff.stale:
        yield VisitChange(kind=ChangeKind.REMOVED, instrument=instrument, visit=stored.id, name=stored.name)
    for candidate in diff.unchanged:
        yield _changed(candidate, ChangeKind.UNCHANGED, "")


def _changed(candidate: Candidate, kind: ChangeKind, detail: str) -> VisitChange:
    visit = candidate.definition
    return VisitChange(kind=kind, instrument=visit.instrument, visit=visit.id, name=visit.name, detail=detail)


def _left(component: Component, kind: ChangeKind, detail: str) -> VisitChange:
    exposures = ", ".join(str(key.id) for key in sorted(component.exposures))
    group = min(component.groups).key
    return VisitChange(
        kind=kind, instrument=component.instrument, visit=None, name=group, detail=f"{detail} (exposures {exposures})"
    )


def _around(day_obs: int) -> Iterator[int]:
    """Return the days before, of and after a night: a group by the present rule may reach over the border."""
    try:
        day = date(day_obs // 10000, day_obs // 100 % 100, day_obs % 100)
    except ValueError as error:
        raise ConfigurationError(f"day_obs {day_obs} is no date: write YYYYMMDD") from error
    for step in (-1, 0, 1):
        other = day + timedelta(days=step)
        yield other.year * 10000 + other.month * 100 + other.day


def _again(attempt: Callable[[], Answer]) -> Answer:
    """Try again when the database is unavailable, or a consumer wrote one of the rows at the same moment."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return attempt()
        except (TransientError, DataRefusedError):
            sleep(_PAUSE_S)
    return attempt()
