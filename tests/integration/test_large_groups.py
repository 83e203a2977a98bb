"""A group whose name never changes: what an exposure costs does not grow with its group, and the visit is the same."""

import random
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from consumer.config import DatabaseSettings
from consumer.domain import open_groups
from consumer.model import CloseReason, GroupKey, PartitionId
from consumer.postgres.batch_tables import BatchTransaction
from consumer.postgres.connection import LOOKS_UP_BY_KEY, Database
from consumer.service import apply_batch
from tests.support.exposures import exposure
from tests.support.nights import (
    FAR_MS,
    START_MS,
    TOPIC,
    Course,
    NightLog,
    canonical,
    feed,
    prepare,
    raws_of,
    reader,
    rules_of,
    wipe,
)
from tests.support.postgres import PostgresServer

SETTINGS = {
    "instrument": "LSSTComCam",
    "camera": "lsstcomcam",
    "group_exposures": "by-group-metadata",
    "group_id": "digits",
    "padding": 10,
    "merge_exposures": False,
}
RULES = rules_of(SETTINGS)
MOST = 20


@pytest.fixture
def dsn(postgres18: PostgresServer) -> Iterator[str]:
    with postgres18.database(prepare) as made:
        yield made


@pytest.mark.parametrize("rule", ["by-group-metadata", "one-to-one-and-by-counter"])
@pytest.mark.parametrize("seed", range(4))
def test_the_tables_are_those_of_a_group_that_is_looked_at(
    dsn: str, monkeypatch: pytest.MonkeyPatch, seed: int, rule: str
) -> None:
    """Two constant names in turn, sizes that are wrong, exposures that move to the other group, some off sky."""
    draw = random.Random(seed)  # noqa: S311 - test data
    rules = rules_of(SETTINGS | {"group_exposures": rule})
    exposures = [
        exposure(
            n,
            group=str(7 + n % 2),
            group_size=draw.choice([1, 30, None]),
            seq_num=n,
            seq_start=1 + n % 2,
            seq_end=80,
            can_see_sky=draw.random() > 0.1,
        )
        for n in range(1, 81)
    ]
    moved = [
        replace(each, group="8", seq_start=1, record_version=1) for each in draw.sample(exposures, 10) if each.id % 2
    ]
    raws = [raw for each in [*exposures, *moved, exposure(300, group="7", seq_num=300)] for raw in raws_of([each], 0)]
    feed(dsn, rules, raws, Course(random.Random(seed), n_partitions=2, max_batch=30, crash_chance=0.1))  # noqa: S311 - test data
    expected = canonical(dsn)
    wipe(dsn)
    monkeypatch.setattr(open_groups, "MOST_COUNTED", MOST)
    monkeypatch.setattr(apply_batch, "MOST_COUNTED", MOST)
    course = Course(random.Random(seed + 100), n_partitions=3, max_batch=30, crash_chance=0.1)  # noqa: S311 - test data
    closed = feed(dsn, rules, raws, course)
    assert canonical(dsn) == expected
    assert len(expected["visit"]) >= 2
    assert CloseReason.IDLE in {reason for _, reason in closed}


def test_what_is_read_for_an_exposure_does_not_grow_with_its_group(dsn: str) -> None:
    """20,000 exposures are stored of the group: a batch reads no more of them than it looks at."""
    partition = PartitionId(TOPIC, 0)
    log = NightLog.of(1)
    for n in range(1, 12):
        one = exposure(n, group="7", group_size=1, timespan_begin=None, timespan_end=None)
        log.append(raws_of([one], 0)[0], at_ms=START_MS + n)
    messages = log.partitions[partition]
    with reader(dsn, RULES) as reads:
        reads.claim([partition])
        reads.put(messages[:1], log, now_ms=START_MS)
        reads.write()
        assert [reason for _, reason in reads.closed] == [CloseReason.COMPLETE]
        with psycopg.connect(dsn) as connection:
            connection.execute("""
                INSERT INTO visits.exposure
                SELECT (jsonb_populate_record(each, jsonb_build_object('id', 1000 + n))).*
                FROM visits.exposure AS each, generate_series(1, 20000) AS n""")
            connection.execute("ANALYZE visits.exposure")
        reads.put(messages[1:], log, now_ms=START_MS)
        batch = reads.builder.take()
        assert batch is not None
        with reads.database.transaction() as session:
            result = apply_batch.apply_batch(BatchTransaction(session), batch, RULES)
            ((read,),) = session._connection.execute("""
                SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables
                WHERE schemaname = 'visits' AND relname = 'exposure'""").fetchall()
        assert result.closed == []
        assert result.late == {"LSSTComCam": 1}, "the first reopens the group for the others"
        assert isinstance(read, int)
        assert 0 < read < 2 * open_groups.MOST_COUNTED
        tick = reads.tick(FAR_MS)
        assert tick is not None
        assert [len(each.definition.exposures) for each in tick.written] == [20_011]
        assert tick.closed == [("LSSTComCam", CloseReason.IDLE)]


def test_groups_that_have_few_members_are_read_and_the_others_named(dsn: str) -> None:
    with reader(dsn, RULES) as one:
        log = NightLog.of(1)
        for n, group in enumerate(["1", "2", "2", "3", "3", "3"], 1):
            log.append(raws_of([exposure(n, group=group)], 0)[0], at_ms=START_MS)
        one.claim(log.partitions)
        one.put(log.partitions[PartitionId(TOPIC, 0)])
        one.write()
    database = Database(DatabaseSettings(conninfo=dsn), session=LOOKS_UP_BY_KEY)  # type: ignore[arg-type] # pydantic makes it a secret
    with database.transaction() as session:
        keys = [GroupKey("LSSTComCam", name) for name in "1234"]
        found, large = BatchTransaction(session).few_group_members(keys, 2)
    database.close()
    assert sorted(each.group.key for each in found) == ["1", "2", "2"]
    assert large == {GroupKey("LSSTComCam", "3")}
