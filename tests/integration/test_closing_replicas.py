"""Several writers on one database: the raws of each group lie on partitions that different replicas read."""

import random
import threading
from collections import Counter
from collections.abc import Collection, Iterator, Mapping

import psycopg
import pytest
from prometheus_client import CollectorRegistry

from consumer.config import DatabaseSettings
from consumer.domain.closing import Later, OpenGroup
from consumer.metrics import Metrics
from consumer.model import PartitionId
from consumer.postgres.batch_tables import BatchStore, BatchTransaction
from consumer.postgres.connection import Database
from consumer.postgres.offsets import Positions
from consumer.service.batch_builder import BatchBuilder
from consumer.service.runtime import SYSTEM
from consumer.service.writer import Writer, Written
from tests.support.define_visits import Night, load_night
from tests.support.exposures import exposure
from tests.support.night_rows import assert_rows_of
from tests.support.nights import (
    FAR_MS,
    START_MS,
    NightLog,
    Reader,
    Rules,
    close_all,
    prepare,
    raws_of,
    reader,
    rules_of,
    wipe,
)
from tests.support.postgres import PostgresServer

N_WRITERS = 3
GROUPED = {
    "instrument": "LSSTComCam",
    "camera": "lsstcomcam",
    "group_exposures": "by-group-metadata",
    "group_id": "digits",
    "padding": 10,
    "merge_exposures": False,
}


@pytest.fixture(scope="module")
def server(postgres18: PostgresServer) -> Iterator[str]:
    with postgres18.database(prepare) as made:
        yield made


@pytest.fixture
def dsn(server: str) -> str:
    wipe(server)
    return server


class Replica(threading.Thread):
    """One replica in a thread: its own session, builder and writer, and one partition."""

    def __init__(self, dsn: str, rules: Rules, log: NightLog, number: int, start: threading.Barrier) -> None:
        super().__init__(name=f"replica-{number}")
        self.metrics = Metrics(CollectorRegistry(), instruments=rules)
        self.written: list[Written] = []
        self.failure: BaseException | None = None
        self._log = log
        self._partition = PartitionId("raw-ingested", number)
        self._reader = Reader(dsn, rules)
        database = Database(DatabaseSettings(conninfo=dsn), application_name=self.name)  # type: ignore[arg-type] # pydantic makes it a secret
        positions = Positions(database, consumer_group="visit-consumer", owner=self.name)
        self._writer = Writer(
            BatchStore(database), positions, rules, self.metrics, announce=None, retry_max_s=0.05, runtime=SYSTEM
        )
        self._start = start

    @property
    def builder(self) -> BatchBuilder:
        """What it gathers."""
        return self._reader.builder

    def run(self) -> None:
        """Read the partition in small batches, then let the wall clock close what is left."""
        try:
            self._reader.claim([self._partition])
            self._start.wait()
            messages = self._log.partitions[self._partition]
            for begin in range(0, len(messages), 4):
                self._reader.put(messages[begin : begin + 4], self._log)
                batch = self.builder.take()
                assert batch is not None
                self.written += self._writer.write(batch).result(60)
            self._start.wait()
            for step in range(3):
                tick = self.builder.tick(FAR_MS + step * 86_400_000)
                assert tick is not None
                self.written += self._writer.write(tick).result(60)
                self._start.wait()
        except BaseException as error:  # noqa: BLE001 -- told to the test, whose thread this is not
            self.failure = error
            self._start.abort()
        finally:
            self._writer.close(5)
            self._reader.close()


def read_by_replicas(dsn: str, rules: Rules, log: NightLog) -> list[Replica]:
    start = threading.Barrier(N_WRITERS, timeout=60)
    replicas = [Replica(dsn, rules, log, number, start) for number in range(N_WRITERS)]
    for each in replicas:
        each.start()
    for each in replicas:
        each.join(120)
    assert [each.failure for each in replicas] == [None] * N_WRITERS
    return replicas


