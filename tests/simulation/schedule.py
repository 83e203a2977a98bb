"""One schedule: a seed decides what happens next; what must hold is looked at after each step, and at the end."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast
from unittest.mock import patch

from consumer.domain import ExposureKey, Instrument, KnownExposure
from consumer.errors import DataRefusedError, TransientError
from consumer.events.visit_defined import RemovedVisit
from consumer.metrics import Metrics
from consumer.model import LogPartition, PartitionId, VisitRecords
from consumer.service import apply_batch as applying
from consumer.service import writer
from consumer.service.batch import Batch, BatchResult
from tests.simulation.instruments import RULES, Exposures
from tests.simulation.relay import Relay, Topic
from tests.simulation.watch import BrokenPromiseError, Watch, in_order, none_is_left_out
from tests.simulation.world import Brokers, Clock, Member, NotingTables, SharedStore, SharedTime, StoreOf
from tests.support.exposures import DAY_OBS
from tests.support.stepped_loop import SteppedLoop, partition

N_PARTITIONS = 3
MOST_REPLICAS = 3
_PARTITIONS = [partition(number) for number in range(N_PARTITIONS)]
_ROUNDS_TO_REST = 400


@dataclass(slots=True)
class _Replica(SteppedLoop):
    name: str = ""
    relay: Relay = field(init=False)


class _Unmeasured:
    """Metrics that nobody looks at: making and setting real ones would take half of the time."""

    def __getattr__(self, name: str) -> "_Unmeasured":
        return self

    def __call__(self, *_: object, **__: object) -> "_Unmeasured":
        return self


def _announce(records: VisitRecords | RemovedVisit, revision: int) -> bytes:
    del records
    return b"%d" % revision


def _refuses(known: KnownExposure) -> Exception | None:
    """Refuse some exposures, as a database does whose columns are too narrow for them."""
    if known.record.id % 11 == 0:
        return DataRefusedError(f"exposure {known.record.id} does not fit", sqlstate="22001")
    return None


def _noting(tables: NotingTables, batch: Batch, rules: Mapping[str, Instrument], **options: object) -> BatchResult:
    tables.batch = batch
    return applying.apply_batch(tables, batch, rules, **options)  # type: ignore[arg-type] # as they came


@dataclass(slots=True)
class Schedule:
    """A world, and what happens in it.

    Parameters
    ----------
    seed
        Decides everything.
    """

    seed: int
    steps: list[str] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)
    store: SharedStore = field(default_factory=SharedStore)
    brokers: Brokers = field(init=False)
    replicas: list[_Replica] = field(default_factory=list)
    topic: Topic = field(default_factory=Topic)
    watch: Watch = field(default_factory=Watch)
    exposures: Exposures = field(init=False)
    _random: random.Random = field(init=False)
    _numbers: int = 0
    _looked: int = 0
    """Entries of the journal that were looked at; and announcements."""
    _heard: int = 0

    def __post_init__(self) -> None:
        """Begin with two replicas that share the partitions."""
        self._random = random.Random(self.seed)  # noqa: S311 -- not for secrets
        self.exposures = Exposures(self._random)
        self.store.refuses = _refuses
        self.brokers = Brokers(self.clock, {each: [] for each in _PARTITIONS})
        for _ in range(2):
            self._join()

    def run(self, n_steps: int) -> None:
        """Take so many steps, then let everything come to rest.

        Raises
        ------
        BrokenPromiseError
            When something that must hold does not.
        """
        actions: list[tuple[int, Callable[[], str]]] = [
            (40, self._turn),
            (40, self._call),
            (15, self._produce),
            (10, self._pass_time),
            (20, self._relay),
            (4, self._rebalance),
            (2, self._expire),
            (1, self._crash),
            (2, self._lose_answer),
            (2, self._fail),
            (1, self._elect),
            (2, self._decide),
        ]
        weights = [weight for weight, _ in actions]
        with patch.object(writer, "apply_batch", _noting):
            try:
                for _ in range(n_steps):
                    ((_, action),) = self._random.choices(actions, weights)
                    self.steps.append(action())
                    self._check()
                self._rest()
            except BrokenPromiseError as error:
                last = "\n".join(self.steps[-60:])
                raise BrokenPromiseError(f"seed {self.seed}: {error}\n{last}") from error
            finally:
                for each in self.replicas:
                    each.relay.crash()

    def _join(self) -> _Replica:
        name, time = f"r{self._numbers}", SharedTime(self.clock)
        session = StoreOf(self.store, name)
        made = _Replica(
            n_partitions=N_PARTITIONS,
            max_messages=self._random.choice((2, 5, 1000)),
            rules=RULES,
            announce=_announce,
            make_metrics=lambda: cast("Metrics", _Unmeasured()),
            store=session,  # type: ignore[arg-type] # as one session has it
            time=time,
            make_source=lambda _: Member(self.brokers),
            name=name,
        )
        made.relay = Relay(self.store, self.topic, name, metrics=made.metrics, runtime=time.runtime, draw=self._random)
        self._numbers += 1
        session.member = self._member(made)
        self.replicas.append(made)
        for each in _PARTITIONS:
            if each not in self.brokers.owners or self._random.random() < 1 / len(self.replicas):
                self.brokers.move(each, self._member(made))
        return made

    @staticmethod
    def _member(replica: _Replica) -> Member:
        assert isinstance(replica.source, Member)
        return replica.source

    def _one(self) -> _Replica:
        return self._random.choice(self.replicas)

    def _turn(self) -> str:
        one = self._one()
        for executor in one.time.executors.values():
            executor.hangs = self._random.random() < 0.5
        one.loop.turn()
        return f"turn {one.name}"

    def _call(self) -> str:
        one = self._one()
        waiting = [each for each in one.time.executors.values() if each.calls]
        if not waiting:
            return "nothing to call"
        executor = self._random.choice(waiting)
        executor.run()
        return f"call {one.name} {executor.name}"

    def _produce(self) -> str:
        where = self._random.choice(_PARTITIONS)
        for _ in range(self._random.randint(1, 4)):
            self._numbers += 1
            bad = self._random.random() < 0.03
            self.brokers.append(where, b"bad %d" % self._numbers if bad else self.exposures.draw())
        return f"produce {where.partition}"

    def _relay(self) -> str:
        one = self._one()
        one.relay.step()
        return f"relay {one.name}"

    def _pass_time(self) -> str:
        seconds = self._random.choice((0.01, 0.1, 0.5, 2.0, 6.0, 15.0))
        self.clock.now_s += seconds
        return f"pass {seconds} s"

    def _rebalance(self) -> str:
        if len(self.replicas) < MOST_REPLICAS and self._random.random() < 0.3:
            return f"join {self._join().name}"
        where, heir = self._random.choice(_PARTITIONS), self._one()
        self.brokers.move(where, self._member(heir))
        return f"move {where.partition} to {heir.name}"

    def _expire(self) -> str:
        one = self._one()
        others = [self._member(each) for each in self.replicas if each is not one]
        if not others:
            return "nothing to expire"
        self.brokers.expire(self._member(one), others)
        return f"expire {one.name}"

    def _crash(self) -> str:
        one = self._one()
        self.replicas.remove(one)
        one.relay.crash()
        if not self.replicas:
            self._join()
        self.brokers.expire(self._member(one), [self._member(each) for each in self.replicas])
        return f"crash {one.name}"

    def _lose_answer(self) -> str:
        self.store.lost_answers.append(TransientError("the answer was lost"))
        return "lose the next answer"

    def _fail(self) -> str:
        self.store.faults.append(TransientError("no connection"))
        return "fail the next transaction"

    def _elect(self) -> str:
        where = self._random.choice(_PARTITIONS)
        position = self.store.position(where)
        log = self.brokers.logs[where]
        # After an operator's decision, what came before is asked again only once something was committed.
        if not log or position is None or position.leader_epoch is None:
            return "nothing to elect"
        self.brokers.elect(where, self._random.randrange(len(log)))
        return f"elect {where.partition} with {len(log)}"

    def _decide(self) -> str:
        """Accept the gap of a partition that is refused, as an operator does."""
        for replica in self.replicas:
            for where, detail in replica.loop._leases.partitions.refused.items():
                if "Decide with" in detail:
                    self._accept_gap(where)
                    return f"accept the gap of {where.partition}"
        return "nothing to decide"

    def _accept_gap(self, where: PartitionId) -> None:
        position = self.store.position(where)
        assert position is not None
        assert position.next_offset is not None
        end = min(position.next_offset, len(self.brokers.logs[where]))
        first = None
        if position.leader_epoch is not None:
            first = self.brokers.divergence(where, position.leader_epoch, end)
        self.store.set_position(LogPartition("cluster", "first", where), end if first is None else first)

    def _check(self) -> None:
        for each in self.store.journal[self._looked :]:
            self.watch.saw(each)
        self._looked = len(self.store.journal)
        in_order(self.store.state, self.topic.arrived, self._heard)
        self._heard = len(self.topic.arrived)

    def _rest(self) -> None:
        """Let no more go wrong, until all is read, closed and announced."""
        self.store.faults.clear()
        self.store.lost_answers.clear()
        for where in _PARTITIONS:
            # That a leader was elected just before reading began is seen with the next message
            position = self.store.position(where)
            while len(self.brokers.logs[where]) <= ((position and position.next_offset) or 0):
                self.brokers.append(where, self.exposures.draw())
        for number in range(_ROUNDS_TO_REST):
            for one in self.replicas:
                for executor in one.time.executors.values():
                    executor.hangs = False
                one.loop.turn()
                for executor in one.time.executors.values():
                    while executor.calls:
                        executor.run()
                one.relay.step()
            self.clock.now_s += 2.0
            if number % 20 == 19:
                self._decide()
            self._check()
            if all(self._read(each) for each in _PARTITIONS) and not (
                self.store.state.groups or self.store.state.unsent
            ):
                self._compare()
                return
        raise BrokenPromiseError(f"after {_ROUNDS_TO_REST} rounds not all is read, closed and announced")

    def _read(self, where: PartitionId) -> bool:
        position, log = self.store.position(where), self.brokers.logs[where]
        if position is None or position.next_offset != len(log):
            return not log and position is not None
        epoch = position.leader_epoch
        return epoch is None or self.brokers.divergence(where, epoch, len(log)) is None

    def _compare(self) -> None:
        """Each message that the logs have was read, and is an exposure or a dead letter."""
        rows = self.store.state
        letters = {each.message.value for each, _ in rows.message_letters.values() if each.message is not None}
        for where in _PARTITIONS:
            for message in self.brokers.logs[where]:
                instrument, number = self.exposures.names.get(message.value or b"", ("", 0))
                is_stored = ExposureKey(instrument, DAY_OBS * 100_000 + number) in rows.exposures
                was_read = self.watch.read.get((where, message.offset)) == message
                if not was_read or not (is_stored or message.value in letters):
                    raise BrokenPromiseError(f"message {message.offset} of partition {where.partition} is lost")
        none_is_left_out(rows, self.topic.arrived)
        self.watch.borders_do_not_show(rows)
