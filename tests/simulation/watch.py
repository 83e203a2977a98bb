"""What must hold after each transaction, told by what was stored before it and after it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from consumer.domain import Event, VisitKey
from consumer.errors import DataRefusedError
from consumer.model import Message, PartitionId
from consumer.service.apply_batch import apply_batch
from consumer.service.batch import Batch
from tests.simulation.instruments import RULES
from tests.simulation.tables import MemoryTables, Rows
from tests.simulation.world import Claimed, Committed, Decided


class BrokenPromiseError(AssertionError):
    """What must hold does not; the message says what, and after which steps."""


@dataclass(slots=True)
class Watch:
    """Looks at everything that happens to the store."""

    positions: dict[PartitionId, int] = field(default_factory=dict)
    """Where each position stands."""
    owners: dict[int, tuple[str, int]] = field(default_factory=dict)
    """Of each position, by its id: who has claimed it last, and the epoch."""
    read: dict[tuple[PartitionId, int], Message] = field(default_factory=dict)
    """What was committed last of each place in the logs."""
    twin: Rows = field(default_factory=Rows)
    """A store that gets all messages one by one."""

    def saw(self, entry: Committed | Decided | Claimed) -> None:
        """Take in what happened.

        Raises
        ------
        BrokenPromiseError
            When it should not have.
        """
        if isinstance(entry, Decided):
            self.positions[entry.partition] = entry.offset
        elif isinstance(entry, Claimed):
            self.owners[entry.position.id] = (entry.replica, entry.position.epoch)
            _require(entry.told, f"{entry.replica} claims {entry.partition}, which the group has given to another")
        else:
            self._moves_on(entry)
            _announces_all(entry)
            self._read_one_by_one(entry.batch)

    def _moves_on(self, entry: Committed) -> None:
        """Each transaction begins where the one before ended, is its owner's, and holds every message in between."""
        batch = entry.batch
        read = [x.message for x in batch.events] + [x.message for x in batch.dead_letters if x.message is not None]
        offsets = sorted((m.partition, m.offset) for m in read)
        self.read |= {(m.partition, m.offset): m for m in read}
        moved = []
        for each in batch.offset_updates:
            stood = self.positions.get(each.partition, 0)
            begin, end = each.expected or 0, each.next_offset or 0
            _require(begin == stood, f"{each.partition} stood at {stood}, and {begin} to {end} was committed")
            owner, writer = self.owners.get(each.offset_id), (entry.replica, each.epoch)
            _require(owner == writer, f"{writer} moved {each.partition}, which {owner} has claimed")
            self.positions[each.partition] = end
            moved += [(each.partition, offset) for offset in range(begin, end)]
        _require(offsets == sorted(moved), f"the position moved over {sorted(moved)}, and {offsets} were read")

    def _read_one_by_one(self, batch: Batch) -> None:
        for event in batch.events:
            one = Batch(offset_updates=(), events=(event,), stream_times_ms={event.offset_id: event.stream_time_ms})
            before, self.twin = self.twin, _applied(self.twin, one)
            _grow_older(before, self.twin, event)
        last = batch.events[-1].offset_id if batch.events else None
        times_ms = dict(sorted(batch.stream_times_ms.items(), key=lambda each: each[0] != last))
        if times_ms:
            self.twin = _applied(self.twin, Batch(offset_updates=(), stream_times_ms=times_ms))

    def borders_do_not_show(self, rows: Rows) -> None:
        """At the end, a store that got the messages one by one holds the same."""
        found, wanted = _content(rows), _content(self.twin)
        for name, each in found.items():
            _require(each == wanted[name], f"borders of batches show in {name}: {_differ(each, wanted[name])}")


def _announces_all(entry: Committed) -> None:
    """Each revision of a visit, also its removal, is to be announced since the transaction that made it."""
    told = {(key, revision) for key, revision, _ in _new(entry.before.outbox, entry.after.outbox).values()}
    for key in _new(entry.before.visits, entry.after.visits) | _new(entry.after.visits, entry.before.visits):
        revisions = range(entry.before.revision(key) + 1, entry.after.revision(key) + 1)
        missing = {(key, revision) for revision in revisions} - told
        _require(not missing, f"{missing} are not announced")


def _applied(rows: Rows, batch: Batch) -> Rows:
    for alone in (False, True):
        after = rows.copy()
        try:
            apply_batch(MemoryTables(after), batch, RULES, alone=alone)
        except DataRefusedError:
            continue  # as the writer does
        return after
    raise BrokenPromiseError("one message by itself is refused")


def _content(rows: Rows) -> dict[str, dict[Any, Any]]:
    """Return what a store holds, without history such as revisions."""
    return {
        "exposures": rows.exposures,
        "groups": rows.groups,
        "visits": {
            key: (each.records.group, each.records.definition.name, each.records.inputs_hash)
            for key, each in rows.visits.items()
        },
        "dead letters": {about: True for about, each in rows.subject_letters.items() if each.is_open},
    }


def _grow_older(before: Rows, after: Rows, event: Event) -> None:
    """Require that a group that stays open keeps its age, so that it closes at the age that was promised.

    One of another clock than the event's does not close by it; one of the same clock does when it is due.
    """
    for key, (group, _) in after.groups.items():
        known, deadline_ms = before.groups.get(key, (None, 0))
        if known is None or (known.offset_id == event.offset_id and deadline_ms <= event.stream_time_ms):
            continue
        age_ms, former_ms = group.last_ms - group.opened_ms, known.last_ms - known.opened_ms
        _require(age_ms >= former_ms, f"{key} was {former_ms} ms old, and is {age_ms} now")


def none_is_left_out(rows: Rows, arrived: list[int]) -> None:
    """At the end, the brokers have the last revision of each visit, and the removal of each that is gone."""
    latest: dict[VisitKey, int] = {}
    for number in arrived:
        key, revision, _ = rows.outbox[number]
        latest[key] = max(latest.get(key, 0), revision)
    wanted = {key: rows.revision(key) for key in {**rows.visits, **rows.retired}}
    _require(latest == wanted, f"other revisions were announced than are stored: {_differ(latest, wanted)}")


def in_order(rows: Rows, arrived: list[int], first: int) -> None:
    """From this announcement on, none arrived after a later one of its visit."""
    for index in range(first, len(arrived)):
        key, revision, _ = rows.outbox[arrived[index]]
        before = (rows.outbox[number] for number in arrived[:index])
        latest = max((other for of, other, _ in before if of == key), default=0)
        _require(revision >= latest, f"revision {revision} of {key} arrived after revision {latest}")


def _new(before: Mapping[Any, Any], after: Mapping[Any, Any]) -> dict[Any, Any]:
    return {key: value for key, value in after.items() if before.get(key) is not value}


def _differ(one: Mapping[Any, Any], two: Mapping[Any, Any]) -> str:
    keys = [key for key in {**one, **two} if one.get(key) != two.get(key)]
    return "; ".join(f"{key}: {one.get(key)} where {two.get(key)} should be" for key in keys[:3])


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise BrokenPromiseError(what)
