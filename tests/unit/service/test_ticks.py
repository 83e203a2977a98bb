"""When ticks are due: deadlines, confirmed ends, bounded closings."""

from consumer.domain.closing import Waiting
from consumer.events import Decoder
from consumer.model import CloseReason, Message
from consumer.service.batch import MOST_GROUPS_OF_A_TICK, Batch, BatchResult
from consumer.service.batch_builder import BatchBuilder
from consumer.service.leases import PartitionLease
from consumer.service.log_watch import EndWatch
from consumer.service.ticks import TickScheduler
from tests.support.stepped import ScriptedSource, SteppedRuntime
from tests.support.stepped_loop import RULES, good, partition

A, B = partition(0), partition(1)
ID_A, ID_B = 10, 11
NOW_MS = 1_800_000_000_000


class Ticking:
    """A scheduler over two empty partitions that are read to their ends."""

    def __init__(self) -> None:
        self.time = SteppedRuntime()
        self.source = ScriptedSource({A: [], B: []})
        self.idle = 0
        self.builder = BatchBuilder(Decoder(), RULES, max_clock_skew_ms=60_000)
        for number, each in ((ID_A, A), (ID_B, B)):
            self.builder.add_partition(PartitionLease(each, number, 1, 0, 0, 0))
        self.builder.put([], {A: 0, B: 0}, NOW_MS)
        ends = EndWatch(self.source, self.time.runtime)
        self.ticks = TickScheduler(self.builder, ends, interval_s=1.0, idle=self._idle)

    def _idle(self) -> None:
        self.idle += 1

    def ask(self, now_ms: int = NOW_MS) -> Batch | None:
        """Let a question be asked, answered, and its answer taken."""
        first = self.ticks.next(self.time.now_s, now_ms)
        assert first is None, "the brokers are asked first"
        calls = self.time.executors["ends"].calls
        while calls:
            calls.popleft()()
        return self.ticks.next(self.time.now_s, now_ms)

    def committed(self, tick: Batch, *, closed: int = 0, **due_ms: int) -> None:
        waiting = {ID_A if name == "a" else ID_B: Waiting(1, at_ms, 0) for name, at_ms in due_ms.items()}
        reasons = [("LSSTComCam", CloseReason.IDLE)] * closed
        self.ticks.committed(tick, BatchResult(waiting=waiting, closed=reasons))


def positions(tick: Batch | None) -> set[int]:
    return set() if tick is None else set(tick.stream_times_ms)


def test_what_is_not_known_yet_may_be_due() -> None:
    one = Ticking()
    tick = one.ask()
    assert positions(tick) == {ID_A, ID_B}
    assert tick is not None
    assert set(tick.stream_times_ms.values()) == {NOW_MS}
    assert one.idle == 1


def test_a_tick_is_due_when_the_earliest_group_of_a_position_is() -> None:
    one = Ticking()
    tick = one.ask()
    assert tick is not None
    one.committed(tick, a=NOW_MS + 5_000)
    one.time.advance(1.0)
    assert one.ask(NOW_MS + 4_999) is None
    one.time.advance(1.0)
    assert positions(one.ask(NOW_MS + 5_000)) == {ID_A}
    one.ticks.forget(ID_B)
    one.time.advance(1.0)
    assert positions(one.ask(NOW_MS + 4_000)) == {ID_B}


def test_ticks_are_an_interval_apart_but_for_one_that_closed_as_many_groups_as_it_may() -> None:
    one = Ticking()
    tick = one.ask()
    assert tick is not None
    one.committed(tick, closed=MOST_GROUPS_OF_A_TICK - 1, a=NOW_MS)
    assert one.ask() is None, "an interval later"
    one.committed(tick, closed=MOST_GROUPS_OF_A_TICK, a=NOW_MS)
    assert positions(one.ask()) == {ID_A}


def test_a_partition_that_moved_since_the_brokers_were_asked_is_left_out() -> None:
    one = Ticking()
    assert one.ticks.next(one.time.now_s, NOW_MS) is None
    one.builder.put([Message(A, 0, NOW_MS, None, good(1))], {}, NOW_MS)
    one.time.executors["ends"].run()
    assert positions(one.ticks.next(one.time.now_s, NOW_MS)) == {ID_B}


def test_a_partition_whose_log_goes_on_at_the_brokers_is_left_out() -> None:
    one = Ticking()
    one.source.logs[A].append(Message(A, 0, NOW_MS, None, good(1)))
    assert positions(one.ask()) == {ID_B}
    one.source.silent = {B}
    one.time.advance(1.0)
    assert one.ask() is None


def test_gathered_messages_are_no_idleness() -> None:
    one = Ticking()
    one.builder.put([Message(A, 0, NOW_MS, None, good(1))], {}, NOW_MS)
    assert positions(one.ask()) == {ID_B}
    assert one.idle == 0
