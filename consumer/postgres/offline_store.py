"""The batch driver's store: visits in the service's own tables, each in one transaction.

Delivery: a visit's rows, and the exposures that it is made of, are written together or not at all. Locks are taken in
the service's order (exposures, groups, visits), so that it may run beside; what a running consumer changed between
our look and our write makes the write fail, never silently overwrite.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import cast

from consumer.domain import ExposureKey, KnownExposure, StoredVisit
from consumer.domain.obscore import Obscore
from consumer.domain.record_merge import merge_record
from consumer.errors import DeadLetterReason, GroupError
from consumer.events.visit_defined import Announce, outbox_rows
from consumer.grouping import GroupingRule
from consumer.model import (
    CloseReason,
    Exposure,
    GroupKey,
    RawRegion,
    VisitAggregate,
    VisitDefinition,
    VisitRecords,
    VisitRegions,
    in_time_order,
)
from consumer.postgres.batch_tables import BatchTransaction
from consumer.postgres.connection import Database, Session
from consumer.postgres.row_codecs import columns, exposure_from_row
from consumer.regions import htm7_ids
from consumer.task.define import DefineError

_AT_ONCE = 200
"""Visits that are read together: 41,000 detector regions of the largest camera."""


class _StoredError(Exception):
    """Something of what is new is stored: the transaction is rolled back."""


class PostgresVisitStore:
    """Implements `consumer.task.define.VisitStore` on PostgreSQL.

    Parameters
    ----------
    database
        A session of the writer role.
    announce
        Encodes announcements for the outbox; None: nothing is announced.
    obscore
        Makes the rows of the ObsCore table; None: they are not written.
    """

    def __init__(self, database: Database, *, announce: Announce | None = None, obscore: Obscore | None = None) -> None:
        self.database = database
        self._obscore = obscore
        self._announce = announce
        self._rule: GroupingRule | None = None
        self._exposures: dict[ExposureKey, Exposure] = {}
        self._regions: tuple[RawRegion, ...] = ()
        self._written: set[ExposureKey] = set()

    def merged(self, exposures: Sequence[Exposure], rule: GroupingRule) -> list[Exposure]:
        """Merge exposures into what is stored of them, as raws of them would be.

        Raises
        ------
        DefineError
            When a record contradicts the stored one, or moves its exposure to another group by this rule: the visit of
            the former group would keep it.
        """
        keys = [ExposureKey(e.instrument, e.id) for e in exposures]
        with self.database.transaction() as session:
            rows = session.rows("visits", "exposures", columns(("instruments", "ids"), keys))
        stored = {known.key: known.record for known in map(exposure_from_row, rows)}
        merged = [_merge(stored.get(key, each), each) for key, each in zip(keys, exposures, strict=True)]
        for key, record in zip(keys, merged, strict=True):
            if key in stored and (former := rule.key(stored[key])) != rule.key(record):
                raise DefineError(
                    f"exposure {key.id} of {key.instrument} is stored as one of group {former!r}, and would move to "
                    f"{rule.key(record)!r}: announce the correction by an event, which settles both groups"
                )
        return merged

    def begin(self, exposures: Iterable[Exposure], *, rule: GroupingRule, regions: Sequence[RawRegion]) -> None:
        """Take note of the exposures of a batch: each is stored with its visit, and the others by `finish`."""
        self._rule = rule
        self._exposures = {ExposureKey(e.instrument, e.id): e for e in exposures}
        self._regions = tuple(regions)
        self._written = set()

    def finish(self) -> None:
        """Store the exposures that no visit has brought in."""
        rest = [each for key, each in self._exposures.items() if key not in self._written]
        if rest:
            with self.database.transaction() as session:
                self._store_exposures(BatchTransaction(session), rest)

    def stored_visits(self, instrument: str, visits: Collection[int]) -> Mapping[int, VisitRecords]:
        """Return those of these visits that are stored, with every row."""
        wanted = sorted(visits)
        found: dict[int, VisitRecords] = {}
        for start in range(0, len(wanted), _AT_ONCE):
            with self.database.transaction() as session:
                found |= read_visits(session, instrument, wanted[start : start + _AT_ONCE])
        return found

    def group_members(self, groups: Collection[GroupKey]) -> Sequence[Exposure]:
        """Return the stored exposures of these groups."""
        with self.database.transaction() as session:
            return [known.record for known in BatchTransaction(session).group_members(groups)]

    def raw_regions(self, instrument: str, exposures: Collection[int]) -> Sequence[RawRegion]:
        """Return what is stored of these exposures' raws, or was given with this batch."""
        keys = [ExposureKey(instrument, exposure) for exposure in exposures]
        with self.database.transaction() as session:
            stored = BatchTransaction(session).raw_regions(keys)
        found = {(r.exposure, r.detector): r for each in stored.values() for r in each}
        for region in self._regions:
            if region.instrument == instrument and region.exposure in exposures:
                found.setdefault((region.exposure, region.detector), region)
        return [found[key] for key in sorted(found)]

    def exposures(self, instrument: str, ids: Collection[int]) -> Sequence[Exposure]:
        """Return those of these exposures that are stored."""
        keys = [ExposureKey(instrument, id_) for id_ in ids]
        with self.database.transaction() as session:
            rows = session.rows("visits", "exposures", columns(("instruments", "ids"), keys))
        return [known.record for known in map(exposure_from_row, rows)]

    def write(self, records: VisitRecords, *, detector_regions: bool) -> None:
        """Put the rows of one visit in the place of those that are stored, in one transaction.

        Raises
        ------
        GroupError
            When another group has the visit's id or name.
        DefineError
            When an exposure of it was changed since it was read.
        """
        visit = records.definition
        with self.database.transaction() as session:
            tables = BatchTransaction(session, self._obscore)
            self._store_exposures(tables, visit.exposures)
            free = lock_groups(tables, [records.group])
            stored = tables.lock_visits([(visit.instrument, visit.id, visit.name)], [])
            own = [each for each in stored if (each.id, each.group) == (visit.id, records.group)]
            if len(own) != len(stored):
                raise _claimed(records, next(each for each in stored if each not in own))
            write_visit(session, tables, records, own, detector_regions=detector_regions, announce=self._announce)
            tables.resolve_dead_letters([records.group])
            tables.delete_groups(free)
        self._written.update(ExposureKey(e.instrument, e.id) for e in visit.exposures)

    def stored_exposures(self, exposures: Iterable[Exposure]) -> set[ExposureKey]:
        """Return which of these exposures are stored."""
        keys = [ExposureKey(e.instrument, e.id) for e in exposures]
        with self.database.transaction() as session:
            rows = session.rows("visits", "exposures", columns(("instruments", "ids"), keys))
        return {exposure_from_row(row).key for row in rows}

    def write_new(self, visits: Sequence[VisitRecords]) -> bool:
        """Store the exposures given to `begin`, and their visits, in one transaction, where nothing of them is stored.

        Returns
        -------
        written
            False, and nothing is written, where an exposure, or a visit of one of these ids or names, is stored.
        """
        assert self._rule is not None  # noqa: S101 -- `begin` comes first
        known = [
            KnownExposure(each, GroupKey(each.instrument, self._rule.key(each)), 0)
            for _, each in sorted(self._exposures.items())
        ]
        groups = {records.group for records in visits}
        written = False
        with suppress(_StoredError), self.database.transaction() as session:
            tables = BatchTransaction(session)
            if len(tables.insert_exposures(known)) != len(known):
                raise _StoredError
            free = lock_groups(tables, groups)
            named = [(v.definition.instrument, v.definition.id, v.definition.name) for v in visits]
            if tables.lock_visits(sorted(named), []):
                raise _StoredError
            if self._regions:
                tables.insert_raw_regions(self._regions)
            revisions = tables.write_visits(visits, [], alone=False, detector_regions=False)
            tables.copy_detector_regions(visits)
            if self._announce is not None:
                tables.write_outbox(outbox_rows(visits, revisions, self._announce))
            tables.resolve_dead_letters(groups)
            tables.delete_groups(free)
            written = True
        return written

    def _store_exposures(self, tables: BatchTransaction, exposures: Sequence[Exposure]) -> None:
        """Store exposures, or make sure that the stored ones are those that the visit was made of."""
        assert self._rule is not None  # noqa: S101 -- `begin` comes first
        rule = self._rule
        given = {
            (known := KnownExposure(e, GroupKey(e.instrument, rule.key(e)), 0)).key: known
            for e in sorted(exposures, key=lambda each: (each.instrument, each.id))
        }
        existing = given.keys() - tables.insert_exposures(list(given.values()))
        stored = tables.lock_exposures(existing) if existing else {}
        changed = {}
        for key, known in stored.items():
            record = given[key].record
            if _merge(known.record, record) != record:
                raise DefineError(f"exposure {key.id} of {key.instrument} was changed just now: run the command again")
            changed[key] = known._replace(record=record, group=given[key].group)
        tables.update_exposures(changed, stored)
        regions = [r for r in self._regions if ExposureKey(r.instrument, r.exposure) in given]
        if regions:
            tables.insert_raw_regions(regions)


