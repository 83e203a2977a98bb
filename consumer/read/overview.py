"""The whole service on one screen: replicas, partitions, open groups, dead letters, announcements, tonight's visits."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple, cast

from consumer.domain.number_ranges import numbers_as_ranges
from consumer.postgres.connection import Database, Session

SILENT_AFTER_S = 1.5
"""Three heartbeats: a replica that was not heard of for so long does nothing."""
_SHOWN = 10
_ANNOUNCED_WITHIN_S = 60.0
"""An announcement that waits longer than this has a reason to."""


class Life(StrEnum):
    """What the heartbeat of a replica says."""

    ALIVE = "alive"
    FROZEN = "frozen"
    """Silent, though its session is open: it is stopped, or the network between is cut."""
    DEAD = "dead"
    """Silent, and its session has ended."""
    UNKNOWN = "unknown"
    """Silent, because the database takes no heartbeat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaStatus:
    """One replica, by its last heartbeat."""

    owner: str
    """Host and process id."""
    consumer_group: str
    version: str
    life: Life
    state: str
    """What it said of itself: ``running``, ``waiting`` or ``stopping``."""
    reasons: tuple[str, ...]
    partitions: tuple[Mapping[str, object], ...]
    """``topic, partition, state, position, lag, detail`` of each that it is assigned."""
    started_at: datetime
    silent_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionPosition:
    """One partition of the log that is read now."""

    consumer_group: str
    topic: str
    partition: int
    next_offset: int | None
    age_s: float
    """Since the stored position moved last."""
    stream_time: datetime | None
    """The largest message timestamp read, UTC."""
    breaker: str | None
    """Why the circuit breaker stopped it."""
    reader: str | None
    """The living replica that is assigned this partition."""
    state: str
    """``reading``, ``stalled``, ``stopped`` (by the circuit breaker) or ``unread``."""
    lag: int | None
    """Messages behind the log's end, as the reader knows; None without one."""
    detail: str


class WaitingGroup(NamedTuple):
    """One open group."""

    instrument: str
    group: str
    exposures: int
    """That have arrived."""
    waits_for: str
    """In words."""
    opened: datetime
    """Stream time, UTC."""
    closes: datetime
    """Stream time, UTC: by then it closes whatever arrives."""
    topic: str | None
    partition: int | None
    stream_time: datetime | None
    """Where the clock of that partition stands."""


class OpenDeadLetters(NamedTuple):
    """The open dead letters of one reason."""

    reason: str
    number: int
    last_at: datetime


class NightCount(NamedTuple):
    """One instrument and filter of the last night."""

    day_obs: int
    instrument: str
    physical_filter: str | None
    exposures: int
    visits: int


class LastVisit(NamedTuple):
    """One of the visits of the last night that were written last."""

    instrument: str
    visit: int
    name: str
    physical_filter: str | None
    complete: bool | None
    revision: int
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The service at one moment."""

    at: datetime
    """The server's clock, UTC."""
    problems: tuple[str, ...]
    """What an operator should know, in words; empty when all is well."""
    schema_version: int
    read_only: bool
    """Whether the database takes no rows."""
    replicas: tuple[ReplicaStatus, ...]
    partitions: tuple[PartitionPosition, ...]
    n_open_groups: int
    open_groups: tuple[WaitingGroup, ...]
    """The oldest."""
    dead_letters: tuple[OpenDeadLetters, ...]
    unsent_announcements: int
    oldest_unsent_s: float | None
    tonight: tuple[NightCount, ...]
    last_visits: tuple[LastVisit, ...]


