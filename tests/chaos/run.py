"""One run: a producer, a schedule of actions, the drain, the oracle, and a report of it all."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.chaos.actions import ACTIONS, Dice, Step
from tests.chaos.oracle import Outcome, judge
from tests.chaos.stage import BROKERS, FEWEST, Stage, write_stream
from tests.chaos.stream import Stream
from tests.support.children import ServerError

_LAST = 20


@dataclass(slots=True)
class Report:
    """What a run did, and what came of it."""

    seed: int
    bad: int = 0
    """Messages that are no events."""
    actions: Counter[str] = field(default_factory=Counter)
    last: deque[str] = field(default_factory=lambda: deque(maxlen=_LAST))
    """The last actions, in words."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Of each part of the run."""
    outcome: Outcome = field(default_factory=Outcome)

    @property
    def lines(self) -> Iterator[str]:
        """The report as text; where all is as promised, without the last actions."""
        out = self.outcome
        yield f"seed {self.seed}: {self.actions.total()} actions"
        yield from (f"  {self.actions[action.name]:4} {action.name}" for action in ACTIONS)
        yield f"  {out.messages} messages, {out.visits} visits, {out.dead_letters} dead letters"
        yield f"  {out.announcements} announcements"
        yield "  " + ", ".join(f"{part} {seconds:.0f} s" for part, seconds in self.seconds.items())
        if out.complaints:
            yield from ("the last actions:", *(f"  {line}" for line in self.last), "complaints:", *out.complaints)
        yield f"seed {self.seed}: {out.lost} rows lost, {out.doubled} doubled, " + (
            "NOT as promised" if out.complaints else "all as promised"
        )

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Note how long a part takes."""
        begin_s = time.monotonic()
        try:
            yield
        finally:
            self.seconds[part] = time.monotonic() - begin_s


def run(stage: Stage, steps: Iterable[Step], *, seconds: float, write_line: Callable[[str], None] = print) -> Report:
    """Let things happen until the steps or the time are over, and judge.

    Parameters
    ----------
    stage
        Set, with nothing running on it.
    steps
        See `tests.chaos.actions.schedule`.
    seconds
        No step is begun later.
    write_line
        Gets a line for each action as it is done.
    """
    report, stream, stopping = Report(stage.seed), Stream(stage.seed), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        try:
            producing = pool.submit(write_stream, stage.kafka.bootstrap, stream, stopping.wait)
            try:
                with report.timed("chaos"):
                    _act(stage, steps, seconds, report, write_line)
                stage.mend_all()
            finally:
                stage.mend(BROKERS)  # the producer's end waits for them
                stopping.set()
            with report.timed("drain"):
                producing.result()
                stage.drain()
            with report.timed("oracle"):
                report.bad = stream.bad
                report.outcome = judge(stage, stream.bad)
        except (AssertionError, ServerError, TimeoutError) as error:
            report.outcome.complaints.append(f"{type(error).__name__}: {error}")
    return report


def _act(
    stage: Stage, steps: Iterable[Step], seconds: float, report: Report, write_line: Callable[[str], None]
) -> None:
    begin_s = time.monotonic()
    for slot in range(FEWEST):
        stage.start(slot)
    stage.wait_until(lambda: bool(stage.query("SELECT FROM visits.visit LIMIT 1")), "the first visit")
    for step in steps:
        stage.pause(step.pause_s)
        at_s = time.monotonic() - begin_s
        if at_s > seconds:
            return
        report.last.append(f"{at_s:7.1f} s  {step.action.name}")
        done = step.action.do(stage, Dice(step.seed))
        report.actions[step.action.name] += done is not None
        report.last[-1] += f": {done or 'nothing to do it to'}"
        write_line(report.last[-1])
