"""Runs SPIN on the model of the fence, and replays its traces on the real writer."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Final, NamedTuple

import psycopg
from prometheus_client import CollectorRegistry

from consumer.config import DatabaseSettings
from consumer.errors import DeadLetterReason, FatalError, FencedError, TransientError
from consumer.metrics import Metrics
from consumer.model import DeadLetter, LogPartition, Message, OffsetUpdate, PartitionId, StoredPosition
from consumer.postgres.batch_tables import BatchStore, BatchTransaction
from consumer.postgres.connection import Database
from consumer.postgres.offsets import Positions
from consumer.service.batch import Batch
from consumer.service.runtime import SYSTEM
from consumer.service.writer import Writer, Written

MODEL: Final = Path(__file__).with_name("fence.pml")
PARTITIONS: Final = 2
_GROUP: Final = "model"
_WITHIN_S: Final = 30.0
WATCH: Final = b"""
    CREATE TABLE seen (topic text, partition integer, "offset" bigint);
    CREATE FUNCTION note_letter() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO public.seen VALUES (new.topic, new.partition, new."offset"); RETURN new; END $$;
    CREATE TRIGGER noted AFTER INSERT OR UPDATE ON visits.dead_letter FOR EACH ROW EXECUTE FUNCTION note_letter();
"""
"""Notes each time that a message is written."""


class Step(NamedTuple):
    """One line of a trace."""

    what: str
    replica: int
    words: tuple[str, ...]

    @property
    def numbers(self) -> tuple[int, ...]:
        """The words as numbers."""
        return tuple(map(int, self.words))


def missing_tools() -> list[str]:
    """Return what is not installed: SPIN makes a C program of the model."""
    return [name for name in ("spin", "gcc") if shutil.which(name) is None]


def check_all_states(folder: Path, *, leases: int) -> str:
    """Visit every state of the model; return what SPIN's program says, which ends with code 1 at an error."""
    shutil.copy(MODEL, folder)
    define = f"-DLEASES={leases}"
    subprocess.run(["spin", define, "-a", MODEL.name], cwd=folder, check=True, capture_output=True)
    subprocess.run(["gcc", "-O2", "-w", "-o", "pan", "pan.c"], cwd=folder, check=True, capture_output=True)
    # States in which a replica can do nothing more are no errors: leases are bounded.
    done = subprocess.run(["./pan", "-E", "-m1000000"], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout


def trace(seed: int) -> list[Step]:
    """Return the steps of one random run of the model."""
    done = subprocess.run(
        ["spin", f"-n{seed}", "-T", "-u5000", MODEL.name], cwd=MODEL.parent, check=True, capture_output=True, text=True
    )
    lines = re.findall(r"^\s*STEP (\w+) (\d+)(.*)$", done.stdout, re.MULTILINE)
    return [Step(what, int(replica), tuple(words.split())) for what, replica, words in lines]


class _Store(BatchStore):
    """Loses an answer when told to, and waits before it tries again."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.loses: str | None = None
        self.in_doubt, self.may_go_on = Event(), Event()
        self.crashed = False

    @contextmanager
    def transaction(self, *, timeout_factor: int = 1) -> Iterator[BatchTransaction]:
        """Run the body in one transaction."""
        if self.loses is None and self.in_doubt.is_set():
            self.may_go_on.wait(_WITHIN_S)
            self.in_doubt.clear()
            self.may_go_on.clear()
            if self.crashed:
                raise FatalError("the replica crashes")
        if self.loses == "lost_before":
            self._lose()
        with super().transaction(timeout_factor=timeout_factor) as tables:
            yield tables
        if self.loses == "lost_after":
            self._lose()

    def _lose(self) -> None:
        self.loses = None
        self.in_doubt.set()
        raise TransientError("the answer was lost")


class _Replica:
    """One replica: the real writer, and what the loop would know."""

    def __init__(self, dsn: str, topic: str, number: int) -> None:
        self._topic = topic
        database = Database(DatabaseSettings(conninfo=dsn))  # type: ignore[arg-type] # pydantic makes it a secret
        self.positions = Positions(database, consumer_group=_GROUP, owner=f"replica {number}")
        self._store = _Store(database)
        metrics = Metrics(CollectorRegistry(), instruments=())
        self._writer = Writer(self._store, self.positions, {}, metrics, announce=None, retry_max_s=0.01, runtime=SYSTEM)
        self.held: dict[int, StoredPosition] = {}
        self.at: dict[int, int] = {}
        self._asked: tuple[Future[list[Written]], tuple[int, ...]] | None = None

    def lease(self, partition: int) -> StoredPosition:
        """Lease a partition, as `consumer.service.leases` does."""
        position = self.positions.claim(_log(self._topic, partition))
        if position.next_offset is None:
            position = self.positions.begin(position, 0)
        self.held.pop(partition, None)
        if position.breaker is None:
            self.held[partition], self.at[partition] = position, position.next_offset or 0
        return position

    def commit(self, counts: tuple[int, ...], *, loses: str | None = None) -> bool:
        """Write so many messages of each partition; return whether they are, False where the fence refused them."""
        self._store.loses = loses
        self._asked = self._writer.write(self._batch(counts)), counts
        if loses is None:
            return self.answer()
        assert self._store.in_doubt.wait(_WITHIN_S)
        return False

    def answer(self) -> bool:
        """Let a commit whose answer was lost be tried again, and return as `commit`."""
        assert self._asked is not None
        (future, counts), self._asked = self._asked, None
        if self._store.in_doubt.is_set():
            self._store.may_go_on.set()
        try:
            future.result(_WITHIN_S)
        except FencedError:
            for partition, count in enumerate(counts):
                if count:
                    self.held.pop(partition, None)
            return False
        for partition, count in enumerate(counts):
            if count:
                self.at[partition] += count
        return True

    def close(self) -> None:
        """End, whatever is under way."""
        if self._asked is not None:
            self._store.crashed = True
            self._store.may_go_on.set()
        self._writer.close(_WITHIN_S)

    def _batch(self, counts: tuple[int, ...]) -> Batch:
        updates, letters = [], []
        for partition, count in enumerate(counts):
            if not count:
                continue
            position, at = self.held[partition], self.at[partition]
            where = PartitionId(self._topic, partition)
            updates.append(OffsetUpdate(where, position.id, position.epoch, at, at + count, 1))
            letters += [
                DeadLetter(
                    reason=DeadLetterReason.UNDECODABLE,
                    detail="of the model",
                    message=Message(where, offset, 1, None, b"", 1),
                )
                for offset in range(at, at + count)
            ]
        return Batch(
            offset_updates=tuple(updates),
            dead_letters=tuple(letters),
            stream_times_ms={update.offset_id: 1 for update in updates},
        )


def replay(dsn: str, topic: str, steps: list[Step]) -> None:
    """Do what a trace does with the real code, on a topic of its own, and compare after each step."""
    replicas = [_Replica(dsn, topic, number) for number in range(2)]
    expected = [0] * PARTITIONS
    try:
        for number, step in enumerate(steps):
            where = f"{topic}, step {number}: {step}"
            if step.what == "crash":
                replicas[step.replica].close()
                replicas[step.replica] = _Replica(dsn, topic, step.replica)
            elif step.what == "reset":
                replicas[0].positions.reset(_log(topic, step.replica), accept_until=0)
            else:
                _do(replicas[step.replica], step, expected, where)
            assert _stored(dsn, topic) == expected, where
    finally:
        for each in replicas:
            each.close()


def _do(one: _Replica, step: Step, expected: list[int], where: str) -> None:
    if step.what == "lease":
        partition, epoch, position, tripped = step.numbers
        got = one.lease(partition)
        assert (got.epoch, got.next_offset, got.breaker is not None) == (epoch, position, bool(tripped)), where
    elif step.what == "trip":
        (partition, _) = step.numbers
        held = one.held.pop(partition)
        one.positions.trip({held.id: held.epoch}, "stopped")
    elif step.what == "retry":
        counts = one._asked[1] if one._asked is not None else ()
        assert one.answer() is (step.words != ("fenced",)), where
        if step.words == ("written",):
            _add(expected, counts)
    else:
        counts = step.numbers
        loses = step.what if step.what.startswith("lost") else None
        assert one.commit(counts, loses=loses) is (step.what == "commit"), where
        if step.what in {"commit", "lost_after"}:
            _add(expected, counts)


def _add(expected: list[int], counts: tuple[int, ...]) -> None:
    for partition, count in enumerate(counts):
        expected[partition] += count


def _stored(dsn: str, topic: str) -> list[int]:
    """Return the positions, once it is clear that each message below them was written once, and no other."""
    with psycopg.connect(dsn) as connection:
        positions: dict[int, int] = dict(
            connection.execute(
                "SELECT partition, next_offset FROM visits.consumer_offset WHERE topic = %s", [topic]
            ).fetchall()
        )
        seen = connection.execute(
            'SELECT partition, "offset" FROM seen WHERE topic = %s ORDER BY 1, 2', [topic]
        ).fetchall()
    found = [positions.get(partition) or 0 for partition in range(PARTITIONS)]
    assert seen == [(partition, offset) for partition in range(PARTITIONS) for offset in range(found[partition])], topic
    return found


def _log(topic: str, partition: int) -> LogPartition:
    return LogPartition("cluster", "log", PartitionId(topic, partition))
