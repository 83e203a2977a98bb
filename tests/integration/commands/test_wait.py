"""``wait`` ends when what it waits for is there, and says what is missing when it is not."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from time import monotonic

import pytest

from consumer.errors import TransientError
from consumer.postgres.connection import Database
from consumer.postgres.replicas import Heartbeats
from consumer.read.arrival import EVERY_S, Arrival, Awaited, read_arrival, wait_for
from tests.support.commands import invoke, invoke_json
from tests.support.exposures import DAY_OBS, exposure, run_of
from tests.support.feeding import Feeder, raws_of
from tests.support.nights import START_MS

COUNTER = {"LSSTComCam": {"group_exposures": "one-to-one-and-by-counter"}}


@pytest.fixture
def feeder(dsn: str) -> Iterator[Feeder]:
    """Give one reader of one partition."""
    with closing(Feeder(dsn, COUNTER)) as made:
        yield made


def answered(answers: list[Callable[[], Arrival]], *, timeout_s: float) -> tuple[Arrival, float]:
    """Wait on a clock of one's own; return the last answer, and how long that took."""
    now_s = 0.0

    def rest(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds

    asked = iter(answers)

    def ask() -> Arrival:
        return next(asked)()

    found = wait_for(ask, timeout_s=timeout_s, monotonic_s=lambda: now_s, rest=rest)
    return found, now_s


def there() -> Arrival:
    return Arrival(arrived=True, detail="there")


def missing() -> Arrival:
    return Arrival(arrived=False, detail="missing")


def unavailable() -> Arrival:
    raise TransientError("the database restarts")


def test_it_asks_until_it_is_there_or_the_time_is_over() -> None:
    assert answered([there], timeout_s=60) == (there(), 0.0)
    assert answered([missing, unavailable, there], timeout_s=60) == (there(), 2 * EVERY_S)
    assert answered([missing] * 4, timeout_s=2.5 * EVERY_S) == (missing(), 2.5 * EVERY_S)
    found, _ = answered([unavailable] * 3, timeout_s=EVERY_S)
    assert (found.arrived, found.detail) == (False, "the database restarts")


def test_visits_exposures_and_nights(feeder: Feeder) -> None:
    first, second = run_of(1, 2)
    single = exposure(5)

    def arrived(what: Awaited, number: int, *, complete: bool = False) -> bool:
        with Database(feeder.settings.database) as database:
            return read_arrival(database, what, number, complete=complete).arrived

    assert not arrived(Awaited.NIGHT, DAY_OBS)
    feeder.feed(raws_of([first, single]), at_ms=START_MS)
    assert arrived(Awaited.VISIT, single.id)
    assert not arrived(Awaited.VISIT, first.id)  # of the run, which is open
    assert arrived(Awaited.EXPOSURE, first.id)
    assert not arrived(Awaited.EXPOSURE, second.id)
    assert arrived(Awaited.NIGHT, DAY_OBS)
    assert not arrived(Awaited.NIGHT, DAY_OBS, complete=True)
    feeder.feed(raws_of([second]), at_ms=START_MS)
    assert arrived(Awaited.VISIT, first.id, complete=True)
    assert arrived(Awaited.NIGHT, DAY_OBS, complete=True)


def test_the_command_is_woken_by_a_replica_that_has_committed(feeder: Feeder, dsn: str) -> None:
    one = exposure(7)

    def commit() -> None:
        feeder.feed(raws_of([one]), at_ms=START_MS)
        with Database(feeder.settings.database) as database:
            table = Heartbeats(database, owner="one", consumer_group="g", version="1")
            table.beat("running", [], [], started_at=datetime(2026, 11, 1, tzinfo=UTC), wakes=True)

    later = threading.Timer(0.5, commit)
    later.start()
    started_s = monotonic()
    found = invoke_json("wait", "--exposure", one.id, "--timeout", "60s", "--dsn", dsn)
    later.join()
    assert found["arrived"] is True
    # It asks at 0 s, as soon as it listens, and when it is woken; otherwise it would be five seconds later.
    assert 0.5 < monotonic() - started_s < EVERY_S


def test_the_command(feeder: Feeder, dsn: str) -> None:
    one = exposure(5)
    feeder.feed(raws_of([one]), at_ms=START_MS)
    call = ("--timeout", "0.1s", "--dsn", dsn)
    found = invoke_json("wait", "--exposure", one.id, *call)
    assert found == {
        "exposure": one.id,
        "arrived": True,
        "detail": f"visit {one.id} of LSSTComCam, revision 1",
    }
    late = invoke("wait", "--visit", 17, *call, exit_code=1)
    assert (late.stdout, late.stderr) == ("", "visit 17: no visit yet\n")
    assert invoke_json("wait", "--visit", one.id, "--instrument", "LATISS", *call, exit_code=1)["arrived"] is False
    assert "say what" in invoke("wait", *call, exit_code=2).stderr