def lock_groups(tables: BatchTransaction, groups: Collection[GroupKey]) -> set[GroupKey]:
    """Keep consumers from groups until the transaction ends; return those that were not open, to be deleted then."""
    return set(groups) - {group.key for group in tables.open_groups(groups)}


def write_visit(
    session: Session,
    tables: BatchTransaction,
    records: VisitRecords,
    stored: Sequence[StoredVisit],
    *,
    detector_regions: bool = True,
    announce: Announce | None = None,
) -> None:
    """Write the rows of one visit, whose stored row, if there is one, is locked.

    Parameters
    ----------
    session, tables
        Of the open transaction.
    records
        The rows.
    stored
        The visit as it is stored; it may be of another group. Empty: it is new.
    detector_regions
        False leaves the stored detector regions alone.
    announce
        Encodes the announcement for the outbox.
    """
    release_visits(session, [(each, records.group) for each in stored])
    revisions = tables.write_visits([records], stored, alone=False, detector_regions=detector_regions)
    if announce is not None:
        tables.write_outbox(outbox_rows([records], revisions, announce))


def release_visits(session: Session, visits: Iterable[tuple[StoredVisit, GroupKey]]) -> None:
    """Let locked visits be rewritten, whatever their hash, by the group that is given with each."""
    for each, group in visits:
        session.run("visits", "release_visit", {"instrument": each.instrument, "id": each.id, "group_key": group.key})


