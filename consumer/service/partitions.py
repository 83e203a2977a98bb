"""The life of one partition in one replica, as a table of states; pure: times are arguments.

===========  =======================================================================  =========================
state        meaning                                                                  leads to
===========  =======================================================================  =========================
(unknown)    another replica's, or of none                                            ASSIGNED
`ASSIGNED`   the consumer group assigned it; its lease is to be acquired              CLAIMING
`CLAIMING`   PostgreSQL is being asked for the lease, or whether it is still ours     READING REFUSED TRIPPED
`READING`    leased; its messages go into batches                                     CLAIMING TRIPPED
`REFUSED`    cannot be read (a gap, another owner, silent brokers); asked for again   CLAIMING
`TRIPPED`    the circuit breaker stopped it; asked for again                          CLAIMING
===========  =======================================================================  =========================

Every state leads back to ASSIGNED when its log turns out to be another one (`RELEASE`), and out of the table when the
group takes the partition away.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from consumer.model import PartitionId


class PartitionState(StrEnum):
    """Where a partition of this replica stands."""

    ASSIGNED = "assigned"
    CLAIMING = "claiming"
    READING = "reading"
    REFUSED = "refused"
    TRIPPED = "tripped"


class PartitionInput(StrEnum):
    """What happens to a partition."""

    ASSIGN = "assign"
    """The group assigns it, perhaps once more."""
    ASK = "ask"
    """Its lease is asked for."""
    LEASE = "lease"
    """The lease was acquired, or is still ours."""
    REFUSE = "refuse"
    """It cannot be leased now."""
    TRIP = "trip"
    """The circuit breaker stops it."""
    FENCE = "fence"
    """A batch of it was fenced, or its row was changed by another process."""
    RELEASE = "release"
    """What was read cannot go on: the log was truncated or recreated, or what was gathered is dropped."""


_S, _I = PartitionState, PartitionInput
_ALWAYS = {_I.ASSIGN: _S.ASSIGNED, _I.RELEASE: _S.ASSIGNED}
TRANSITIONS: Mapping[PartitionState, Mapping[PartitionInput, PartitionState]] = {
    _S.ASSIGNED: _ALWAYS | {_I.ASK: _S.CLAIMING},
    _S.CLAIMING: _ALWAYS | {_I.LEASE: _S.READING, _I.REFUSE: _S.REFUSED, _I.TRIP: _S.TRIPPED},
    _S.READING: _ALWAYS | {_I.FENCE: _S.CLAIMING, _I.TRIP: _S.TRIPPED},
    _S.REFUSED: _ALWAYS | {_I.ASK: _S.CLAIMING},
    _S.TRIPPED: _ALWAYS | {_I.ASK: _S.CLAIMING},
}
"""What may happen in which state, and where it leads. Anything else is an error of this program."""


class IllegalTransitionError(LookupError):
    """Something happened to a partition that cannot happen in its state; the state stays as it was."""


@dataclass(slots=True)
class _Partition:
    state: PartitionState
    ask_at_s: float
    """When its lease is asked for next."""
    detail: str | None = None
    """Why it was refused last; kept until there is another answer, so that readiness does not flicker."""
    tripped: bool = False


class Partitions:
    """The partitions that the consumer group assigned to this replica. Times are of a monotonic clock, seconds."""

    def __init__(self) -> None:
        self._known: dict[PartitionId, _Partition] = {}

    @property
    def assigned(self) -> frozenset[PartitionId]:
        """All of them, whatever their state."""
        return frozenset(self._known)

    @property
    def refused(self) -> dict[PartitionId, str]:
        """Those that cannot be read, and why."""
        return {partition: each.detail for partition, each in self._known.items() if each.detail is not None}

    @property
    def tripped(self) -> frozenset[PartitionId]:
        """Those that the circuit breaker stopped."""
        return frozenset(partition for partition, each in self._known.items() if each.tripped)

    def state(self, partition: PartitionId) -> PartitionState | None:
        """Return where a partition stands; None where it is not assigned to this replica."""
        known = self._known.get(partition)
        return None if known is None else known.state

    def is_claiming(self, partition: PartitionId) -> bool:
        """Return whether an answer about the lease is awaited; safe to call from any thread."""
        return self.state(partition) is PartitionState.CLAIMING

    def assign(self, partitions: Collection[PartitionId], now_s: float) -> None:
        """Add partitions that the group assigned; their leases are due at once."""
        for partition in partitions:
            known = self._known.setdefault(partition, _Partition(PartitionState.ASSIGNED, now_s))
            self._step(known, PartitionInput.ASSIGN)
            known.ask_at_s = now_s

    def remove(self, partitions: Collection[PartitionId]) -> None:
        """Forget partitions that went to another replica."""
        for partition in partitions:
            self._known.pop(partition, None)

    def ask_due(self, now_s: float) -> set[PartitionId]:
        """Return the partitions whose leases are to be asked for now, and note that they are being asked for."""
        due = set()
        for partition, known in self._known.items():
            if PartitionInput.ASK in TRANSITIONS[known.state] and known.ask_at_s <= now_s:
                self._step(known, PartitionInput.ASK)
                due.add(partition)
        return due

    def lease(self, partition: PartitionId) -> bool:
        """Note an acquired lease; False, and nothing changes, when it is not awaited any more."""
        return self._answer(partition, PartitionInput.LEASE, None)

    def refuse(self, partition: PartitionId, detail: str, ask_at_s: float, *, breaker: bool = False) -> bool:
        """Note that a lease cannot be had, and when to ask again; False when no answer is awaited any more."""
        if not self._answer(partition, PartitionInput.TRIP if breaker else PartitionInput.REFUSE, detail):
            return False
        self._known[partition].ask_at_s = ask_at_s
        return True

    def trip(self, partition: PartitionId, detail: str, ask_at_s: float) -> None:
        """Note that the circuit breaker stops a partition that is being read, and when to ask for it again."""
        known = self._known[partition]
        self._step(known, PartitionInput.TRIP)
        known.detail, known.tripped, known.ask_at_s = detail, True, ask_at_s

    def fence(self, partitions: Collection[PartitionId]) -> set[PartitionId]:
        """Return those of the partitions that are being read, whose leases are checked from here on."""
        fenced = {p for p in partitions if self.state(p) is PartitionState.READING}
        for partition in fenced:
            self._step(self._known[partition], PartitionInput.FENCE)
        return fenced

    def release(self, partitions: Collection[PartitionId], now_s: float) -> None:
        """Let the leases of partitions be acquired again, at once; those that are not assigned here are passed over."""
        for partition in partitions:
            if (known := self._known.get(partition)) is not None:
                self._step(known, PartitionInput.RELEASE)
                known.ask_at_s = now_s

    def _answer(self, partition: PartitionId, answer: PartitionInput, detail: str | None) -> bool:
        known = self._known.get(partition)
        if known is None or known.state is not PartitionState.CLAIMING:
            return False
        self._step(known, answer)
        known.detail, known.tripped = detail, answer is PartitionInput.TRIP
        return True

    @staticmethod
    def _step(known: _Partition, happened: PartitionInput) -> None:
        try:
            known.state = TRANSITIONS[known.state][happened]
        except KeyError:
            raise IllegalTransitionError(f"{happened} cannot happen to a partition that is {known.state}") from None
