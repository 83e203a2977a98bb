"""The writer on PostgreSQL, without a broker: what no batch border may decide, and stamps that no date can hold."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import psycopg
import pytest
from prometheus_client import CollectorRegistry

from consumer.config import DatabaseSettings
from consumer.domain import Instrument
from consumer.metrics import Metrics
from consumer.model import Exposure, Message, PartitionId
from consumer.postgres.batch_tables import BatchStore
from consumer.postgres.connection import Database
from consumer.postgres.dead_letters import DeadLetterFilter, DeadLetters
from consumer.postgres.offsets import Positions
from consumer.service import apply_batch
from consumer.service import writer as writer_module
from consumer.service.runtime import SYSTEM
from consumer.service.writer import Writer
from tests.support.exposures import exposure
from tests.support.nights import START_MS, TOPIC, NightLog, Reader, Rows, canonical, prepare, raws_of, reader, rules_of
from tests.support.postgres import PostgresServer

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


def written(server: PostgresServer, exposures: Sequence[Exposure], *, max_batch: int) -> Rows:
    """Read one raw of each exposure in batches, and give the tables."""
    log = NightLog.of()
    for number, raw in enumerate(raws_of(exposures, 0)):
        log.append(raw, at_ms=START_MS + number)
    messages = log.partitions[PARTITION]
    with server.database(prepare) as dsn:
        with writing(dsn) as (writer, gathers):
            for first in range(0, len(messages), max_batch):
                gathers.put(messages[first : first + max_batch])
                batch = gathers.builder.take()
                assert batch is not None
                writer.write(batch).result(30.0)
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
                gathers.put(some)
                batch = gathers.builder.take()
                assert batch is not None
                done += writer.write(batch).result(60.0)
        # One exposure closes none by itself, but may be the one that a tick has to come before.
        assert max(len(each.result.closed) for each in done) <= most
        assert sum(len(each.result.closed) for each in done) >= 30
        found = canonical(dsn)
    with postgres18.database(prepare) as dsn:
        with writing(dsn, BY_GROUP) as (writer, gathers):
            for message in messages:
                gathers.put([message])
                batch = gathers.builder.take()
                assert batch is not None
                writer.write(batch).result(30.0)
        assert canonical(dsn) == found


@pytest.mark.parametrize("stamp_ms", [2**63 - 1, 300_000_000_000_000, 253_402_300_800_000, -1])
def test_a_bad_message_is_set_aside_however_it_is_stamped(postgres18: PostgresServer, stamp_ms: int) -> None:
    with postgres18.database(prepare) as dsn:
        with writing(dsn) as (writer, gathers):
            gathers.put([Message(PARTITION, 0, stamp_ms, None, b"junk")])
            batch = gathers.builder.take()
            assert batch is not None
            writer.write(batch).result(30.0)
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
                    gathers.put(part)
                    batch = gathers.builder.take()
                    assert batch is not None
                    transactions += len(writer.write(batch).result(30.0))
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