def read_overview(database: Database) -> Overview:
    """Read how the whole service stands, at one moment.

    Parameters
    ----------
    database
        A session of the reader role.

    Raises
    ------
    TransientError
        When the database cannot be asked.
    FatalError
        When it has no tables, or the role may not read them.
    """
    with database.snapshot() as session:
        ((at, read_only, version, has_heartbeats, n_open, unsent, oldest_s),) = cast(
            "list[tuple[datetime, bool, int, bool, int, int, float | None]]", session.rows("status", "server")
        )
        replicas = _replicas(session, read_only=read_only) if has_heartbeats else ()
        partitions = tuple(_positions(session, replicas))
        letters = tuple(OpenDeadLetters(*row) for row in session.rows("status", "dead_letters"))  # type: ignore[arg-type]  # the columns' types
        groups = tuple(_waiting_group(row) for row in session.rows("status", "open_groups", {"limit": _SHOWN}))
        tonight = tuple(NightCount(*row) for row in session.rows("status", "tonight"))  # type: ignore[arg-type]  # the columns' types
        last = tuple(LastVisit(*row) for row in session.rows("status", "last_visits", {"limit": _SHOWN}))  # type: ignore[arg-type]  # the columns' types
    problems = [
        *(["the database is read only: nothing is stored"] if read_only else []),
        *([] if has_heartbeats else [f"schema version {version} has no heartbeats: run 'visit-consumer migrate'"]),
        *_replica_problems(replicas),
        *_partition_problems(partitions, replicas),
        *(f"{each.number} open dead letters: {each.reason}" for each in letters),
    ]
    if oldest_s is not None and oldest_s > _ANNOUNCED_WITHIN_S:
        problems.append(f"{unsent} announcements wait, the oldest for {oldest_s:.0f} s")
    return Overview(
        at=at.astimezone(UTC),
        problems=tuple(problems),
        schema_version=version,
        read_only=read_only,
        replicas=replicas,
        partitions=partitions,
        n_open_groups=n_open,
        open_groups=groups,
        dead_letters=letters,
        unsent_announcements=unsent,
        oldest_unsent_s=oldest_s,
        tonight=tonight,
        last_visits=last,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingGroups:
    """Open groups at one moment."""

    at: datetime
    """The server's clock, UTC."""
    total: int
    groups: tuple[WaitingGroup, ...]
    """The oldest."""


def read_waiting_groups(database: Database, *, limit: int) -> WaitingGroups:
    """Read the oldest open groups, at most `limit`, and how many there are; raises as `read_overview`."""
    with database.snapshot() as session:
        ((at, _, _, _, total, *_),) = cast(
            "list[tuple[datetime, bool, int, bool, int, int, float | None]]", session.rows("status", "server")
        )
        groups = tuple(_waiting_group(row) for row in session.rows("status", "open_groups", {"limit": limit}))
    return WaitingGroups(at=at, total=total, groups=groups)


def _replicas(session: Session, *, read_only: bool) -> tuple[ReplicaStatus, ...]:
    found = []
    for row in session.rows("status", "replicas"):
        owner, group, version, state, reasons, partitions, started_at, silent_s, connected = cast(
            "tuple[str, str, str, str, list[str], list[Mapping[str, object]], datetime, float, bool]", row
        )
        life = Life.ALIVE
        if silent_s > SILENT_AFTER_S:
            life = Life.UNKNOWN if read_only else Life.FROZEN if connected else Life.DEAD
        found.append(
            ReplicaStatus(
                owner=owner,
                consumer_group=group,
                version=version,
                life=life,
                state=state,
                reasons=tuple(reasons),
                partitions=tuple(partitions),
                started_at=started_at,
                silent_s=silent_s,
            )
        )
    return tuple(found)


def _positions(session: Session, replicas: Sequence[ReplicaStatus]) -> Iterator[PartitionPosition]:
    read = {
        (replica.consumer_group, each["topic"], each["partition"]): (replica.owner, each)
        for replica in replicas
        if replica.life is Life.ALIVE
        for each in replica.partitions
    }
    for row in session.rows("status", "positions"):
        group, topic, partition, next_offset, age_s, stream_ms, breaker = cast(
            "tuple[str, str, int, int | None, float, int | None, str | None]", row
        )
        reader, said = read.get((group, topic, partition), (None, {}))
        state = "unread" if reader is None else str(said["state"])
        yield PartitionPosition(
            consumer_group=group,
            topic=topic,
            partition=partition,
            next_offset=next_offset,
            age_s=age_s,
            stream_time=_utc(stream_ms),
            breaker=breaker,
            reader=reader,
            state=state if breaker is None else "stopped",
            lag=cast("int | None", said.get("lag")),
            detail=breaker or str(said.get("detail", "")),
        )


def _waiting_group(row: Sequence[object]) -> WaitingGroup:
    instrument, key, opened_ms, deadline_ms, superseded, topic, partition, stream_ms, number, size, *run = cast(
        "tuple[str, str, int, int, bool, str | None, int | None, int | None, int, int | None, "
        "int | None, int | None, list[int] | None]",
        row,
    )
    first, last, numbers = cast("tuple[int | None, int | None, list[int] | None]", tuple(run))
    if superseded:
        waits_for = "late exposures, since a later group has begun"
    elif size is not None and size > number:
        waits_for = f"{size - number} of {size} exposures"
    elif first is not None and last is not None and (missing := _missing(first, last, numbers or ())):
        waits_for = f"seq_num {missing}"
    else:
        waits_for = "more exposures, or its deadline"
    return WaitingGroup(
        instrument=instrument,
        group=key,
        exposures=number,
        waits_for=waits_for,
        opened=cast("datetime", _utc(opened_ms)),
        closes=cast("datetime", _utc(deadline_ms)),
        topic=topic,
        partition=partition,
        stream_time=_utc(stream_ms),
    )


def _missing(first: int, last: int, present: Sequence[int]) -> str:
    """Return which sequence numbers are not there, compressed; a run of absurd length is cut."""
    there = set(present)
    return numbers_as_ranges(n for n in range(first, min(last, first + 10_000) + 1) if n not in there)


def _replica_problems(replicas: Sequence[ReplicaStatus]) -> Iterator[str]:
    if not any(each.life is Life.ALIVE for each in replicas):
        yield "no replica is alive"
    for each in replicas:
        match each.life:
            case Life.ALIVE:
                yield from (f"replica {each.owner}: {reason}" for reason in each.reasons)
            case Life.FROZEN:
                yield f"replica {each.owner} is frozen or cut off: silent for {each.silent_s:.1f} s, session open"
            case Life.DEAD:
                yield f"replica {each.owner} died: silent for {each.silent_s:.1f} s, its session has ended"
            case Life.UNKNOWN:
                yield f"replica {each.owner}: the database takes no heartbeat for {each.silent_s:.1f} s"


def _partition_problems(partitions: Sequence[PartitionPosition], replicas: Sequence[ReplicaStatus]) -> Iterator[str]:
    alive = {each.consumer_group for each in replicas if each.life is Life.ALIVE}
    for each in partitions:
        name = f"{each.topic}[{each.partition}]"
        if each.breaker is not None:
            yield f"{name} of {each.consumer_group}: the circuit breaker stopped reading: {each.breaker}"
        elif each.state == "unread" and each.consumer_group in alive:
            yield f"{name} of {each.consumer_group}: no living replica reads it"


def _utc(time_ms: int | None) -> datetime | None:
    return None if time_ms is None else datetime.fromtimestamp(time_ms / 1000, UTC)
