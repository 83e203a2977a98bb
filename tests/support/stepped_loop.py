"""The real loop, writer and reporter on a stepped runtime, a scripted source and a store in memory."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TypeVar

from prometheus_client import CollectorRegistry

from consumer.config import Settings
from consumer.domain import Instrument
from consumer.errors import VisitConsumerError
from consumer.events import Decoder, encode
from consumer.events.visit_defined import Announce
from consumer.metrics import Metrics
from consumer.model import Message, PartitionId, RawIngested
from consumer.process import ChildDiedError
from consumer.service.batch import Batch
from consumer.service.batch_builder import BatchBuilder
from consumer.service.loop import ConsumerLoop
from consumer.service.reporter import Reporter
from consumer.service.trial_child import TrialRunner
from consumer.service.trials import Trial, TrialResult
from consumer.service.writer import Writer, Written
from tests.support.exposures import exposure
from tests.support.nights import rules_of
from tests.support.service import settings_for
from tests.support.stepped import START_S, MemoryStore, ScriptedSource, SteppedExecutor, SteppedRuntime

Answer = TypeVar("Answer")

TOPIC = "t"
RULES = rules_of(
    {
        "instrument": "LSSTComCam",
        "camera": "lsstcomcam",
        "group_exposures": "one-to-one",
        "group_id": "lsst",
        "padding": 0,
        "merge_exposures": False,
    }
)
SESSION_TIMEOUT_S = 10.0
REVOCATION_WAIT_S = SESSION_TIMEOUT_S / 2
SHUTDOWN_TIMEOUT_S = 8.0
STALLED_AFTER_S = 30.0


def partition(number: int) -> PartitionId:
    """Return a partition of the topic."""
    return PartitionId(TOPIC, number)


def good(number: int) -> bytes:
    """Encode a raw of an exposure that saw no sky."""
    return encode(RawIngested(exposure=exposure(number, can_see_sky=False), detector=0))


@cache
def _settings(max_messages: int) -> Settings:
    return Settings(
        **settings_for(
            "nowhere:1",
            "host=127.0.0.1",
            batch={"max_messages": max_messages, "max_wait_s": 0.1, "close_interval_s": 1.0},
            kafka={"session_timeout_s": SESSION_TIMEOUT_S},
            shutdown={"timeout_s": SHUTDOWN_TIMEOUT_S},
            breaker={"min_messages": 10, "max_bad_fraction": 0.5, "hold_s": 2.0},
            http={"stalled_after_s": STALLED_AFTER_S},
        )
    )


@cache
def _metrics_of_children() -> Metrics:
    return Metrics(CollectorRegistry())


class _AtOnce:
    """A thread that has always worked off its calls."""

    def submit(self, call: Callable[[], Answer]) -> Future[Answer]:
        future: Future[Answer] = Future()
        try:
            future.set_result(call())
        except VisitConsumerError as error:
            future.set_exception(error)
        return future

    def end(self) -> None:
        """Do nothing: there is no thread."""


@dataclass(slots=True)
class ScriptedTrials:
    """The child process of a loop, without a process: it dies of the messages that are named."""

    runner: TrialRunner
    deaths: dict[bytes, int] = field(default_factory=dict)
    """Signals by the value of the message that makes a child die."""
    asked: list[Trial] = field(default_factory=list)

    def ask(self, trial: Trial) -> TrialResult:
        """Run the trial, or die."""
        self.asked.append(trial)
        for message in trial.messages:
            if message.value in self.deaths:
                raise ChildDiedError(self.deaths[message.value])
        return self.runner.run(trial)


@dataclass(slots=True)
class SteppedLoop:
    """One replica whose every step the test takes."""

    n_partitions: int = 2
    max_messages: int = 10_000
    rules: Mapping[str, Instrument] = field(default_factory=lambda: RULES)
    announce: Announce | None = None
    make_metrics: Callable[[], Metrics] | None = None
    store: MemoryStore = field(default_factory=MemoryStore)
    time: SteppedRuntime = field(default_factory=SteppedRuntime)
    make_source: Callable[[dict[PartitionId, list[Message]]], ScriptedSource] = ScriptedSource
    prepared: list[str] = field(default_factory=list)
    given: list[Batch] = field(default_factory=list)
    """The batches and ticks that the loop gave to the writer."""
    source: ScriptedSource = field(init=False)
    metrics: Metrics = field(init=False)
    reporter: Reporter = field(init=False)
    builder: BatchBuilder = field(init=False)
    trials: ScriptedTrials = field(init=False)
    loop: ConsumerLoop = field(init=False)

    def __post_init__(self) -> None:
        """Wire the parts as the application does."""
        runtime = self.time.runtime
        self.source = self.make_source({partition(number): [] for number in range(self.n_partitions)})
        if self.make_metrics is None:
            self.metrics = Metrics(CollectorRegistry(), instruments=self.rules)
        else:
            self.metrics = self.make_metrics()
        self.reporter = Reporter(self.metrics, runtime, stalled_after_s=STALLED_AFTER_S)
        self.builder = self._new_builder()
        writer = Writer(
            self.store, self.store, self.rules, self.metrics, announce=self.announce, retry_max_s=1.0, runtime=runtime
        )
        write = writer.write

        def noted(batch: Batch) -> Future[list[Written]]:
            self.given.append(batch)
            return write(batch)

        writer.write = noted  # type: ignore[method-assign] # a spy
        child = Writer(
            self.store,
            self.store,
            self.rules,
            _metrics_of_children(),
            announce=self.announce,
            retry_max_s=1.0,
            runtime=replace(runtime, start_worker=lambda _: _AtOnce()),
        )
        self.trials = ScriptedTrials(TrialRunner(self._new_builder, child))
        self.loop = ConsumerLoop(
            self.source.connect,
            writer,
            self.builder,
            self.reporter,
            _settings(self.max_messages),
            runtime=runtime,
            prepare=lambda: self.prepared.append("schema"),
            trial_child=self.trials,
        )

    def _new_builder(self) -> BatchBuilder:
        return BatchBuilder(Decoder(), self.rules, max_clock_skew_ms=60_000)

    @property
    def writer_thread(self) -> SteppedExecutor:
        """The writer's calls."""
        return self.time.executors["writer"]

    def append(self, number: int, *values: bytes) -> None:
        """Append messages to a partition's log, stamped with the present time."""
        log = self.source.logs[partition(number)]
        for value in values:
            log.append(Message(partition(number), len(log), round((START_S + self.time.now_s) * 1000), None, value))

    def turn(self, times: int = 1, *, writes: bool = True, step_s: float = 0.1) -> None:
        """Turn the loop, and let every thread work off its calls after each turn, the writer only where it `writes`."""
        for _ in range(times):
            self.loop.turn()
            self.time.advance(step_s)
            for executor in self.time.executors.values():
                while executor.calls and (writes or executor.name != "writer"):
                    executor.run()

    def join(self, *numbers: int) -> None:
        """Let the group assign partitions, and turn until they are read and nothing is left to do."""
        self.loop.assigned([partition(number) for number in numbers])
        self.turn(10)
        assert set(self.source.next_offsets) >= {partition(number) for number in numbers}

    def stored(self, number: int) -> tuple[int, int | None]:
        """Return the epoch and the next offset of a partition, as stored."""
        (found,) = (i for log, i in self.store.state.ids.items() if log.partition == partition(number))
        position = self.store.state.positions[found]
        return position.epoch, position.next_offset

    def fence(self, number: int) -> None:
        """Let another replica lease a partition."""
        (log,) = (log for log in self.store.state.ids if log.partition == partition(number))
        self.store.claim(log)

    def exposures(self) -> set[int]:
        """Return the numbers of the stored exposures."""
        return {key.id % 100_000 for key in self.store.state.exposures}

    def value(self, name: str, **labels: str) -> float | None:
        """Return a metric's value."""
        return self.metrics.registry.get_sample_value(f"visit_consumer_{name}", labels)