def scattered(night: Night, seed: int) -> NightLog:
    """Spread four raws of each exposure over all partitions, exposures in an order of chance."""
    chance = random.Random(seed)  # noqa: S311 -- reproducible, not a secret
    log = NightLog.of(N_WRITERS)
    exposures = list(night.exposures)
    chance.shuffle(exposures)
    at_ms = START_MS
    for one in exposures:
        for raw in raws_of([one], 0, 1, 2, 3):
            at_ms += 100
            log.append(raw, partition=chance.randrange(N_WRITERS), at_ms=at_ms)
    return log


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "name",
    [
        "lsstcomcam-by-group-metadata-lsst",
        "lsstcomcam-one-to-one-and-by-counter-digits",
        "lsstcomcam-one-to-one-digits",
    ],
)
def test_three_writers_give_the_rows_of_the_task(dsn: str, name: str, seed: int) -> None:
    night = load_night(name)
    read_by_replicas(dsn, rules_of(night.config), scattered(night, seed))
    assert_rows_of(night, dsn)


def test_groups_whose_snaps_come_by_different_replicas_close_once(dsn: str) -> None:
    """Sixty groups of three, one snap on each partition: complete with the last, whoever brings it."""
    log = NightLog.of(N_WRITERS)
    for group in range(1, 61):
        for snap in range(N_WRITERS):
            one = exposure(10 * group + snap, group=f"{group}", group_size=N_WRITERS)
            log.append(raws_of([one], snap)[0], partition=(group + snap) % N_WRITERS, at_ms=START_MS + group)
    replicas = read_by_replicas(dsn, rules_of(GROUPED), log)
    closed = Counter(reason for r in replicas for w in r.written for _, reason in w.result.closed)
    assert closed == {"complete": 60}
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT count(*), max(revision), bool_and(complete) FROM visits.visit").fetchone()
        assert rows == (60, 1, True)
        members = connection.execute("SELECT count(*) FROM visits.visit_definition").fetchone()
        assert members == (60 * N_WRITERS,)


class Crossing(BatchTransaction):
    """Waits, with the groups that it changes locked, until the other one has locked those that it changes.

    Once in each thread: what is tried again comes alone.
    """

    meet: threading.Barrier
    came: set[threading.Thread]

    def lock_due_groups(
        self,
        stream_times_ms: Mapping[int, int],
        instruments: Collection[str],
        later: Collection[Later],
        most: int | None,
    ) -> list[OpenGroup]:
        thread = threading.current_thread()
        if thread not in self.came:
            self.came.add(thread)
            self.meet.wait(30)
        return super().lock_due_groups(stream_times_ms, instruments, later, most)


def test_a_deadlock_between_replicas_is_tried_again(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each changes the group that falls due by the other's clock: PostgreSQL ends one of them."""
    rules = rules_of(GROUPED)
    log = NightLog.of(2)
    for number, (where, group, at_s) in enumerate([(0, "2", 0), (1, "1", 0), (0, "1", 130), (1, "2", 130)], 1):
        same = exposure(number, group=group, timespan_begin=None, timespan_end=None)
        log.append(raws_of([same], 0)[0], partition=where, at_ms=START_MS + at_s * 1000)
    with reader(dsn, rules) as first, reader(dsn, rules) as second:
        pairs = list(zip((first, second), log.partitions, strict=True))
        for replica, partition in pairs:
            replica.claim([partition])
            replica.put(log.partitions[partition][:1], log)
            replica.write()
        monkeypatch.setattr(Crossing, "meet", threading.Barrier(2), raising=False)
        monkeypatch.setattr(Crossing, "came", set(), raising=False)
        monkeypatch.setattr("tests.support.nights.BatchTransaction", Crossing)
        threads = []
        for replica, partition in pairs:
            replica.put(log.partitions[partition][1:], log)
            threads.append(threading.Thread(target=replica.write))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        monkeypatch.undo()
        assert first.retries + second.retries == 1
        close_all(first)
        close_all(second)
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT visit, exposure % 100 FROM visits.visit_definition ORDER BY 1, 2").fetchall()
    assert rows == [(1, 2), (1, 3), (2, 1), (2, 4)]
