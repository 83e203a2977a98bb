"""The relay without servers: who is asked for what, in which order, when something fails."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import pytest
from prometheus_client import CollectorRegistry

from consumer.config import Settings
from consumer.errors import FatalError, TransientError, VisitConsumerError
from consumer.events.visit_defined import Announcement, Sent
from consumer.metrics import Metrics
from consumer.postgres.outbox import Backlog, Outbox
from consumer.service.outbox_relay import OutboxRelay
from consumer.service.runtime import SYSTEM
from tests.support.service import settings_for
from tests.support.stepped import SteppedRuntime
from tests.support.waiting import give_up_at


@dataclass
class Rows:
    """An outbox in memory."""

    unsent_rows: list[Announcement]
    error: VisitConsumerError | None = None
    leads: bool = True
    closed: bool = False
    asked: int = 0

    def lead(self) -> bool:
        if self.error is not None:
            raise self.error
        self.asked += 1
        return self.leads

    def unsent(self, limit: int) -> list[Announcement]:
        return self.unsent_rows[:limit]

    def mark_sent(self, ids: list[int]) -> None:
        self.unsent_rows = [each for each in self.unsent_rows if each.id not in ids]

    def backlog(self) -> Backlog:
        return Backlog(len(self.unsent_rows), 100.0 if self.unsent_rows else None)

    def remove_sent(self, days: float) -> int:
        assert days == 7
        return 0

    def remove_settled(self, days: float) -> int:
        assert days == 90
        return 0

    def close(self) -> None:
        self.closed = True


@dataclass
class Brokers:
    """Takes what is sent, but for some ids that it refuses a number of times."""

    refused: dict[int, int] = field(default_factory=dict)
    arrived: list[int] = field(default_factory=list)
    connections: int = 0
    abandoned: int = 0

    def connect(self) -> "Brokers":
        self.connections += 1
        return self

    def send(self, announcements: Sequence[Announcement], stopping: Callable[[], bool]) -> Sent:
        assert not stopping()
        taken = []
        for each in announcements:
            if self.refused.get(each.id, 0) > 0:
                self.refused[each.id] -= 1
            else:
                taken.append(each.id)
        self.arrived += taken
        return Sent(taken, "they did not like it")

    def abandon(self) -> None:
        self.abandoned += 1


def row(number: int, visit: int) -> Announcement:
    return Announcement(id=number, instrument="LATISS", visit=visit, payload=b"")


def relay_settings(*, interval_s: float, retry_max_s: float) -> Settings:
    announce = {"interval_s": interval_s, "max_messages": 3}
    return Settings(
        **settings_for("nowhere:1", "host=127.0.0.1", announce=announce, database={"retry_max_s": retry_max_s})
    )


def relay_of(rows: Rows, brokers: Brokers, gave_up: threading.Event | None = None) -> tuple[OutboxRelay, Metrics]:
    metrics = Metrics(CollectorRegistry())
    settings = relay_settings(interval_s=0.001, retry_max_s=0.02)
    event = gave_up or threading.Event()
    return OutboxRelay(
        cast("Outbox", rows), brokers.connect, metrics, settings, give_up=event.set, runtime=SYSTEM
    ), metrics


def until(condition: Callable[[], bool]) -> None:
    deadline = give_up_at(10)
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_revision_waits_until_the_one_before_is_acknowledged() -> None:
    rows = Rows([row(1, 10), row(2, 11), row(3, 10), row(4, 11), row(5, 10)])
    brokers = Brokers(refused={1: 2})
    relay, metrics = relay_of(rows, brokers)
    relay.start()
    until(lambda: not rows.unsent_rows)
    relay.close(5)
    assert brokers.arrived.index(1) < brokers.arrived.index(3) < brokers.arrived.index(5)
    assert sorted(brokers.arrived) == [1, 2, 3, 4, 5]
    assert metrics.registry.get_sample_value("visit_consumer_announcement_errors_total") == 2
    assert metrics.registry.get_sample_value("visit_consumer_announcements_sent_total") == 5
    # Each failure makes a new producer, and what the old one still had is dropped.
    assert (brokers.connections, brokers.abandoned) == (3, 3)
    assert rows.closed


def test_who_does_not_lead_sends_nothing() -> None:
    rows, brokers = Rows([row(1, 10)], leads=False), Brokers()
    relay, metrics = relay_of(rows, brokers)
    for _ in range(2):
        assert relay.turn() > 0, "it rests, and asks for the lead again"
    assert (brokers.arrived, brokers.connections, rows.asked) == ([], 0, 2)
    assert metrics.registry.get_sample_value("visit_consumer_outbox_backlog") == 0


def test_an_unwell_database_is_waited_for() -> None:
    away = TransientError("away")
    away.__cause__ = OSError()  # as PostgreSQL's errors have one
    rows, brokers = Rows([row(1, 10)], error=away), Brokers()
    relay, metrics = relay_of(rows, brokers)
    relay.start()
    counted = {"class": "connection"}
    until(lambda: (metrics.registry.get_sample_value("visit_consumer_db_errors_total", counted) or 0) >= 2)
    rows.error = None
    until(lambda: brokers.arrived == [1])
    relay.close(5)
    assert relay.failure is None


@pytest.mark.parametrize("error", [FatalError("no such table"), None])
def test_what_cannot_get_better_ends_the_process(error: VisitConsumerError | None) -> None:
    rows, brokers, gave_up = Rows([row(1, 10)], error=error), Brokers(), threading.Event()
    if error is None:
        rows.unsent_rows = cast("list[Announcement]", [None])  # a defect of ours
    relay, _ = relay_of(rows, brokers, gave_up)
    relay.start()
    assert gave_up.wait(5)
    relay.close(5)
    assert isinstance(relay.failure, FatalError)
    assert brokers.arrived == []


def test_a_relay_that_was_stopped_does_not_start() -> None:
    rows, brokers = Rows([row(1, 10)]), Brokers()
    relay, _ = relay_of(rows, brokers)
    relay.stop()
    relay.start()
    relay.close(0)
    assert brokers.arrived == []


def test_a_relay_that_lost_the_lead_drops_its_producer() -> None:
    rows, brokers = Rows([row(1, 10)]), Brokers()
    relay, _ = relay_of(rows, brokers)
    relay.turn()
    assert (brokers.connections, brokers.abandoned) == (1, 0)
    rows.leads = False
    relay.turn()
    assert brokers.abandoned == 1, "what it still holds must not be sent after the new leader's announcements"
    rows.leads, rows.unsent_rows = True, [row(2, 10)]
    relay.turn()
    assert (brokers.connections, brokers.arrived) == (2, [1, 2])


def test_a_success_lets_the_pauses_begin_anew() -> None:
    stepped = SteppedRuntime()
    rows, brokers = Rows([row(1, 10)], error=TransientError("away")), Brokers()
    metrics = Metrics(CollectorRegistry())
    settings = relay_settings(interval_s=7.0, retry_max_s=1.0)
    relay = OutboxRelay(
        cast("Outbox", rows), brokers.connect, metrics, settings, give_up=lambda: None, runtime=stepped.runtime
    )

    def script() -> None:
        match len(stepped.pauses_s):
            case 3:
                rows.error = None
            case 5:
                rows.error = TransientError("away again")
            case 7:
                relay.stop()

    stepped.on_wait = script
    relay.start()
    stepped.executors["relay"].run()
    assert stepped.pauses_s == [0.05, 0.1, 0.2, 0.0, 7.0, 0.05, 0.1]
    assert rows.closed
