"""The tables of the service in memory, as `consumer.postgres.batch_tables` has them in PostgreSQL.

A transaction works on a copy, which takes the place of what was stored when it is committed: transactions follow each
other here, and never wait for one another. ``tests/integration/test_simulated_tables.py`` holds both to each other.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import NamedTuple

from consumer.domain import ExposureKey, KnownExposure, StoredVisit, VisitKey
from consumer.domain.closing import Deadline, Later, OpenGroup, Waiting
from consumer.errors import DataRefusedError, FencedError
from consumer.events.visit_defined import Announcement, RemovedVisit
from consumer.model import (
    DeadLetter,
    GroupKey,
    LogPartition,
    OffsetUpdate,
    PartitionId,
    RawRegion,
    StoredPosition,
    VisitRecords,
)


class Subject(NamedTuple):
    """What a dead letter of an exposure or a group is about."""

    instrument: str | None
    reason: str
    group_key: str | None
    exposure: int | None


class Letter(NamedTuple):
    """What is stored of a dead letter."""

    detail: str
    is_open: bool


class Visit(NamedTuple):
    """What is stored of a visit."""

    records: VisitRecords
    revision: int


@dataclass(slots=True)
class Rows:
    """All tables; no row is changed in place."""

    positions: dict[int, StoredPosition] = field(default_factory=dict)
    ids: dict[LogPartition, int] = field(default_factory=dict)
    claimed: dict[int, int | None] = field(default_factory=dict)
    exposures: dict[ExposureKey, KnownExposure] = field(default_factory=dict)
    groups: dict[GroupKey, tuple[OpenGroup, int]] = field(default_factory=dict)
    """Open groups and their deadlines, UTC milliseconds."""
    visits: dict[VisitKey, Visit] = field(default_factory=dict)
    retired: dict[VisitKey, int] = field(default_factory=dict)
    message_letters: dict[tuple[int, int], tuple[DeadLetter, bool]] = field(default_factory=dict)
    """By id of the position and offset; and whether it is open."""
    subject_letters: dict[Subject, Letter] = field(default_factory=dict)
    outbox: dict[int, tuple[VisitKey, int, bytes]] = field(default_factory=dict)
    """What is to be announced: visit, revision and payload, by number."""
    sent: frozenset[int] = frozenset()

    def copy(self) -> "Rows":
        """Begin a transaction."""
        return replace(self, **{name: getattr(self, name).copy() for name in _TABLES})

    def revision(self, key: VisitKey) -> int:
        """Return the last revision of a visit, also of one that is gone; 0 for none."""
        return self.visits[key].revision if key in self.visits else self.retired.get(key, 0)

    @property
    def unsent(self) -> list[Announcement]:
        """What no broker is known to have, in order."""
        return [
            Announcement(id=number, instrument=key.instrument, visit=key.id, payload=payload)
            for number, (key, _, payload) in self.outbox.items()
            if number not in self.sent
        ]


_TABLES = [each.name for each in fields(Rows)]


class MemoryTables:
    """The statements of one batch inside one transaction; see `consumer.service.tables.Tables` for each.

    Parameters
    ----------
    rows
        The transaction's own.
    refuses
        Says of an exposure why it cannot be stored; None where it can.
    """

    def __init__(self, rows: Rows, refuses: Callable[[KnownExposure], Exception | None] = lambda _: None) -> None:
        self.rows = rows
        self.round_trips = 0
        self._refuses = refuses

    def advance(self, offset_updates: Sequence[OffsetUpdate]) -> None:
        """Move the positions, where all are at our epoch and where we left them."""
        for each in offset_updates:
            stored = self.rows.positions[each.offset_id]
            if (stored.epoch, stored.next_offset) != (each.epoch, each.expected):
                raise FencedError(f"position {each.offset_id} is not as expected")
            self.rows.positions[each.offset_id] = stored._replace(
                next_offset=each.next_offset,
                stream_time_ms=max(each.stream_time_ms, stored.stream_time_ms),
                leader_epoch=each.leader_epoch,
            )

    def insert_exposures(self, exposures: Collection[KnownExposure]) -> set[ExposureKey]:
        """Store those that are new."""
        for each in exposures:
            if (refused := self._refuses(each)) is not None:
                raise refused
        new = {each.key: each for each in exposures if each.key not in self.rows.exposures}
        self.rows.exposures |= new
        return set(new)

    def lock_exposures(self, keys: Iterable[ExposureKey]) -> dict[ExposureKey, KnownExposure]:
        """Read those that are stored."""
        return {key: self.rows.exposures[key] for key in keys if key in self.rows.exposures}

    def update_exposures(
        self, merged: Mapping[ExposureKey, KnownExposure], stored: Mapping[ExposureKey, KnownExposure]
    ) -> None:
        """Replace those that were stored."""
        for each in merged.values():
            if (refused := self._refuses(each)) is not None:
                raise refused
        self.rows.exposures |= {key: known for key, known in merged.items() if key in stored}

    def insert_raw_regions(self, regions: Iterable[RawRegion]) -> None:
        """Do nothing: no algorithm here reads the WCS of raws."""
        assert not list(regions)

    def raw_regions(self, exposures: Iterable[ExposureKey]) -> dict[ExposureKey, list[RawRegion]]:
        """Return nothing, as above."""
        assert not list(exposures)
        return {}

    def open_groups(self, keys: Collection[GroupKey]) -> list[OpenGroup]:
        """Return those that are open."""
        return [self.rows.groups[key][0] for key in sorted(keys) if key in self.rows.groups]

    def lock_due_groups(
        self,
        stream_times_ms: Mapping[int, int],
        instruments: Collection[str],
        later: Collection[Later],
        most: int | None,
    ) -> list[OpenGroup]:
        """Return the open groups that fall due, or that are superseded; of all clocks at most so many each."""
        found: dict[GroupKey, OpenGroup] = {}
        for offset_id, at_ms in stream_times_ms.items():
            due = [g for g, deadline_ms in self._of(offset_id, instruments) if deadline_ms <= at_ms]
            found |= {group.key: group for group in due[:most]}
        for each in later:
            behind = [
                g
                for g, _ in self._of(each.offset_id, {each.instrument})
                if g.superseded_ms is None and g.latest_begin is not None and g.latest_begin < each.begin
            ]
            found |= {group.key: group for group in behind[:most]}
        return [found[key] for key in sorted(found)]

    def lock_first_due_groups(
        self, stream_times_ms: Mapping[int, int], instruments: Collection[str], most: int
    ) -> list[OpenGroup]:
        """Return the open groups that fall due first."""
        due = [
            (deadline_ms, group.key, group)
            for offset_id, at_ms in stream_times_ms.items()
            for group, deadline_ms in self._of(offset_id, instruments)
            if deadline_ms <= at_ms
        ]
        due.sort(key=lambda each: each[:2])
        return sorted((group for _, _, group in due[:most]), key=lambda each: each.key)

    def group_members(self, keys: Collection[GroupKey]) -> list[KnownExposure]:
        """Return the exposures of groups."""
        return [each for each in self.rows.exposures.values() if each.group in keys]

    def few_group_members(self, keys: Collection[GroupKey], most: int) -> tuple[list[KnownExposure], set[GroupKey]]:
        """Return the exposures of small groups, and the large groups."""
        members = self.group_members(keys)
        counts: dict[GroupKey, int] = {}
        for each in members:
            counts[each.group] = counts.get(each.group, 0) + 1
        large = {key for key, count in counts.items() if count > most}
        return [each for each in members if each.group not in large], large

    def store_groups(self, groups: Iterable[tuple[OpenGroup, Deadline]]) -> None:
        """Store groups that stay open."""
        self.rows.groups |= {group.key: (group, deadline.at_ms) for group, deadline in groups}

    def delete_groups(self, keys: Collection[GroupKey]) -> None:
        """Remove groups that closed."""
        for key in keys:
            self.rows.groups.pop(key, None)

    def lock_visits(self, visits: Sequence[tuple[str, int, str]], groups: Collection[GroupKey]) -> list[StoredVisit]:
        """Return the visits with these ids or names, or of these groups."""
        ids = {VisitKey(instrument, number) for instrument, number, _ in visits}
        names = {(instrument, name) for instrument, _, name in visits}
        found = {
            key: stored
            for key, (stored, _) in self.rows.visits.items()
            if key in ids or (key.instrument, stored.definition.name) in names or stored.group in groups
        }
        return [
            StoredVisit(*key, stored.definition.name, stored.group, stored.inputs_hash, stored.regions.visit)
            for key, stored in sorted(found.items())
        ]

    def delete_visits(self, visits: Sequence[StoredVisit]) -> list[RemovedVisit]:
        """Remove visits; their removal is a revision too."""
        removed = []
        for key in sorted({VisitKey(each.instrument, each.id) for each in visits}):
            if key not in self.rows.visits:
                continue
            gone, revision = self.rows.visits.pop(key)
            self.rows.retired[key] = max(self.rows.retired.get(key, 0), revision + 1)
            removed.append(
                RemovedVisit(
                    instrument=key.instrument,
                    id=key.id,
                    revision=revision + 1,
                    name=gone.definition.name,
                    complete=gone.definition.complete,
                    close_reason=str(gone.close_reason),
                    day_obs=gone.aggregate.day_obs,
                    physical_filter=gone.aggregate.physical_filter,
                    timespan_begin=gone.aggregate.timespan_begin,
                    timespan_end=gone.aggregate.timespan_end,
                    region=gone.regions.visit,
                )
            )
        return removed

    def write_visits(
        self, visits: Sequence[VisitRecords], replaced: Sequence[StoredVisit], *, alone: bool
    ) -> dict[VisitKey, int]:
        """Store visits: all of them, or none where the id or the name of one belongs to another."""
        del replaced, alone
        stored, revisions = dict(self.rows.visits), {}
        names = {(key.instrument, each.records.definition.name): key for key, each in stored.items()}
        for each in visits:
            key = VisitKey(each.definition.instrument, each.definition.id)
            old = stored.get(key)
            if old is None:
                revision = 1 + self.rows.retired.get(key, 0)
            elif old.records.group == each.group and old.records.inputs_hash != each.inputs_hash:
                revision = old.revision + 1
                del names[key.instrument, old.records.definition.name]
            else:
                raise DataRefusedError("another group took the id of a visit at this moment", sqlstate="23505")
            if names.setdefault((key.instrument, each.definition.name), key) != key:
                raise DataRefusedError(f"{each.definition.name} is the name of another visit", sqlstate="23505")
            stored[key] = Visit(each, revision)
            revisions[key] = revision
        self.rows.visits = stored
        return revisions

    def refused_groups(self, instruments: Collection[str]) -> set[GroupKey]:
        """Return the groups that were refused a visit."""
        return {
            GroupKey(about.instrument, about.group_key)
            for about, letter in self.rows.subject_letters.items()
            if letter.is_open
            and about.reason == "visit_conflict"
            and about.instrument in instruments
            and about.instrument is not None
            and about.group_key is not None
        }

    def write_dead_letters(self, letters: Sequence[DeadLetter], offset_ids: Mapping[PartitionId, int]) -> None:
        """Store dead letters: of messages for good, of others until they are resolved."""
        for each in letters:
            if each.message is not None:
                where = (offset_ids[each.message.partition], each.message.offset)
                known = self.rows.message_letters.get(where)
                if known is None or known[0].message != each.message:
                    self.rows.message_letters[where] = (each, True)
            else:
                about = Subject(each.instrument, each.reason, each.group_key, each.exposure)
                self.rows.subject_letters[about] = Letter(each.detail, is_open=True)

    def resolve_dead_letters(self, groups: Collection[GroupKey]) -> None:
        """Resolve those of groups."""
        self._resolve(lambda about: about.exposure is None and (about.instrument, about.group_key) in groups)

    def resolve_dead_letters_of_exposures(self, exposures: Collection[ExposureKey]) -> None:
        """Resolve those of exposures that were off sky."""
        self._resolve(
            lambda about: about.reason == "not_on_sky" and (about.instrument, about.exposure) in exposures,
        )

    def resolve_dead_letters_of_messages(self, offsets: Collection[tuple[int, int]]) -> None:
        """Resolve those of messages."""
        for where in offsets:
            if where in self.rows.message_letters:
                self.rows.message_letters[where] = (self.rows.message_letters[where][0], False)

    def write_outbox(self, rows: Sequence[tuple[str, int, int, bytes]]) -> None:
        """Store what is to be announced."""
        for instrument, visit, revision, payload in rows:
            self.rows.outbox[len(self.rows.outbox) + 1] = (VisitKey(instrument, visit), revision, payload)

    def waiting(self, offset_ids: Collection[int]) -> dict[int, Waiting]:
        """Say what waits on the stream time of each of these positions."""
        found: dict[int, Waiting] = {}
        for group, deadline_ms in self.rows.groups.values():
            if group.offset_id in offset_ids:
                known = found.get(group.offset_id, Waiting(0, deadline_ms, group.opened_ms))
                found[group.offset_id] = Waiting(
                    known.groups + 1,
                    min(known.next_deadline_ms, deadline_ms),
                    min(known.oldest_opened_ms, group.opened_ms),
                )
        return found

    def _of(self, offset_id: int, instruments: Collection[str]) -> list[tuple[OpenGroup, int]]:
        return [
            (group, deadline_ms)
            for group, deadline_ms in self.rows.groups.values()
            if group.offset_id == offset_id and group.key.instrument in instruments
        ]

    def _resolve(self, concerns: Callable[[Subject], bool]) -> None:
        letters = self.rows.subject_letters
        letters |= {about: each._replace(is_open=False) for about, each in letters.items() if concerns(about)}
