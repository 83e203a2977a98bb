"""The writer on PostgreSQL, without a broker: what no batch border may decide, and stamps that no date can hold."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import psycopg
import pytest
from prometheus_client import CollectorRegistry

from consumer.config import DatabaseSettings
from consumer.domain import Instrument
from consumer.errors import FencedError
from consumer.metrics import Metrics
from consumer.model import Exposure, Message, OffsetUpdate, PartitionId
from consumer.postgres.batch_tables import BatchStore, BatchTransaction
from consumer.postgres.connection import Database
from consumer.postgres.dead_letters import DeadLetterFilter, DeadLetters
from consumer.postgres.offsets import Positions
from consumer.service import apply_batch
from consumer.service import writer as writer_module
from consumer.service.batch import Batch
from consumer.service.runtime import SYSTEM
from consumer.service.writer import Writer, Written
from tests.support.exposures import exposure
from tests.support.nights import START_MS, TOPIC, NightLog, Reader, Rows, canonical, prepare, raws_of, reader, rules_of
from tests.support.postgres import PostgresServer
from tests.support.tables import refuse_rows, snapshot

CONFIG = {
    "instrument": "LSSTComCam",
    "camera": "lsstcomcam",
    "group_exposures": "one-to-one",
    "group_id": "digits",
    "padding": 250,
    "merge_exposures": False,
}
RULES = rules_of(CONFIG)
PARTITION = PartitionId(TOPIC, 0)


@contextmanager
def writing(dsn: str, rules: dict[str, Instrument] = RULES) -> Iterator[tuple[Writer, Reader]]:
    """Give a writer, and a reader that gathers batches for it."""
    database = Database(DatabaseSettings(conninfo=dsn))  # type: ignore[arg-type] # pydantic makes it a secret
    positions = Positions(database, consumer_group="visit-consumer", owner="writer")
    metrics = Metrics(CollectorRegistry(), instruments=rules)
    writer = Writer(BatchStore(database), positions, rules, metrics, announce=None, retry_max_s=1.0, runtime=SYSTEM)
    try:
        with reader(dsn, rules) as gathers:
            gathers.claim([PARTITION])
            yield writer, gathers
    finally:
        writer.close(10.0)


def gathered(gathers: Reader, messages: Sequence[Message]) -> Batch:
    """Make a batch of messages."""
    gathers.put(messages)
    batch = gathers.builder.take()
    assert batch is not None
    return batch


def written_in(writer: Writer, gathers: Reader, messages: Sequence[Message]) -> list[Written]:
    """Write messages as one batch; return the transactions that it became."""
    return writer.write(gathered(gathers, messages)).result(60.0)


def written(server: PostgresServer, exposures: Sequence[Exposure], *, max_batch: int) -> Rows:
    """Read one raw of each exposure in batches, and give the tables."""
    log = NightLog.of()
    for number, raw in enumerate(raws_of(exposures, 0)):
        log.append(raw, at_ms=START_MS + number)
    messages = log.partitions[PARTITION]
    with server.database(prepare) as dsn:
        with writing(dsn) as (writer, gathers):
            for first in range(0, len(messages), max_batch):
                written_in(writer, gathers, messages[first : first + max_batch])
        return canonical(dsn)


@pytest.mark.parametrize(
    "names",
    [
        [(1, "Z"), (2, "X"), (1, "X")],
        [(1, "X"), (3, "X"), (1, "Y"), (2, "X")],
        [(3, "X"), (1, "X"), (3, "Y"), (2, "X"), (3, "X")],
        [(1, "X"), (2, "Y"), (3, "X"), (1, "Y"), (2, "X")],
        [(1, "X"), (2, "X"), (1, "Y"), (1, "X")],
        [(1, "X"), (2, "X"), (3, "Z"), (1, "Y"), (3, "X"), (3, "Z"), (1, "X")],
    ],
)
def test_borders_do_not_decide_who_has_a_contested_name(
    postgres18: PostgresServer, names: list[tuple[int, str]]
) -> None:
    corrected = [exposure(one, obs_id=name, record_version=version) for version, (one, name) in enumerate(names)]
    one_by_one = written(postgres18, corrected, max_batch=1)
    for max_batch in range(2, len(names) + 1):
        assert written(postgres18, corrected, max_batch=max_batch) == one_by_one


def test_a_visit_whose_name_became_free_needed_the_message_that_freed_it(postgres18: PostgresServer) -> None:
    log = NightLog.of()
    exposures = [exposure(1, obs_id="X"), exposure(2, obs_id="X"), exposure(1, obs_id="Y", record_version=1)]
    for number, raw in enumerate(raws_of(exposures, 0)):
        log.append(raw, at_ms=START_MS + number)
    with postgres18.database(prepare) as dsn, reader(dsn, RULES) as one:
        one.claim([PARTITION])
        for message in log.partitions[PARTITION]:
            one.put([message])
            result = one.write()
        assert result is not None
        assert {each.definition.name for each in result.written} == {"X", "Y"}
        assert {each.last_ms for each in result.diff.candidates} == {START_MS + 2}


BY_GROUP = rules_of({**CONFIG, "group_exposures": "by-group-metadata"})


@pytest.mark.parametrize("most", [3, 10_000])
def test_a_batch_of_events_closes_a_bounded_number_of_groups(
    postgres18: PostgresServer, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """After an outage the first message makes all groups due; later ones make more due, or supersede them."""
    for module in (apply_batch, writer_module):
        monkeypatch.setattr(module, "MOST_GROUPS_OF_A_TICK", most)
    exposures = [exposure(number, group=f"G{number:03d}") for number in range(1, 41)]
    log = NightLog.of()
    for number, raw in enumerate(raws_of(exposures, 0)):
        # 20 groups open together; an hour later the next 10, one after the other; an hour later the last 10.
        log.append(raw, at_ms=START_MS + number + 3_600_000 * (number // 10 - (number >= 10)))
    messages = log.partitions[PARTITION]
    with postgres18.database(prepare) as dsn:
        with writing(dsn, BY_GROUP) as (writer, gathers):
            done = []
            for some in (messages[:20], messages[20:]):
                done += written_in(writer, gathers, some)
        # One exposure closes none by itself, but may be the one that a tick has to come before.
        assert max(len(each.result.closed) for each in done) <= most
        assert sum(len(each.result.closed) for each in done) >= 30
        found = canonical(dsn)
    with postgres18.database(prepare) as dsn:
        with writing(dsn, BY_GROUP) as (writer, gathers):
            for message in messages:
                written_in(writer, gathers, [message])
        assert canonical(dsn) == found


def waiting_night(groups: int) -> list[Message]:
    """Make groups that open one after the other, and an exposure so much later that all are due before it."""
    exposures = [exposure(number, group=f"G{number:03d}") for number in range(1, groups + 2)]
    log = NightLog.of()
    for number, raw in enumerate(raws_of(exposures, 0)):
        log.append(raw, at_ms=START_MS + number + 3_600_000 * (number == groups))
    return log.partitions[PARTITION]


def test_groups_that_never_close_make_no_batch_of_events_too_large(
    postgres18: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Groups of an instrument that is not configured any more stay due: batches were cut down to single events."""
    for module in (apply_batch, writer_module):
        monkeypatch.setattr(module, "MOST_GROUPS_OF_A_TICK", 3)
    messages = waiting_night(2)
    with postgres18.database(prepare) as dsn, writing(dsn, BY_GROUP) as (writer, gathers):
        with psycopg.connect(dsn) as connection:
            connection.execute("""
                INSERT INTO visits.open_group (instrument, group_key, clock, opened_ms, last_ms, deadline_ms)
                SELECT 'Gone', n::text, id, 1, 1, 1 FROM visits.consumer_offset, generate_series(1, 50) AS n""")
        for some in (messages[:2], messages[2:]):
            assert len(written_in(writer, gathers, some)) == 1
        assert len(snapshot(dsn)["visit"]) == 2


