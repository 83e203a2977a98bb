"""What a batch's transaction reads and writes, one method for each step in the order of `apply_batch`.

Delivery: all of a batch or nothing. `advance` is the fence and comes first: it fails where a partition was lost.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from typing import Any, cast

from consumer.domain import ExposureKey, KnownExposure, StoredVisit, VisitKey
from consumer.domain.closing import Deadline, Later, OpenGroup, Waiting
from consumer.domain.obscore import WRITTEN, Obscore, PublishedVisit
from consumer.errors import DataRefusedError, FatalError, FencedError
from consumer.events.visit_defined import RemovedVisit
from consumer.model import DeadLetter, GroupKey, OffsetUpdate, PartitionId, RawRegion, VisitRecords
from consumer.postgres.connection import Database, Session
from consumer.postgres.row_codecs import (
    Parameters,
    array_text,
    columns,
    dead_letter_columns,
    detector_columns,
    detector_copy_data,
    detectors_to_text,
    exposure_from_row,
    exposures_to_json,
    group_columns,
    raw_region_from_row,
    visit_columns,
)
from consumer.regions import htm7_ids


class BatchStore:
    """The session in which batches are written; implements `consumer.service.writer.Store`.

    Parameters
    ----------
    database
        A session of the writer role.
    obscore
        Makes the rows of the ObsCore table; None: they are not written.
    """

    def __init__(self, database: Database, obscore: Obscore | None = None) -> None:
        self._database = database
        self._obscore = obscore

    @contextmanager
    def transaction(self, *, timeout_factor: int = 1) -> Iterator["BatchTransaction"]:
        """Run the body in one transaction; see `consumer.postgres.connection.Database.transaction`."""
        with self._database.transaction(timeout_factor=timeout_factor) as session:
            yield BatchTransaction(session, self._obscore)

    def close(self) -> None:
        """End the session; the next transaction opens another."""
        self._database.close()

    def cancel(self) -> None:
        """Ask the server, from any thread, to end the running statement."""
        self._database.cancel()


class BatchTransaction:
    """The statements of one batch inside one transaction; with `obscore`, a visit's row of the ObsCore table too."""

    def __init__(self, session: Session, obscore: Obscore | None = None) -> None:
        self._session = session
        self._obscore = obscore

    @property
    def round_trips(self) -> int:
        """How often an answer of the server was waited for."""
        return self._session.round_trips

    def advance(self, offset_updates: Sequence[OffsetUpdate]) -> None:
        """Move the stored positions; the next statement that is answered, or the commit, fails where that was refused.

        Raises
        ------
        FencedError
            Then: when one of the rows is not at our epoch and where we left it.
        FatalError
            Then: when a pooler has given this session to another service.
        """

        def check(answer: list[tuple[object, ...]]) -> None:
            schema, moved = cast("tuple[str, int]", answer[0])
            if schema != self._session.schema:
                raise FatalError(
                    f"this session stands in schema {schema!r}, not in {self._session.schema!r}: a connection pooler "
                    "that hides itself gives it to several services; connect to PostgreSQL, or to a pooler in session "
                    "mode"
                )
            if moved != len(offset_updates):
                raise FencedError(
                    f"{len(offset_updates) - moved} of {len(offset_updates)} positions are not as expected"
                )

        names = ("ids", "epochs", "expected", "next_offsets", "stream_times", "leader_epochs")
        rows = (
            (a.offset_id, a.epoch, a.expected, a.next_offset, a.stream_time_ms, a.leader_epoch) for a in offset_updates
        )
        self._session.run_later("batch", "advance_positions", columns(names, rows), check=check)

    def insert_exposures(self, exposures: Collection[KnownExposure]) -> set[ExposureKey]:
        """Store exposures that are new, and tell which were."""
        rows = self._rows("insert_exposures", {"exposures": exposures_to_json(exposures)})
        return {ExposureKey(*cast("tuple[str, int]", row)) for row in rows}

    def lock_exposures(self, keys: Iterable[ExposureKey]) -> dict[ExposureKey, KnownExposure]:
        """Read stored exposures and keep them from changing until the transaction ends."""
        rows = self._rows("lock_exposures", columns(("instruments", "ids"), sorted(keys)))
        return {known.key: known for known in map(exposure_from_row, rows)}

    def update_exposures(
        self, merged: Mapping[ExposureKey, KnownExposure], stored: Mapping[ExposureKey, KnownExposure]
    ) -> None:
        """Store what merging made of locked exposures, where it made a difference."""
        existing = [(key, known, stored[key]) for key, known in merged.items() if key in stored]
        changed = [known for _, known, old in existing if known != old._replace(detectors=known.detectors)]
        if changed:
            self._run("update_exposures", {"exposures": exposures_to_json(changed)})
        seen = [
            (*key, detectors_to_text(known.detectors))
            for key, known, old in existing
            if known.detectors != old.detectors and known == old._replace(detectors=known.detectors)
        ]
        if seen:
            self._run("add_detectors", columns(("instruments", "ids", "detectors"), seen))

    def raw_regions(self, exposures: Iterable[ExposureKey]) -> dict[ExposureKey, list[RawRegion]]:
        """Read what the raws' own WCS said, by exposure, in order of detectors."""
        regions: dict[ExposureKey, list[RawRegion]] = {}
        for row in self._rows("raw_regions", columns(("instruments", "exposures"), sorted(exposures))):
            region = raw_region_from_row(row)
            regions.setdefault(ExposureKey(region.instrument, region.exposure), []).append(region)
        return {key: sorted(each, key=lambda r: r.detector) for key, each in regions.items()}

    def insert_raw_regions(self, regions: Iterable[RawRegion]) -> None:
        """Store what raws' own WCS said, where nothing of that version is stored yet."""
        names = ("instruments", "exposures", "detectors", "regions", "ras", "decs", "sky_angles", "record_versions")
        rows = (
            (r.instrument, r.exposure, r.detector, r.region, *(r.pointing or (None,) * 3), r.record_version)
            for r in regions
        )
        self._run("insert_raw_regions", columns(names, rows))

    def open_groups(self, keys: Collection[GroupKey]) -> list[OpenGroup]:
        """Claim the rows of groups that change; return those that were open already."""
        rows = self._rows("open_groups", group_columns(keys))
        return [_open_group(row) for row in rows if row[7] != 0]

    def lock_due_groups(
        self,
        stream_times_ms: Mapping[int, int],
        instruments: Collection[str],
        later: Collection[Later],
        most: int | None,
    ) -> list[OpenGroup]:
        """Read under a lock the groups of these instruments that fall due by these clocks, or that are superseded.

        Of more than `most` for one clock or one exposure some are left out; None: no bound.
        """
        parameters = columns(("clocks", "clocks_ms"), sorted(stream_times_ms.items()))
        parameters |= columns(("later_clocks", "later_instruments", "later_begins"), sorted(later))
        parameters |= {"instruments": sorted(instruments), "most": most}
        return [_open_group(row) for row in self._rows("lock_due_groups", parameters)]

    def lock_first_due_groups(
        self, stream_times_ms: Mapping[int, int], instruments: Collection[str], most: int
    ) -> list[OpenGroup]:
        """Read under a lock the groups of these instruments that fall due by these clocks, the earliest `most`."""
        parameters = columns(("clocks", "clocks_ms"), sorted(stream_times_ms.items()))
        parameters |= {"instruments": sorted(instruments), "most": most}
        return [_open_group(row) for row in self._rows("lock_first_due_groups", parameters)]

    def group_members(self, keys: Collection[GroupKey]) -> list[KnownExposure]:
        """Read the stored exposures of groups."""
        return [exposure_from_row(row) for row in self._rows("group_members", group_columns(keys))]

    def few_group_members(self, keys: Collection[GroupKey], most: int) -> tuple[list[KnownExposure], set[GroupKey]]:
        """Read the stored exposures of groups that have at most `most`; return them, and the groups that have more."""
        rows = self._rows("few_group_members", group_columns(keys) | {"most": most})
        large = {exposure_from_row(row[1:]).group for row in rows if row[0]}
        return [exposure_from_row(row[1:]) for row in rows if not row[0]], large

    def store_groups(self, groups: Iterable[tuple[OpenGroup, Deadline]]) -> None:
        """Store groups that stay open."""
        names = ("instruments", "group_keys", "clocks", "opened", "last", "superseded", "latest_begins", "deadlines")
        rows = sorted(
            (*g.key, g.offset_id, g.opened_ms, g.last_ms, g.superseded_ms, g.latest_begin, due.at_ms)
            for g, due in groups
        )
        if rows:
            self._run("store_groups", columns(names, rows))

    def delete_groups(self, keys: Collection[GroupKey]) -> None:
        """Remove groups that closed."""
        if keys:
            self._run("delete_groups", group_columns(keys))

    def lock_visits(self, visits: Sequence[tuple[str, int, str]], groups: Collection[GroupKey]) -> list[StoredVisit]:
        """Read under a lock the stored visits that have these (instrument, id, name), or belong to these groups."""
        parameters = columns(("instruments", "ids", "names"), visits) | group_columns(groups, prefix="group_")
        return [
            StoredVisit(
                cast("str", row[0]),
                cast("int", row[1]),
                cast("str", row[2]),
                GroupKey(cast("str", row[0]), cast("str", row[3])),
                cast("bytes", row[4]),
                cast("bytes", row[5]),
            )
            for row in self._rows("lock_visits", parameters)
        ]

    def delete_visits(self, visits: Sequence[StoredVisit]) -> list[RemovedVisit]:
        """Remove every row of visits that are defined no longer; return what was stored of them."""
        if not visits:
            return []
        self._delete_parts(visits)
        names = [each.name for each in fields(RemovedVisit)]
        rows = self._rows("delete_visits", _visit_keys(visits))
        return [RemovedVisit(**cast("dict[str, Any]", dict(zip(names, row, strict=True)))) for row in rows]

    def write_visits(
        self,
        visits: Sequence[VisitRecords],
        replaced: Sequence[StoredVisit],
        *,
        alone: bool,
        detector_regions: bool = True,
    ) -> dict[VisitKey, int]:
        """Store the rows of visits.

        Parameters
        ----------
        visits
            New and updated ones.
        replaced
            What is stored of the updated ones.
        alone
            Write under a savepoint.
        detector_regions
            False leaves the stored detector regions alone.

        Returns
        -------
        revisions
            Of each visit.

        Raises
        ------
        DataRefusedError
            When PostgreSQL refuses these rows. With `alone` none of them is written, and the transaction may go on.
        """
        with self._session.savepoint() if alone else nullcontext():
            return self._write_visits(visits, replaced, detector_regions=detector_regions)

    def copy_detector_regions(self, visits: Sequence[VisitRecords]) -> None:
        """Store the detector regions of visits of which none is stored; otherwise as `write_visits` does."""
        self._session.copy("batch", "copy_detector_regions", detector_copy_data(visits))

    def _delete_parts(self, visits: Sequence[StoredVisit], *, detector_regions: bool = True) -> None:
        regions = ("delete_detector_regions",) if detector_regions else ()
        for name in ("delete_definitions", "delete_memberships", "delete_obscore", *regions):
            self._run(name, _visit_keys(visits))
        trixels = [(trixel, v.instrument, v.id) for v in visits for trixel in htm7_ids(v.region)]
        self._run("delete_htm7", columns(("trixels", "instruments", "ids"), trixels))

    def _write_visits(
        self, visits: Sequence[VisitRecords], replaced: Sequence[StoredVisit], *, detector_regions: bool
    ) -> dict[VisitKey, int]:
        if replaced:
            self._delete_parts(replaced, detector_regions=detector_regions)
        written = self._rows("upsert_visits", visit_columns(visits))
        if len(written) != len(visits):
            raise DataRefusedError("another group took the id of a visit at this moment", sqlstate="23505")
        keyed = [(v.definition.instrument, v.definition.id, v) for v in visits]
        self._run(
            "insert_definitions",
            columns(
                ("instruments", "visits", "exposures"),
                ((instrument, id_, e.id) for instrument, id_, v in keyed for e in v.definition.exposures),
            ),
        )
        self._run(
            "insert_memberships",
            columns(
                ("instruments", "visits", "visit_systems"),
                ((instrument, id_, system) for instrument, id_, v in keyed for system in v.definition.visit_systems),
            ),
        )
        if detector_regions:
            for parameters in detector_columns(visits):
                self._run("insert_detector_regions", parameters)
        trixels = ((instrument, id_, array_text(v.regions.htm7)) for instrument, id_, v in keyed)
        self._run("insert_htm7", columns(("instruments", "visits", "trixels"), trixels))
        revisions = {
            VisitKey(cast("str", instrument), cast("int", id_)): cast("int", revision)
            for instrument, id_, revision in written
        }
        if self._obscore is not None:
            self.write_obscore(
                PublishedVisit(instrument, id_, v.definition.name, revisions[key], v.regions.visit, v.aggregate)
                for instrument, id_, v in keyed
                for key in [VisitKey(instrument, id_)]
            )
        return revisions

    def write_obscore(self, visits: Iterable[PublishedVisit]) -> None:
        """Store the rows of the ObsCore table, where they are written at all."""
        if self._obscore is not None:
            rows = map(self._obscore.row, visits)
            self._run("upsert_obscore", columns([column.name for column in WRITTEN], rows))

    def write_dead_letters(self, letters: Sequence[DeadLetter], stream_times_ms: Mapping[PartitionId, int]) -> None:
        """Store dead letters: of messages for good, of groups and exposures until they are resolved."""
        of_messages = [x for x in letters if x.message is not None]
        of_subjects = [x for x in letters if x.message is None]
        if of_messages:
            self._run("insert_dead_letters_of_messages", dead_letter_columns(of_messages, stream_times_ms))
        if of_subjects:
            unique = {(x.instrument, x.reason, x.group_key, x.exposure): x for x in of_subjects}
            self._run("insert_dead_letters_of_subjects", dead_letter_columns(unique.values()))

    def refused_groups(self, instruments: Collection[str]) -> set[GroupKey]:
        """Read the groups that were refused a visit because another group has its id or name."""
        rows = self._rows("refused_groups", {"instruments": sorted(instruments)})
        return {GroupKey(*cast("tuple[str, str]", row)) for row in rows}

    def resolve_dead_letters(self, groups: Collection[GroupKey]) -> None:
        """Mark the dead letters of groups that are visits now as resolved."""
        if groups:
            self._run("resolve_dead_letters", group_columns(groups))

    def resolve_dead_letters_of_exposures(self, exposures: Collection[ExposureKey]) -> None:
        """Mark the dead letters of exposures as resolved that were off sky and are corrected."""
        if exposures:
            self._run("resolve_dead_letters_of_exposures", columns(("instruments", "ids"), sorted(exposures)))

    def resolve_dead_letters_of_messages(self, offsets: Collection[tuple[int, int]]) -> None:
        """Mark the dead letters of messages as resolved that are read again, and are events now."""
        if offsets:
            self._run("resolve_dead_letters_of_messages", columns(("clocks", "offsets"), sorted(offsets)))

    def write_outbox(self, rows: Sequence[tuple[str, int, int, bytes]]) -> None:
        """Store announcements: instrument, visit, revision, payload."""
        if rows:
            self._run("insert_outbox", columns(("instruments", "visits", "revisions", "payloads"), rows))

    def waiting(self, offset_ids: Collection[int]) -> dict[int, Waiting]:
        """Read what waits on the stream time of each of these positions."""
        rows = self._rows("next_deadlines", {"clocks": sorted(offset_ids)})
        return {
            cast("int", offset_id): Waiting(cast("int", count), cast("int", at_ms), cast("int", opened_ms))
            for offset_id, at_ms, count, opened_ms in rows
        }

    def _rows(self, name: str, parameters: Parameters) -> list[tuple[object, ...]]:
        return self._session.rows("batch", name, parameters)

    def _run(self, name: str, parameters: Parameters) -> None:
        self._session.run_later("batch", name, parameters)


def _open_group(row: Sequence[object]) -> OpenGroup:
    instrument, key, offset_id, opened, last, superseded, latest_begin, _ = row
    return OpenGroup(
        key=GroupKey(cast("str", instrument), cast("str", key)),
        offset_id=cast("int", offset_id),
        opened_ms=cast("int", opened),
        last_ms=cast("int", last),
        superseded_ms=cast("int | None", superseded),
        latest_begin=cast("int | None", latest_begin),
    )


def _visit_keys(visits: Sequence[StoredVisit]) -> Parameters:
    return columns(("instruments", "ids"), ((v.instrument, v.id) for v in visits))
