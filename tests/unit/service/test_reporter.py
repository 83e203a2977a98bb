"""What the probes say: alive, ready, status."""

import io
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from consumer.errors import FencedError, RegistryError, TransientError
from consumer.logs import configure_logging
from consumer.metrics import Metrics, Rebalance
from consumer.model import DeadLetter, Message
from consumer.service.batch import Batch, BatchResult
from consumer.service.reporter import LoopState, Reporter
from tests.support.stepped import START_S, SteppedRuntime
from tests.support.stepped_loop import RULES, STALLED_AFTER_S, partition

A, B = partition(0), partition(1)
GOOD = LoopState(
    joined=True,
    assigned=frozenset({A}),
    refused={},
    tripped=0,
    reading=frozenset({A}),
    database=None,
    kafka=None,
    paused=False,
)


class Reporting:
    """A reporter of a replica that is ready."""

    def __init__(self) -> None:
        self.time = SteppedRuntime()
        self.metrics = Metrics(CollectorRegistry(), instruments=RULES)
        self.reporter = Reporter(self.metrics, self.time.runtime, stalled_after_s=STALLED_AFTER_S)

    def ready(self) -> "Reporting":
        self.reporter.answered()
        self.reporter.turned(GOOD)
        assert self.reporter.ready().ok
        return self

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"visit_consumer_{name}", labels)


def test_a_new_process_is_alive_and_not_ready() -> None:
    one = Reporting()
    assert one.reporter.alive().ok
    assert one.reporter.ready().reasons == (
        "the database has not answered yet",
        "the consumer group is not joined yet",
    )
    assert one.reporter.status().state == "waiting"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"joined": False}, "the consumer group is not joined yet"),
        ({"database": "no connection to PostgreSQL: refused"}, "the database is unavailable"),
        ({"refused": {A: "a gap"}}, "t[0]: a gap"),
    ],
)
def test_a_replica_that_cannot_work_is_not_ready_and_says_why(changes: dict[str, object], reason: str) -> None:
    one = Reporting().ready()
    one.reporter.turned(replace(GOOD, **changes))  # type: ignore[arg-type] # fields that are named at run time
    assert one.reporter.ready().reasons == (reason,)
    assert one.value("ready") == 0
    one.reporter.turned(GOOD)
    assert one.reporter.ready().ok
    assert one.value("ready") == 1


def test_a_member_without_partitions_is_ready() -> None:
    one = Reporting().ready()
    one.reporter.turned(replace(GOOD, assigned=frozenset(), reading=frozenset()))
    assert one.reporter.ready().ok
    assert one.reporter.status().partitions == ()


def test_a_registry_that_is_away_makes_the_replica_unready_until_it_answers() -> None:
    one = Reporting().ready()
    one.reporter.events_wait(RegistryError("503"))
    assert one.reporter.ready().reasons == ("the schema registry is unavailable",)
    one.reporter.events_wait(RegistryError("503"))
    assert one.value("registry_errors_total") == 2
    one.reporter.no_event_waits()
    assert one.reporter.ready().ok
    one.reporter.events_wait(TransientError("the process that reads headers does not answer"))
    assert one.reporter.ready().reasons == ("the process that reads headers does not answer",)
    assert one.value("registry_errors_total") == 2


def test_a_loop_that_stands_still_is_not_alive() -> None:
    one = Reporting().ready()
    one.time.advance(STALLED_AFTER_S)
    assert one.reporter.alive().ok
    one.time.advance(0.5)
    alive = one.reporter.alive()
    assert (alive.ok, alive.reasons) == (False, ("the loop has not turned for 30 s",))
    one.reporter.turned(GOOD)
    assert one.reporter.alive().ok


def test_a_process_that_ends_is_not_ready_and_still_alive() -> None:
    one = Reporting().ready()
    one.reporter.stopping()
    assert one.reporter.ready().reasons == ("the process is ending",)
    assert one.reporter.alive().ok
    assert one.reporter.status().state == "stopping"


def test_the_status_shows_every_partition_and_why_one_is_not_read() -> None:
    one = Reporting().ready()
    one.reporter.claimed(A, 7)
    one.reporter.refused(B, 3, 10)
    one.reporter.turned(replace(GOOD, assigned=frozenset({A, B}), refused={B: "a gap"}))
    shown = {each.partition: each for each in one.reporter.status().partitions}
    assert (shown[A].state, shown[A].position, shown[A].detail) == ("reading", 7, "")
    assert (shown[B].state, shown[B].position, shown[B].lag, shown[B].detail) == ("stalled", 3, 7, "a gap")
    assert one.value("partition_up", topic="t", partition="0") == 1
    assert one.value("partition_up", topic="t", partition="1") == 0
    one.reporter.turned(replace(GOOD, paused=True))
    assert one.value("partition_up", topic="t", partition="0") == 0
    one.reporter.gone([B])
    one.reporter.turned(GOOD)
    assert [each.partition for each in one.reporter.status().partitions] == [A]


def test_lag_grows_while_nothing_is_committed() -> None:
    one = Reporting().ready()
    one.reporter.claimed(A, 7)
    one.reporter.behind({A: 10}.get)
    assert one.value("lag_messages", topic="t", partition="0") == 3
    one.reporter.behind({A: 12}.get)
    assert one.value("lag_messages", topic="t", partition="0") == 5
    one.reporter.behind(lambda _: None)
    assert one.value("lag_messages", topic="t", partition="0") == 5


def test_the_oldest_message_that_waits_is_shown_and_none_when_all_is_read() -> None:
    one = Reporting().ready()
    one.reporter.gathered(Message(A, 1, 5_000, None, b""), 3, decode_s=0.1, region_s=0.2)
    assert one.value("oldest_unprocessed_timestamp_seconds") == 5
    assert one.value("clock_skew_clamped_total") == 3
    one.reporter.idle()
    assert one.value("oldest_unprocessed_timestamp_seconds") == 0
    assert one.value("last_progress_timestamp_seconds") == START_S + one.time.now_s


def test_a_committed_batch_is_counted_and_its_dead_letters_are_logged_up_to_a_number() -> None:
    stream = io.StringIO()
    configure_logging("human", "info", stream=stream)
    one = Reporting().ready()
    letters = tuple(DeadLetter(reason="empty", detail="the message has no value") for _ in range(8))
    result = BatchResult(bad=letters, dead_letters=list(letters))
    one.reporter.committed(Batch(offset_updates=(), dead_letters=letters), result, lambda _: None)
    assert one.value("dead_letters_total", reason="empty") == 8
    assert one.value("events_total", instrument="unknown", outcome="bad") == 8
    printed = stream.getvalue()
    assert printed.count("the message has no value") == 5
    assert "number=3" in printed
    assert dict(one.reporter.status().counts) == {"events": 8, "visits written": 0, "dead letters": 8}


def test_rebalances_and_fences_are_counted() -> None:
    one = Reporting()
    for event in Rebalance:
        one.reporter.rebalanced(event, [A])
        assert one.value("rebalances_total", event=event) == 1
    one.reporter.fenced(FencedError("1 of 1 positions are not as expected"))
    assert one.value("fenced_total") == 1
