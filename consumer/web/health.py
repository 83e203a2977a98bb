"""What the service tells of itself: snapshots, which the port's threads may read at any time."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from consumer.model import PartitionId


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """An answer to a probe."""

    ok: bool
    reasons: tuple[str, ...] = ()
    """Why not, for an operator; no secrets, no addresses of other hosts' internals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionStatus:
    """Where one partition stands."""

    partition: PartitionId
    state: str
    """``reading``, ``paused`` or ``stalled``."""
    position: int | None
    """Next offset, as stored; None before it is known."""
    lag: int | None
    """Messages behind the log's end; None before it is known."""
    open_groups: int = 0
    detail: str = ""
    """Why it is not read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatus:
    """What the status page shows."""

    version: str
    state: str
    """One word: ``running``, ``waiting``, ``broken``, ``stopping``."""
    started_at: datetime
    """UTC."""
    partitions: tuple[PartitionStatus, ...] = ()
    last_visit: str | None = None
    """The visit that was written last, in words."""
    last_visit_at: datetime | None = None
    """UTC."""
    kafka: str | None = None
    """What the Kafka client complained of since the last message; None when of nothing."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """What happened since the start, by what it is: events, visits, dead letters."""


class HealthSource(Protocol):
    """What the port asks the service. Called from other threads than the loop's, so each answer is a snapshot.

    None of the methods may wait for the loop, the broker or the database.
    """

    def alive(self) -> Health:
        """Whether the loop has turned recently: no means that the process should be ended."""
        ...

    def ready(self) -> Health:
        """Whether the group is joined and the database answers."""
        ...

    def status(self) -> ServiceStatus:
        """Return what the status page shows."""
        ...