def test_a_visit_that_is_refused_among_many_that_are_due_costs_no_other(
    postgres18: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What closes before a batch may be refused like the batch itself: the service ended with it."""
    for module in (apply_batch, writer_module):
        monkeypatch.setattr(module, "MOST_GROUPS_OF_A_TICK", 1)
    messages = waiting_night(5)
    with postgres18.database(prepare) as dsn:
        refuse_rows(dsn, "visit", 3, "23514")
        with writing(dsn, BY_GROUP) as (writer, gathers):
            for some in (messages[:5], messages[5:]):
                written_in(writer, gathers, some)
        found = snapshot(dsn)
        assert {row[1] for row in found["visit"]} == {1, 2, 4, 5}
        (letter,) = found["dead_letter"]
        assert "not wanted" in letter[1]


def test_of_ticks_before_a_batch_those_that_were_committed_are_counted_where_another_replica_takes_over(
    postgres18: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (apply_batch, writer_module):
        monkeypatch.setattr(module, "MOST_GROUPS_OF_A_TICK", 1)
    messages = waiting_night(5)
    with postgres18.database(prepare) as dsn, writing(dsn, BY_GROUP) as (writer, gathers):
        first = gathered(gathers, messages[:5])
        writer.write(first).result(30.0)
        advance, calls = BatchTransaction.advance, 0

        def overtaken(self: BatchTransaction, offset_updates: Sequence[OffsetUpdate]) -> None:
            nonlocal calls
            calls += 1
            if calls == 4:  # the batch, which is too much, and two ticks went before
                with psycopg.connect(dsn) as connection:
                    connection.execute("UPDATE visits.consumer_offset SET epoch = epoch + 1")
            advance(self, offset_updates)

        monkeypatch.setattr(BatchTransaction, "advance", overtaken)
        last = gathered(gathers, messages[5:])
        with pytest.raises(FencedError) as fenced:
            writer.write(last).result(30.0)
        assert len(fenced.value.committed) == 2
        assert len(snapshot(dsn)["visit"]) == 2


@pytest.mark.parametrize("stamp_ms", [2**63 - 1, 300_000_000_000_000, 253_402_300_800_000, -1])
def test_a_bad_message_is_set_aside_however_it_is_stamped(postgres18: PostgresServer, stamp_ms: int) -> None:
    with postgres18.database(prepare) as dsn:
        with writing(dsn) as (writer, gathers):
            written_in(writer, gathers, [Message(PARTITION, 0, stamp_ms, None, b"junk")])
        database = Database(DatabaseSettings(conninfo=dsn))  # type: ignore[arg-type] # pydantic makes it a secret
        (letter,) = DeadLetters(database).choose(DeadLetterFilter())
        database.close()
        assert (letter.offset, letter.value) == (0, b"junk")
        with psycopg.connect(dsn) as connection:
            assert connection.execute("SELECT next_offset FROM visits.consumer_offset").fetchone() == (1,)


def test_an_open_conflict_elsewhere_costs_corrections_nothing(postgres18: PostgresServer) -> None:
    """Corrections that give up names were halved down to single messages while any group of the instrument waited."""
    conflict = [exposure(1, obs_id="X"), exposure(2, obs_id="X")]
    night = [exposure(number) for number in range(11, 61)]
    renamed = [replace(one, obs_id=f"again {one.id}", record_version=1) for one in night]
    back = [replace(one, obs_id=f"at last {one.id}", record_version=2) for one in night]
    log = NightLog.of()
    for number, raw in enumerate(raws_of([*conflict, *night, *renamed, *back], 0)):
        log.append(raw, at_ms=START_MS + number)
    messages = log.partitions[PARTITION]
    tables = []
    for some in ([messages[:2], messages[2:52], messages[52:152]], [[each] for each in messages]):
        with postgres18.database(prepare) as dsn:
            with writing(dsn) as (writer, gathers):
                transactions = 0
                for part in some:
                    transactions += len(written_in(writer, gathers, part))
            tables.append(canonical(dsn))
        assert transactions <= len(some) + 1, "only the conflict itself is decided message by message"
    assert tables[0] == tables[1]


def test_a_dead_letter_closes_when_its_message_is_read_again_and_is_good(postgres18: PostgresServer) -> None:
    """The instrument was not configured; the position is set back once it is. One of the messages is bad for good."""
    other = rules_of({**CONFIG, "instrument": "LATISS", "camera": "latiss"})
    log = NightLog.of()
    for number, raw in enumerate(raws_of([exposure(n) for n in (1, 2, 3)], 0)):
        log.append(raw, at_ms=START_MS + number)
    messages = log.partitions[PARTITION]
    bad = messages[1]._replace(value=b"junk")
    with postgres18.database(prepare) as dsn:

        def letters() -> list[tuple[object, ...]]:
            with psycopg.connect(dsn) as connection:
                return connection.execute(
                    """SELECT "offset", status, settled_at IS NULL FROM visits.dead_letter ORDER BY 1"""
                ).fetchall()

        with reader(dsn, other) as one:
            one.claim([PARTITION])
            one.put([messages[0], bad, messages[2]])
            one.write()
        assert letters() == [(0, "open", True), (1, "open", True), (2, "open", True)]
        with psycopg.connect(dsn) as connection:
            connection.execute("UPDATE visits.consumer_offset SET next_offset = 0")
        with reader(dsn, RULES) as one:
            one.claim([PARTITION])
            for message in (messages[0], bad, messages[2]):
                one.put([message])
                one.write()
        assert letters() == [(0, "resolved", False), (1, "open", True), (2, "resolved", False)]