def read_visits(session: Session, instrument: str, visits: Sequence[int]) -> dict[int, VisitRecords]:
    """Read every row of visits."""
    wanted = {"instrument": instrument, "visits": list(visits)}
    members: dict[int, list[Exposure]] = {}
    for visit, *row in session.rows("visits", "members", wanted):
        members.setdefault(cast("int", visit), []).append(exposure_from_row(row).record)
    systems: dict[int, list[int]] = {}
    for visit, system in session.rows("visits", "memberships", wanted):
        systems.setdefault(cast("int", visit), []).append(cast("int", system))
    detectors: dict[int, list[tuple[int, bytes]]] = {}
    for visit, detector, region in session.rows("visits", "detector_regions", wanted):
        detectors.setdefault(cast("int", visit), []).append((cast("int", detector), cast("bytes", region)))
    return {
        cast("int", row[0]): _records(
            instrument,
            row,
            in_time_order(members.get(cast("int", row[0]), [])),
            tuple(systems.get(cast("int", row[0]), ())),
            detectors.get(cast("int", row[0]), []),
        )
        for row in session.rows("visits", "visits", wanted)
    }


def _records(
    instrument: str,
    row: Sequence[object],
    members: tuple[Exposure, ...],
    systems: tuple[int, ...],
    detectors: Sequence[tuple[int, bytes]],
) -> VisitRecords:
    """Put the rows of one visit together; the row's columns are in the order of the statement ``visits``."""
    id_, name, complete, group_key, inputs_hash, rule, algorithm, camera_version, padding, close_reason, region = row[
        :11
    ]
    return VisitRecords(
        definition=VisitDefinition(
            instrument=instrument,
            id=cast("int", id_),
            name=cast("str", name),
            visit_systems=systems,
            exposures=members,
            complete=cast("bool | None", complete),
        ),
        group=GroupKey(instrument, cast("str", group_key)),
        aggregate=VisitAggregate(**dict(zip(VisitAggregate.__dataclass_fields__, row[11:], strict=True))),  # type: ignore[arg-type]  # the columns' types
        regions=VisitRegions(
            visit=cast("bytes", region),
            detectors=tuple(detector for detector, _ in detectors),
            detector_regions=tuple(encoding for _, encoding in detectors),
            htm7=htm7_ids(cast("bytes", region)),
            camera_version=cast("str | None", camera_version),
        ),
        inputs_hash=cast("bytes", inputs_hash),
        rule=cast("str", rule),
        algorithm=cast("str", algorithm),
        padding=cast("int", padding),
        close_reason=CloseReason(cast("str", close_reason)),
    )


def _merge(stored: Exposure, given: Exposure) -> Exposure:
    outcome = merge_record(stored, given)
    if outcome.contradictions:
        raise DefineError(
            f"exposure {given.id} of {given.instrument} is stored with other values ({outcome.detail}); "
            "a correction has a higher record_version"
        )
    return outcome.exposure


def _claimed(records: VisitRecords, other: StoredVisit) -> GroupError:
    visit = records.definition
    return GroupError(
        DeadLetterReason.VISIT_CONFLICT,
        f"visit {visit.id} {visit.name!r} of group {records.group.key!r} is claimed already by group "
        f"{other.group.key!r} as visit {other.id}; the stored visit stays",
    )
