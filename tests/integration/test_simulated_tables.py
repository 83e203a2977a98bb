"""The tables of the simulation and PostgreSQL: the same batches leave the same rows, and get the same answers."""

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import psycopg
import pytest

from consumer.errors import DataRefusedError
from consumer.events.visit_defined import RemovedVisit
from consumer.model import PartitionId, VisitRecords
from consumer.postgres.batch_tables import BatchTransaction
from consumer.service.apply_batch import apply_batch
from consumer.service.batch import Batch, BatchResult
from consumer.service.tables import Tables
from tests.simulation.instruments import RULES, Exposures
from tests.simulation.tables import MemoryTables, Rows
from tests.support.nights import START_MS, NightLog, prepare, reader
from tests.support.postgres import PostgresServer

N_BATCHES = 60
_QUERIES = {
    "exposures": "SELECT instrument, id, group_key, obs_id, record_version, detectors::text FROM visits.exposure",
    "groups": "SELECT instrument, group_key, clock, opened_ms, last_ms, superseded_ms, latest_begin, deadline_ms "
    "FROM visits.open_group",
    "visits": "SELECT instrument, id, name, group_key, inputs_hash, close_reason, revision FROM visits.visit",
    "retired": "SELECT instrument, id, revision FROM visits.retired_visit",
    "dead letters of subjects": "SELECT instrument, reason, group_key, exposure, detail, status = 'open' "
    'FROM visits.dead_letter WHERE "offset" IS NULL',
    "dead letters of messages": "SELECT partition, \"offset\", reason, status = 'open' "
    'FROM visits.dead_letter WHERE "offset" IS NOT NULL',
    "outbox": "SELECT instrument, visit, revision, payload FROM visits.outbox",
    "positions": "SELECT id, epoch, next_offset, stream_time_ms, leader_epoch FROM visits.consumer_offset",
}


def in_postgres(dsn: str) -> dict[str, set[tuple[Any, ...]]]:
    with psycopg.connect(dsn) as connection:
        return {name: set(connection.execute(query).fetchall()) for name, query in _QUERIES.items()}


def in_memory(rows: Rows) -> dict[str, set[tuple[Any, ...]]]:
    return {
        "exposures": {
            (*key, known.group.key, known.record.obs_id, known.record.record_version, "{[0,1)}")
            for key, known in rows.exposures.items()
        },
        "groups": {
            (*key, g.offset_id, g.opened_ms, g.last_ms, g.superseded_ms, g.latest_begin, deadline_ms)
            for key, (g, deadline_ms) in rows.groups.items()
        },
        "visits": {
            (*key, v.definition.name, v.group.key, v.inputs_hash, str(v.close_reason), revision)
            for key, (v, revision) in rows.visits.items()
        },
        "retired": {(*key, revision) for key, revision in rows.retired.items()},
        "dead letters of subjects": {
            (s.instrument, str(s.reason), s.group_key, s.exposure, letter.detail, letter.is_open)
            for s, letter in rows.subject_letters.items()
        },
        "dead letters of messages": {
            (letter.message.partition.partition, offset, str(letter.reason), is_open)
            for (_, offset), (letter, is_open) in rows.message_letters.items()
            if letter.message is not None
        },
        "outbox": {(*key, revision, payload) for key, revision, payload in rows.outbox.values()},
        "positions": {
            (p.id, p.epoch, p.next_offset, p.stream_time_ms, p.leader_epoch) for p in rows.positions.values()
        },
    }


class Memory:
    """The tables of the simulation."""

    def __init__(self) -> None:
        self.rows = Rows()

    @contextmanager
    def transaction(self) -> Iterator[Tables]:
        tables = MemoryTables(self.rows.copy())
        yield tables
        self.rows = tables.rows


def announce(records: VisitRecords | RemovedVisit, revision: int) -> bytes:
    return f"{'removed' if isinstance(records, RemovedVisit) else 'stored'} {revision}".encode()


def outcome(transaction: Callable[[], AbstractContextManager[Tables]], batch: Batch) -> tuple[BatchResult, bool]:
    """Apply a batch as the writer does; and say whether visits had to stand alone for it."""
    for alone in (False, True):
        try:
            with transaction() as tables:
                return apply_batch(tables, batch, RULES, announce=announce, alone=alone), alone
        except DataRefusedError:
            continue
    raise AssertionError("refused even alone")


@pytest.mark.parametrize("seed", range(4))
def test_the_same_batches_leave_the_same_rows(postgres18: PostgresServer, seed: int) -> None:
    draw = random.Random(seed)  # noqa: S311 -- a test draws its course
    exposures, log, now_ms = Exposures(draw), NightLog.of(2), START_MS
    memory = Memory()
    with postgres18.database(prepare) as dsn, reader(dsn, RULES) as one:
        one.claim(log.partitions)
        memory.rows.positions = one.positions.read(range(1, 10))

        @contextmanager
        def session() -> Iterator[Tables]:
            with one.database.transaction() as opened:
                yield BatchTransaction(opened)

        def both(batch: Batch) -> None:
            theirs, ours = outcome(session, batch), outcome(memory.transaction, batch)
            for name in ("new", "repeated", "closed", "late", "waiting", "contested", "removed", "off_sky"):
                assert getattr(theirs[0], name) == getattr(ours[0], name), name
            assert theirs[1] == ours[1]
            assert in_postgres(dsn) == in_memory(memory.rows)

        for _ in range(N_BATCHES):
            messages = []
            for _ in range(draw.randint(1, 6)):
                now_ms += draw.choice((10, 500, 4_000))
                where = draw.randrange(2)
                log.append(b"bad" if draw.random() < 0.05 else exposures.draw(), partition=where, at_ms=now_ms)
                messages.append(log.partitions[PartitionId("raw-ingested", where)][-1])
            one.put(messages, log, now_ms=now_ms)
            taken = one.builder.take()
            assert taken is not None
            both(taken)
            if draw.random() < 0.2:
                now_ms += 5_000
                tick = one.builder.tick(now_ms)
                if tick is not None:
                    both(tick)
        assert memory.rows.visits
        assert memory.rows.retired
        assert memory.rows.subject_letters
