"""The heartbeat writes what the reporter says, and goes on after failures."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from consumer.errors import TransientError
from consumer.model import PartitionId
from consumer.service.heartbeat import Heartbeat
from consumer.service.runtime import SYSTEM, Runtime
from consumer.web import Health, PartitionStatus, ServiceStatus

STARTED = datetime(2026, 11, 1, tzinfo=UTC)


class Table:
    """Keeps what was written; fails so often first."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.beats: list[tuple[str, list[str], list[Mapping[str, object]]]] = []
        self.wakes: list[bool] = []
        self.calls: list[str] = []

    def beat(
        self,
        state: str,
        reasons: Sequence[str],
        partitions: Sequence[Mapping[str, object]],
        *,
        started_at: datetime,
        wakes: bool,
    ) -> None:
        if self.failures:
            self.failures -= 1
            raise TransientError("read only")
        assert started_at == STARTED
        self.beats.append((state, list(reasons), list(partitions)))
        self.wakes.append(wakes)

    def remove_silent(self, seconds: float) -> None:
        self.calls.append(f"remove after {seconds:.0f} s")

    def leave(self) -> None:
        self.calls.append("leave")

    def close(self) -> None:
        self.calls.append("close")


class Source:
    """One replica in some trouble, which commits something between the first heartbeat and the second."""

    def __init__(self) -> None:
        self.asked = 0

    def alive(self) -> Health:
        return Health(ok=False, reasons=("the loop has not turned for 70 s",))

    def ready(self) -> Health:
        return Health(ok=False, reasons=("the database is unavailable",))

    def status(self) -> ServiceStatus:
        self.asked += 1
        where = PartitionStatus(partition=PartitionId("raws", 3), state="stalled", position=7, lag=2, detail="a gap")
        return ServiceStatus(
            version="1",
            state="waiting",
            started_at=STARTED,
            partitions=(where,),
            kafka="all brokers are down",
            counts={"events": 10 if self.asked == 1 else 11},
        )


class Flag:
    """Is set after so many rests."""

    def __init__(self, rests: int) -> None:
        self.rests = rests

    def is_set(self) -> bool:
        return self.rests <= 0

    def set(self) -> None:
        self.rests = 0

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout == 0.5
        self.rests -= 1
        return self.is_set()


def runtime(rests: int) -> Runtime:
    return replace(SYSTEM, new_stop_flag=lambda: Flag(rests), monotonic_s=lambda: 100.0)


def run(table: Table, rests: int) -> None:
    """Let the thread run to its end, which the flag brings."""
    heartbeat = Heartbeat(table, Source(), runtime=runtime(rests))
    heartbeat.start()
    running = heartbeat._running
    assert running is not None
    running.result(10)


def test_it_writes_every_reason_and_partition() -> None:
    table = Table()
    run(table, 3)
    assert len(table.beats) == 3
    state, reasons, partitions = table.beats[0]
    assert state == "waiting"
    assert reasons == ["the loop has not turned for 70 s", "the database is unavailable", "Kafka: all brokers are down"]
    assert partitions == [
        {"topic": "raws", "partition": 3, "state": "stalled", "position": 7, "lag": 2, "detail": "a gap"}
    ]
    assert table.calls == ["remove after 600 s", "leave"]


def test_it_wakes_others_once_after_what_was_committed() -> None:
    table = Table()
    run(table, 4)
    assert table.wakes == [True, True, False, False]
    table = Table(failures=1)
    run(table, 3)
    assert table.wakes == [True, False]


def test_it_looks_now_and_then_at_what_others_have_written() -> None:
    looks = []
    heartbeat = Heartbeat(Table(), Source(), runtime=runtime(3), look=lambda: looks.append(1))
    heartbeat.start()
    assert heartbeat._running is not None
    heartbeat._running.result(10)
    assert looks == [1]


def test_a_session_that_fails_is_opened_again() -> None:
    table = Table(failures=2)
    run(table, 3)
    assert len(table.beats) == 1
    assert table.calls == ["close", "close", "remove after 600 s", "leave"]


def test_it_does_not_start_after_its_end() -> None:
    table = Table()
    heartbeat = Heartbeat(table, Source(), runtime=runtime(1))
    heartbeat.close(1)
    heartbeat.start()
    assert (table.beats, table.calls) == ([], [])
