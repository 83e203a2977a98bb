"""Judges a stage that is at rest: the tables against a pure replay of the log, and what else was promised."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import fastavro

from consumer.events import schema_text
from tests.chaos.stage import ANNOUNCED, TOPIC, Stage
from tests.support.service import prepare_database
from tests.support.tables import (
    Snapshot,
    assert_every_offset_is_explained,
    assert_no_way_back,
    difference,
    log_of,
    read_log,
    replay,
    snapshot,
)

_SHOWN, _WIDTH = 10, 400
_HEADER_BYTES = 10
"""Of Avro single-object encoding."""
_OFFSET, _STATUS = 9, 13
"""Columns of ``dead_letter`` in a snapshot."""


@dataclass(slots=True)
class Outcome:
    """What the oracle found."""

    messages: int = 0
    visits: int = 0
    dead_letters: int = 0
    announcements: int = 0
    lost: int = 0
    doubled: int = 0
    complaints: list[str] = field(default_factory=list)
    """Empty: all is as promised."""


def judge(stage: Stage, bad: int) -> Outcome:
    """Hold everything to the log.

    Parameters
    ----------
    stage
        Drained.
    bad
        How many messages were produced that are no events.
    """
    log = log_of(stage.dsn, stage.kafka.bootstrap, TOPIC)
    with stage.server.database(prepare_database) as calm:
        replay(calm, stage.operators, [log], close_groups=True)
        found, expected = _comparable(snapshot(stage.dsn)), _comparable(snapshot(calm))
    rows = difference(found, expected)
    outcome = Outcome(len(log.messages), len(found["visit"]), len(found["dead_letter"]), 0, rows.lost, rows.doubled)
    outcome.complaints += _differing_rows(found, expected)
    checks: list[Callable[[], None]] = [
        lambda: _assert_dead_letters(stage, found, bad),
        lambda: assert_no_way_back(stage.dsn, set_to=stage.set_to),
        lambda: assert_every_offset_is_explained(stage.dsn, stage.operators, [log]),
        lambda: _assert_announced(stage, outcome),
    ]
    for check in checks:
        try:
            check()
        except AssertionError as error:
            outcome.complaints.append(str(error))
    return outcome


def _comparable(rows: Snapshot) -> Snapshot:
    """Leave out history: positions, and what became of dead letters that are of no message or are closed."""
    letters = [row for row in rows["dead_letter"] if row[_OFFSET] is not None or row[_STATUS] == "open"]
    kept = {name: each for name, each in rows.items() if name != "consumer_offset"}
    return kept | {"dead_letter": [row[:_STATUS] for row in letters]}


def _differing_rows(found: Snapshot, expected: Snapshot) -> Iterator[str]:
    for table, rows in expected.items():
        for what, differing in (("lacks", set(rows) - set(found[table])), ("has", set(found[table]) - set(rows))):
            if differing:
                yield f"{table} {what} {len(differing)} rows, such as"
                yield from (f"    {str(row)[:_WIDTH]}" for row in sorted(differing, key=str)[:_SHOWN])


def _assert_dead_letters(stage: Stage, found: Snapshot, bad: int) -> None:
    """Hold every bad message to be one dead letter, also those that were produced again, and nothing else to be one."""
    letters, wanted = found["dead_letter"], bad + stage.replayed
    assert len(letters) == wanted, f"{wanted} bad messages ({bad} and {stage.replayed} replays), {len(letters)} letters"
    (row,) = stage.query("SELECT count(*) FROM visits.dead_letter WHERE status = 'replayed'")
    assert row[0] == stage.replayed, f"{stage.replayed} dead letters were replayed, {row[0]} are marked so"


def _assert_announced(stage: Stage, outcome: Outcome) -> None:
    """Hold every revision of every visit to be announced, in order, the last one as the visit is stored now."""
    schema = fastavro.parse_schema(json.loads(schema_text("visit_defined")))
    by_visit: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    messages, _ = read_log(stage.kafka.bootstrap, ANNOUNCED)
    outcome.announcements = len(messages)
    for each in messages:
        record: Any = fastavro.schemaless_reader(BytesIO((each.value or b"")[_HEADER_BYTES:]), schema, None)
        by_visit[record["instrument"], record["visit"]].append(record)
    stored = {
        (instrument, visit): (revision, region)
        for instrument, visit, revision, region in stage.query(
            "SELECT instrument, id, revision, region FROM visits.visit"
        )
    }
    assert stored.keys() <= by_visit.keys(), f"never announced: {sorted(stored.keys() - by_visit.keys())[:_SHOWN]}"
    for visit, records in by_visit.items():
        # A reader ignores a revision that is not above the last it saw
        firsts = list(dict.fromkeys(record["revision"] for record in records))
        assert firsts == list(range(1, len(firsts) + 1)), f"{visit}: announced as revisions {firsts}"
        last = next(record for record in records if record["revision"] == firsts[-1])
        now = (None, None) if last["change"] == "removed" else (last["revision"], last["region"])
        assert now == stored.get(visit, (None, None)), f"{visit}: stored otherwise than announced last: {last}"
