"""One schedule: a seed decides what happens next; what must hold is looked at after each step, and at the end."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from consumer.errors import TransientError
from consumer.model import LogPartition, PartitionId
from tests.simulation.world import Brokers, Clock, Member, SharedStore, SharedTime
from tests.support.stepped_loop import SteppedLoop, good, partition

N_PARTITIONS = 3
MOST_REPLICAS = 3
_PARTITIONS = [partition(number) for number in range(N_PARTITIONS)]
_ROUNDS_TO_REST = 400


class BrokenPromiseError(AssertionError):
    """What must hold does not; the message says what, and after which steps."""


@dataclass(slots=True)
class _Replica(SteppedLoop):
    name: str = ""


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
    _random: random.Random = field(init=False)
    _numbers: int = 0
    _values: dict[bytes, int] = field(default_factory=dict)
    """The numbers of all messages that were produced."""
    _seen: dict[PartitionId, int] = field(default_factory=dict)
    """Where each position stands, by the commits."""
    _commits: int = 0

    def __post_init__(self) -> None:
        """Begin with two replicas that share the partitions."""
        self._random = random.Random(self.seed)  # noqa: S311 -- not for secrets
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
            (4, self._rebalance),
            (2, self._expire),
            (1, self._crash),
            (2, self._lose_answer),
            (2, self._fail),
            (1, self._elect),
            (2, self._decide),
        ]
        weights = [weight for weight, _ in actions]
        for _ in range(n_steps):
            ((_, action),) = self._random.choices(actions, weights)
            self.steps.append(action())
            self._check()
        self._rest()

    def _join(self) -> _Replica:
        time = SharedTime(self.clock)
        made = _Replica(
            n_partitions=N_PARTITIONS,
            max_messages=self._random.choice((2, 5, 1000)),
            store=self.store,
            time=time,
            make_source=lambda _: Member(self.brokers),
            name=f"r{self._numbers}",
        )
        self._numbers += 1
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
            value = b"bad %d" % self._numbers if bad else good(self._numbers)
            self._values[value] = self._numbers
            self.brokers.append(where, value)
        return f"produce {where.partition}"

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
        """Each commit begins where the one before ended."""
        for each in self.store.commits[self._commits :]:
            if each.begin == each.end:
                self._seen[each.partition] = each.begin
            elif self._seen.get(each.partition, 0) != each.begin:
                stood = self._seen.get(each.partition, 0)
                raise self._broken(f"partition {each.partition.partition} stood at {stood}, and {each} was committed")
            self._seen[each.partition] = each.end
        self._commits = len(self.store.commits)

    def _rest(self) -> None:
        """Let no more go wrong, until all is read; then each message is stored, and nothing that never was."""
        self.store.faults.clear()
        self.store.lost_answers.clear()
        for number in range(_ROUNDS_TO_REST):
            for one in self.replicas:
                for executor in one.time.executors.values():
                    executor.hangs = False
                one.loop.turn()
                for executor in one.time.executors.values():
                    while executor.calls:
                        executor.run()
            self.clock.now_s += 0.5
            if number % 20 == 19:
                self._decide()
            self._check()
            if all(self._read(each) for each in _PARTITIONS):
                self._compare()
                return
        raise self._broken(f"after {_ROUNDS_TO_REST} rounds not all is read")

    def _read(self, where: PartitionId) -> bool:
        position, log = self.store.position(where), self.brokers.logs[where]
        if position is None or position.next_offset != len(log):
            return not log and position is not None
        epoch = position.leader_epoch
        return epoch is None or self.brokers.divergence(where, epoch, len(log)) is None

    def _compare(self) -> None:
        stored = {key.id % 100_000 for key in self.store.state.exposures}
        letters = {each.message.value for each in self.store.state.dead_letters if each.message is not None}
        for where in _PARTITIONS:
            for message in self.brokers.logs[where]:
                value = message.value or b""
                if not (value in letters if value.startswith(b"bad") else self._values[value] in stored):
                    raise self._broken(f"message {message.offset} of partition {where.partition} is lost")
        if letters - self._values.keys() or stored - set(self._values.values()):
            raise self._broken("rows of messages that never were")

    def _broken(self, what: str) -> BrokenPromiseError:
        last = "\n".join(self.steps[-60:])
        return BrokenPromiseError(f"seed {self.seed}: {what}\n{last}")
