"""Messages that may end the process that reads them, whatever native code does: they are tried in a child process.

A process that dies of a message reads it again after its restart, and dies again: one message would stop its partition
for good. So where a partition was leased twice and its position hardly moved, the next messages are tried first: a
child process decodes them and writes their transaction, fence included, while this process only waits. A child that
dies of several messages is asked again with half as many. Of one that is alone in hand, twice, this process makes a
dead letter (``poison``). A child that was ended from outside says nothing of its message. So does the death of this
process: kills, an out-of-memory killer or a drained node cost time, and no message.

What is only bad (a dead letter of another reason) is left to this process, where the circuit breaker judges it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, cast

from consumer.config import Settings
from consumer.errors import DeadLetterReason, FatalError, TransientError
from consumer.logs import get_logger
from consumer.model import Message, PartitionId
from consumer.process import NOT_ITS_FAULT, ChildDiedError, ChildProcess
from consumer.service.batch_builder import BatchBuilder
from consumer.service.lease_holder import LeaseHolder
from consumer.service.leases import PartitionLease
from consumer.service.pending import Pending
from consumer.service.runtime import Runtime
from consumer.service.writer import Writer, Written

_DEATHS_ALONE = 2
"""So often a child must die of one message: a single death may be chance."""


class Trial(NamedTuple):
    """What a child is asked: to write the messages of one partition that follow each other."""

    lease: PartitionLease
    """Its start is the first message's offset."""
    messages: Sequence[Message]
    now_ms: int


class TrialResult(NamedTuple):
    """What a child answers."""

    written: Sequence[Written] = ()
    bad: int = 0
    """So many messages, from the first, are no events; nothing was written."""
    moved: bool = False
    """Whether the fence failed."""
    unavailable: str | None = None
    """Why the database cannot be asked now."""
    fatal: str | None = None


class TrialChild(Protocol):
    """Runs trials; see `WarmTrialChild`."""

    def ask(self, trial: Trial) -> TrialResult:
        """Return what came of a trial, or raise `ChildDiedError`."""


class WarmTrialChild:
    """The child process, which gets the settings before its first trial.

    Parameters
    ----------
    settings
        Of the service.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._child = ChildProcess("consumer.service.trial_child")

    def ask(self, trial: Trial) -> TrialResult:
        """Return the child's answer, or raise `ChildDiedError`."""
        if not self._child.running:
            self._child.ask(self._settings)
        return cast("TrialResult", self._child.ask(trial))


@dataclass(slots=True)
class _FailedRange:
    """Messages of one partition among which is one that kills."""

    until: int
    """They end before this offset."""
    deaths_alone: int = 0
    """So often a child died that had only the first of them in hand."""


class Trials:
    """Tries the messages that the builder holds back; belongs to the loop.

    Parameters
    ----------
    child
        Asked in the writer's thread.
    builder, writer, leases
        The loop's parts.
    runtime
        Clocks of the machine.
    count
        Counts transactions that are committed.
    """

    def __init__(
        self,
        child: TrialChild,
        builder: BatchBuilder,
        writer: Writer,
        leases: LeaseHolder,
        runtime: Runtime,
        count: Callable[[Sequence[Written]], None],
    ) -> None:
        self._child = child
        self._builder = builder
        self._writer = writer
        self._leases = leases
        self._runtime = runtime
        self._count = count
        self._failed: dict[PartitionId, _FailedRange] = {}
        self._log = get_logger(__name__)

    def next(self, now_s: float) -> Pending | None:
        """Try the next messages of a partition that the builder holds back; None where it holds none."""
        untried = self._builder.untried()
        if untried is None:
            return None
        lease, messages = untried
        some = self._some(lease.partition, messages)
        asked = self._writer.ask(lambda: self._ask(Trial(lease, some, self._runtime.now_ms())))
        return Pending(
            asked,
            lambda: self._take(lease.partition, some, asked.result()),
            now_s,
            partitions=frozenset({lease.partition}),
        )

    def _some(self, partition: PartitionId, messages: Sequence[Message]) -> Sequence[Message]:
        """Return those that are tried together: all, or half of those among which one is known to kill."""
        failed = self._failed.get(partition)
        if failed is None or messages[0].offset >= failed.until:
            return messages
        count = sum(message.offset < failed.until for message in messages)
        return messages[: max(count // 2, 1)]

    def _ask(self, trial: Trial) -> TrialResult | ChildDiedError:
        """Ask the child, in the writer's thread, which retries what is transient."""
        try:
            result = self._child.ask(trial)
        except ChildDiedError as death:
            return death
        if result.unavailable is not None:
            raise TransientError(result.unavailable)
        if result.fatal is not None:
            raise FatalError(result.fatal)
        return result

    def _take(
        self,
        partition: PartitionId,
        messages: Sequence[Message],
        result: TrialResult | ChildDiedError,
    ) -> Pending | None:
        if partition not in self._builder.partitions:  # it went away while the child was asked
            return None
        if isinstance(result, ChildDiedError):
            self._died(partition, messages, result)
        elif result.bad:
            self._builder.trust(partition, messages[result.bad - 1].offset + 1)
        elif result.written or result.moved:
            self._count(result.written)
            return self._leases.read_again({partition})
        return None  # otherwise the schema registry does not answer: tried again

    def _died(self, partition: PartitionId, messages: Sequence[Message], death: ChildDiedError) -> None:
        first = messages[0].offset
        self._log.warning(
            "trial child process died",
            partition=partition,
            offset=first,
            messages=len(messages),
            detail=str(death),
        )
        if death.number in NOT_ITS_FAULT:
            return
        failed = self._failed.get(partition)
        if failed is None or len(messages) > 1 or first + 1 != failed.until:
            failed = self._failed[partition] = _FailedRange(messages[-1].offset + 1)
        failed.deaths_alone += len(messages) == 1
        if failed.deaths_alone == _DEATHS_ALONE:
            detail = f"a process that reads this message alone dies of it: {death}"
            self._builder.refuse(partition, DeadLetterReason.POISON, detail)
