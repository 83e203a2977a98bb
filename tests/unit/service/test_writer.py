"""The writer without PostgreSQL: what is retried, halved, isolated, and what it says to the loop."""

from collections.abc import Callable

import psycopg
import pytest
from prometheus_client import CollectorRegistry

from consumer.domain import KnownExposure
from consumer.errors import DataRefusedError, DeadLetterReason, FatalError, FencedError, TransientError
from consumer.events import Decoder
from consumer.metrics import Metrics
from consumer.model import LogPartition, Message
from consumer.postgres.connection import took_too_long
from consumer.service import writer as writer_module
from consumer.service.batch import Batch
from consumer.service.batch_builder import BatchBuilder
from consumer.service.leases import PartitionLease
from consumer.service.writer import StoppedError, Writer
from tests.support.stepped import MemoryStore, SteppedRuntime
from tests.support.stepped_loop import RULES, good, partition

A = partition(0)


class Writing:
    """A writer over a store in memory, and one partition that is leased."""

    def __init__(self) -> None:
        self.time = SteppedRuntime()
        self.store = MemoryStore()
        self.metrics = Metrics(CollectorRegistry(), instruments=RULES)
        self.writer = Writer(
            self.store, self.store, RULES, self.metrics, announce=None, retry_max_s=1.0, runtime=self.time.runtime
        )
        position = self.store.begin(self.store.claim(LogPartition("cluster", "first", A)), 0)
        self.offset_id = position.id
        self.builder = BatchBuilder(Decoder(), RULES, max_clock_skew_ms=60_000)
        self.builder.add_partition(PartitionLease(A, position.id, position.epoch, 0, 0, 0))
        self.offset = 0

    def batch(self, *values: bytes) -> Batch:
        messages = [Message(A, self.offset + n, 1, None, value) for n, value in enumerate(values)]
        self.offset += len(values)
        self.builder.put(messages, {}, 1)
        batch = self.builder.take()
        assert batch is not None
        return batch

    def write(self, batch: Batch) -> list[writer_module.Written]:
        future = self.writer.write(batch)
        self.time.executors["writer"].run()
        return future.result()

    @property
    def exposures(self) -> set[int]:
        return {key.id % 100_000 for key in self.store.state.exposures}

    @property
    def position(self) -> int | None:
        return self.store.state.positions[self.offset_id].next_offset

    def refuse(self, *numbers: int) -> None:
        """Let the database refuse the rows of some exposures."""

        def refuses(known: KnownExposure) -> Exception | None:
            if known.record.id % 100_000 in numbers:
                return DataRefusedError("a row that cannot be stored", sqlstate="22003")
            return None

        self.store.refuses = refuses


@pytest.mark.parametrize("bad", [0, 1, 3, 6])
def test_the_one_event_that_is_refused_becomes_a_dead_letter_and_its_neighbours_are_stored(bad: int) -> None:
    one = Writing()
    one.refuse(bad)
    transactions = one.write(one.batch(*(good(number) for number in range(7))))
    assert one.exposures == set(range(7)) - {bad}
    (letter,) = one.store.state.dead_letters
    assert (letter.reason, letter.exposure) == (DeadLetterReason.REFUSED_BY_DATABASE, 20261101 * 100_000 + bad)
    assert letter.message is not None
    assert letter.message.offset == bad
    assert one.position == 7
    assert sum(len(each.batch.events) for each in transactions) == 6


def test_several_refused_events_are_isolated_each() -> None:
    one = Writing()
    one.refuse(1, 2, 5)
    one.write(one.batch(*(good(number) for number in range(7)), b"no event"))
    assert one.exposures == {0, 3, 4, 6}
    assert sorted(letter.reason for letter in one.store.state.dead_letters) == [
        *[DeadLetterReason.REFUSED_BY_DATABASE] * 3,
        DeadLetterReason.UNKNOWN_FRAMING,
    ]
    assert one.position == 8


