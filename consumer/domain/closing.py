"""When a group is done: the deadlines of an open group, on stream time.

Pure: the clock is an argument. Stream time is UTC milliseconds, kept for each partition: the largest message timestamp
read from it, and the wall clock only where its reader stands at the end of the log. A group lives by the clock of the
partition that carried its latest event.
"""

from dataclasses import dataclass
from typing import NamedTuple

from consumer.model import CloseReason, GroupKey


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosingPolicy:
    """How long groups wait; see ``closing`` in the settings."""

    next_group_grace_ms: int = 10_000
    """From the first exposure of a later group, read from the same partition, to closing."""
    close_after_ms: int = 120_000
    """From a group's latest new exposure to closing."""
    max_open_ms: int = 3_600_000
    """From a group's first exposure to closing, whatever arrives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenGroup:
    """One group that waits for exposures; its members are kept beside it, as exposures."""

    key: GroupKey
    offset_id: int
    """Id of the partition by whose stream time it lives."""
    opened_ms: int
    last_ms: int
    """When its latest change was read."""
    superseded_ms: int | None = None
    """When the first exposure of a later group was read from the same partition."""
    latest_begin: int | None = None
    """Largest ``timespan_begin`` of its members, TAI nanoseconds."""


class Later(NamedTuple):
    """An exposure of a batch that may supersede earlier groups of its partition."""

    offset_id: int
    instrument: str
    begin: int
    """Its ``timespan_begin``, TAI nanoseconds."""


class Waiting(NamedTuple):
    """What waits on one partition's clock."""

    groups: int
    next_deadline_ms: int
    oldest_opened_ms: int


class Deadline(NamedTuple):
    """When a group is closed if nothing else happens to it, and why."""

    at_ms: int
    reason: CloseReason


def deadline(group: OpenGroup, policy: ClosingPolicy) -> Deadline:
    """Return the earliest of the deadlines *next group*, *idle* and *age* of an open group.

    Parameters
    ----------
    group
        The open group; its times are stream time, UTC milliseconds.
    policy
        How long its instrument's groups wait.

    Returns
    -------
    Deadline
        The group is due at the first stream time that is not before it. Of equal times the first named wins, so that
        a replay gives the same reason.
    """
    candidates = [
        Deadline(group.last_ms + policy.close_after_ms, CloseReason.IDLE),
        Deadline(group.opened_ms + policy.max_open_ms, CloseReason.AGE),
    ]
    if group.superseded_ms is not None:
        candidates.insert(0, Deadline(group.superseded_ms + policy.next_group_grace_ms, CloseReason.NEXT_GROUP))
    return min(candidates, key=lambda each: each.at_ms)
