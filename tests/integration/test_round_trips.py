"""How often a batch waits for an answer of PostgreSQL, and what is sent together fails together."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from consumer.errors import DataRefusedError, FencedError
from consumer.events.visit_defined import announcer
from consumer.model import OffsetUpdate, PartitionId
from consumer.postgres.batch_tables import BatchTransaction
from consumer.postgres.connection import Database
from consumer.postgres.row_codecs import columns
from tests.support.exposures import run_of
from tests.support.nights import START_MS, TOPIC, NightLog, prepare, raws_of, reader, rules_of
from tests.support.postgres import PostgresServer

PARTITION = PartitionId(TOPIC, 0)
MOST = {"one-to-one": 6, "by-group-metadata": 9, "one-to-one-and-by-counter": 9}
MOST_OF_A_BACKLOG = 14
_ONE_BY_ONE = 10


@pytest.fixture
def dsn(postgres18: PostgresServer) -> Iterator[str]:
    with postgres18.database(prepare) as made:
        yield made


@pytest.mark.parametrize("rule", MOST)
def test_a_batch_waits_for_few_answers(dsn: str, rule: str) -> None:
    """One new exposure, and then a hundred: neither waits more often for having more rows."""
    rules = rules_of(
        {
            "instrument": "LSSTComCam",
            "camera": "lsstcomcam",
            "group_exposures": rule,
            "group_id": "digits",
            "padding": 10,
            "merge_exposures": False,
        }
    )
    log = NightLog.of(1)
    for number, each in enumerate(run_of(1, 103, instrument="LSSTComCam")):
        if rule == "by-group-metadata":
            each = replace(each, group=f"{number}")  # noqa: PLW2901 -- a group of its own
        for raw in raws_of([each], *range(9)):
            log.append(raw, partition=0, at_ms=START_MS + 3_600_000 * number)
    (messages,) = log.partitions.values()
    with reader(dsn, rules) as one:
        one.announce = announcer("visits", now_ns=lambda: START_MS * 1_000_000)
        one.claim([PARTITION])
        waited = []
        for first, end in (*((n, n + 9) for n in range(0, 9 * _ONE_BY_ONE, 9)), (9 * _ONE_BY_ONE, len(messages))):
            one.put(messages[first:end], log)
            result = one.write()
            assert result is not None
            waited.append(result.round_trips)
        written = sum(len(each.written) for each in one.results)
    assert written > 0
    # A statement is sent by itself when a session runs it first.
    assert max(waited[_ONE_BY_ONE // 2 : -1]) <= MOST[rule]
    assert waited[-1] <= MOST_OF_A_BACKLOG


def test_a_lost_position_is_noticed_before_anything_is_committed(dsn: str) -> None:
    outbox = columns(("instruments", "visits", "revisions", "payloads"), [("LSSTCam", 1, 1, b"x")])
    with reader(dsn, {}) as one:
        one.claim([PARTITION])
        (lease,) = one.builder.leases
        moved = OffsetUpdate(PARTITION, lease.offset_id, lease.epoch + 1, 0, 1, 500)

        def write() -> None:
            with one.database.transaction() as session:
                BatchTransaction(session).advance([moved])
                session.run_later("batch", "insert_outbox", outbox)

        with pytest.raises(FencedError):
            write()
        assert _committed(one.database) == 0


def test_a_refused_row_undoes_all_that_was_sent_with_it(dsn: str) -> None:
    with reader(dsn, {}) as one:
        row, wrong = ("LSSTCam", 1, 1, b"x"), ("LSSTCam", 2, 2**40, b"x")

        def write(*rows: tuple[str, int, int, bytes], refused: Sequence[tuple[str, int, int, bytes]] = ()) -> None:
            with one.database.transaction() as session:
                tables = BatchTransaction(session)
                for each in refused:
                    with pytest.raises(DataRefusedError), session.savepoint():
                        tables.write_outbox([each])
                for each in rows:
                    tables.write_outbox([each])

        with pytest.raises(DataRefusedError):
            write(row, wrong)
        assert _committed(one.database) == 0
        write(row, refused=[wrong, wrong])
        assert _committed(one.database) == 1
        with pytest.raises(DataRefusedError):
            write(row, wrong, refused=[wrong])
        assert _committed(one.database) == 1


def _committed(database: Database) -> int:
    with database.transaction() as session:
        return len(session.rows("outbox", "unsent", {"limit": 10}))