def test_a_batch_without_events_that_is_refused_is_final() -> None:
    one = Writing()
    batch = one.batch(b"no event")
    one.store.faults.extend([DataRefusedError("why?", sqlstate="23505")] * 3)
    with pytest.raises(FatalError, match="a batch without events is refused: why"):
        one.write(batch)


def test_an_unavailable_database_is_retried_with_growing_pauses_and_said_once() -> None:
    one = Writing()
    said: list[str | None] = []
    one.time.on_wait = lambda: said.append(one.writer.unavailable)
    one.store.faults.extend([TransientError("no connection")] * 8)
    one.write(one.batch(good(1)))
    assert one.time.pauses_s == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]
    assert said == ["no connection"] * 8
    assert one.writer.unavailable is None
    assert one.exposures == {1}
    assert one.metrics.registry.get_sample_value("visit_consumer_db_errors_total", {"class": "connection"}) == 8


def test_a_call_that_waits_for_the_database_ends_with_the_process() -> None:
    one = Writing()
    one.time.on_wait = one.writer.stop
    one.store.faults.append(TransientError("no connection"))
    with pytest.raises(StoppedError):
        one.write(one.batch(good(1)))
    assert one.exposures == set()


def too_long() -> TransientError:
    error = TransientError("statement timeout")
    error.__cause__ = psycopg.errors.QueryCanceled()
    return error


def test_what_takes_too_long_is_halved_and_then_gets_more_time() -> None:
    assert took_too_long(too_long())
    one = Writing()
    one.store.faults.extend([*[too_long()] * 3, *[too_long()] * 5])
    one.write(one.batch(good(1), good(2)))
    assert one.exposures == {1, 2}
    # Three attempts as a whole, six of the first half (the last with 2, 4 and 8 times the timeouts), one of the second.
    assert one.store.timeout_factors == [1, 1, 1, 1, 1, 1, 2, 4, 8, 1]
    assert one.metrics.registry.get_sample_value("visit_consumer_bisections_total") == 1


def fence(one: Writing) -> None:
    one.store.claim(LogPartition("cluster", "first", A))


@pytest.mark.parametrize(
    "harm", [fence, lambda one: one.store.begin(one.store.read([one.offset_id])[one.offset_id], 5)]
)
def test_a_batch_of_a_partition_that_is_not_ours_or_not_where_we_left_it_is_fenced(
    harm: Callable[[Writing], object],
) -> None:
    one = Writing()
    batch = one.batch(good(1))
    harm(one)
    with pytest.raises(FencedError):
        one.write(batch)
    assert one.exposures == set()


def test_our_own_commit_whose_answer_was_lost_is_found_and_counted_once() -> None:
    one = Writing()
    one.store.lost_answers.append(TransientError("connection lost"))
    (written,) = one.write(one.batch(good(1)))
    assert written.result.new == {"LSSTComCam": 1}
    assert one.position == 1


def test_a_commit_whose_answer_was_lost_and_that_another_replica_overtook_is_a_fence() -> None:
    one = Writing()
    one.store.lost_answers.append(TransientError("connection lost"))
    one.time.on_wait = lambda: fence(one)
    with pytest.raises(FencedError):
        one.write(one.batch(good(1)))


def test_other_questions_are_retried_alike() -> None:
    one = Writing()
    answers = [TransientError("no"), TransientError("no"), 42]

    def question() -> int:
        answer = answers.pop(0)
        if isinstance(answer, int):
            return answer
        raise answer  # type: ignore[misc] # an error

    future = one.writer.ask(question)
    one.time.executors["writer"].run()
    assert future.result() == 42
    assert len(one.time.pauses_s) == 2


@pytest.mark.parametrize("hangs", [False, True])
def test_closing_ends_the_session_and_cancels_a_statement_that_hangs(*, hangs: bool) -> None:
    one = Writing()
    one.time.executors["writer"].hangs = hangs
    one.writer.close(3.0)
    assert one.store.cancelled is hangs
    assert one.store.closed is not hangs
    assert one.time.executors["writer"].ended
