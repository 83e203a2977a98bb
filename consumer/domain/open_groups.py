"""The buffer of open groups as a state machine without I/O: feed it changes and clocks, pull closings.

The caller loads the groups that a batch may concern (those that its exposures belong to, those that fall due, those
that it supersedes), feeds the batch in the order in which it was read, and stores what comes out. Because each step
takes the clock of its own message, the borders between batches change nothing.

State of one group::

    (absent) --change--> open --change--> open
    open --complete, or its deadline passes--> closed (absent)
    (absent) --change of an exposure that is known already--> open again: the late exposure's group is redefined

An instrument whose rule needs no buffer never opens a group: each change closes at once.

A group of more than `MOST_COUNTED` exposures, such as one whose name an acquisition system never changes, is *large*:
its members are not read at each change, so that the cost of an exposure does not grow with its group. Whether it is
complete or superseded is not asked; it closes by *idle* or *age*, and its members are read then.
"""

import heapq
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from consumer.domain.closing import ClosingPolicy, OpenGroup, deadline
from consumer.model import CloseReason, Exposure, Group, GroupKey, in_time_order

MOST_COUNTED = 1_000
"""Exposures of a group that are looked at whenever one of them changes; a group of more is large."""


class Member(NamedTuple):
    """One exposure of a group, and whether the raws that matter of it have arrived."""

    exposure: Exposure
    arrived: bool


class ExposureChange(NamedTuple):
    """One exposure that is new, or whose record or arrival changed, as its message was read."""

    offset_id: int
    """Id of the partition that carried the message."""
    stream_time_ms: int
    """That partition's stream time with the message applied."""
    member: Member
    key: GroupKey
    former_key: GroupKey | None
    """The group that it belonged to before, where it was known already."""


class Closing(NamedTuple):
    """One group at the moment it closed; only exposures that had arrived are members."""

    group: Group
    reason: CloseReason
    absent: tuple[int, ...] = ()
    """Ids of exposures that are known, but of which a raw that matters had not arrived."""
    last_ms: int = 0
    """Stream time of the last message that it needed."""


class GroupRules(Protocol):
    """What the buffer asks about an instrument."""

    @property
    def closing(self) -> ClosingPolicy:
        """How long its groups wait."""

    @property
    def buffers(self) -> bool:
        """Whether its groups wait at all."""

    def complete(self, members: Iterable[Member]) -> bool:
        """Whether these are known to be all exposures of their group, arrived."""


@dataclass(slots=True)
class OpenGroups:
    """Open groups and their members, as far as one batch concerns them.

    Parameters
    ----------
    rules
        By instrument.
    groups
        The open groups that the batch may concern.
    members
        All stored exposures of those groups, as they were before the batch, by exposure id; ignored of large groups.
    large
        Groups that had more than `MOST_COUNTED` exposures before the batch.
    """

    rules: Mapping[str, GroupRules]
    groups: dict[GroupKey, OpenGroup]
    members: dict[GroupKey, dict[int, Member]]
    large: set[GroupKey]
    """Their closings have no members until `load_large` brings them."""
    closings: list[Closing]
    touched: set[GroupKey]
    """Groups that are open now and had a change."""
    late: list[Exposure]
    """New exposures of groups that had closed before."""
    _due: dict[int, list[tuple[int, GroupKey]]]
    _waiting: dict[tuple[int, str], set[GroupKey]]

    def __init__(
        self,
        rules: Mapping[str, GroupRules],
        groups: Iterable[OpenGroup],
        members: Mapping[GroupKey, Mapping[int, Member]],
        large: Collection[GroupKey] = (),
    ) -> None:
        self.rules = rules
        self.groups = {}
        self.members = {key: dict(each) if key not in large else {} for key, each in members.items()}
        self.large = set(large)
        self.closings = []
        self.touched = set()
        self.late = []
        self._due = {}
        self._waiting = {}
        for group in groups:
            self._put(group)

    def advance(self, offset_id: int, stream_time_ms: int) -> None:
        """Move one partition's clock: close, in order of their deadlines, the groups that are due by it."""
        heap = self._due.get(offset_id)
        while heap and heap[0][0] <= stream_time_ms:
            at_ms, key = heapq.heappop(heap)
            group = self.groups.get(key)
            if group is None or group.offset_id != offset_id:
                continue
            due = deadline(group, self.rules[key.instrument].closing)
            # An entry is stale when its group's deadline moved after the entry was pushed.
            if due.at_ms == at_ms:
                self._close(group, due.reason)

    def apply(self, change: ExposureChange) -> None:
        """Apply one change. The caller has advanced the clock to ``change.stream_time_ms`` before."""
        exposure = change.member.exposure
        rules = self.rules[exposure.instrument]
        if not rules.buffers:
            self.closings.append(
                Closing(
                    Group(key=change.key, exposures=(exposure,)), CloseReason.COMPLETE, last_ms=change.stream_time_ms
                )
            )
            return
        if change.former_key not in (None, change.key):
            assert change.former_key is not None  # noqa: S101 -- narrows the type for mypy
            self.members.setdefault(change.former_key, {}).pop(exposure.id, None)
            former = self._touch(change, change.former_key)
            if not self.members[change.former_key] and change.former_key not in self.large:
                # The group is empty: its visit goes now, and frees its id for the group of this exposure.
                self._close(former, CloseReason.COMPLETE)
        members = self.members.setdefault(change.key, {})
        known = exposure.id in members or change.former_key == change.key
        if (members or change.key in self.large) and not known and change.key not in self.groups:
            self.late.append(exposure)
        members[exposure.id] = change.member
        if len(members) > MOST_COUNTED:
            self.large.add(change.key)
        self._supersede_others(change)
        group = self._touch(change, change.key)
        if change.key not in self.large and rules.complete(members.values()):
            self._close(group, CloseReason.COMPLETE)

    def last_closings(self) -> list[Closing]:
        """Return the last closing of each group that closed: it knows all that the group's earlier ones knew."""
        return list({closing.group.key: closing for closing in self.closings}.values())

    def open_now(self) -> list[Closing]:
        """Return the groups that are open and had a change, as if they closed complete now; no large ones."""
        return [
            group_of_members(key, self.members[key].values(), last_ms=self.groups[key].last_ms)
            for key in sorted(self.touched - self.large)
        ]

    def large_closed(self) -> set[GroupKey]:
        """Return the large groups that closed, and whose members are not known here."""
        return {closing.group.key for closing in self.closings} & self.large

    def load_large(self, members: Mapping[GroupKey, Collection[Member]]) -> None:
        """Bring the members of large groups to their last closings, as they are after the batch.

        One that came after the closing is among them. Its group is open again for it, and closes again.
        """
        last = {each.group.key: number for number, each in enumerate(self.closings)}
        for key, each in members.items():
            closing = self.closings[last[key]]
            self.closings[last[key]] = group_of_members(key, each, closing.reason, closing.last_ms)

    def _touch(self, change: ExposureChange, key: GroupKey) -> OpenGroup:
        latest = None if key in self.large else self._latest_begin(key)
        known = self.groups.get(key)
        if known is None:
            group = OpenGroup(
                key=key,
                offset_id=change.offset_id,
                opened_ms=change.stream_time_ms,
                last_ms=change.stream_time_ms,
                latest_begin=latest,
            )
        else:
            group = replace(known, offset_id=change.offset_id, last_ms=change.stream_time_ms, latest_begin=latest)
            if known.offset_id != change.offset_id:
                # The group takes its age along. Where the new partition's stream time is behind the old one's, that is
                # the age it had reached there: its former times would lie in the future.
                age_ms = known.last_ms - known.opened_ms
                opened_ms = min(known.opened_ms, change.stream_time_ms - age_ms)
                group = replace(group, opened_ms=opened_ms, superseded_ms=None)
            if key in self.large:
                group = replace(group, superseded_ms=None)
        self.touched.add(key)
        self._put(group)
        return group

    def _latest_begin(self, key: GroupKey) -> int | None:
        begins = (each.exposure.timespan_begin for each in self.members[key].values())
        return max((begin for begin in begins if begin is not None), default=None)

    def _supersede_others(self, change: ExposureChange) -> None:
        begin = change.member.exposure.timespan_begin
        if begin is None:
            return
        for key in sorted(self._waiting.get((change.offset_id, change.key.instrument), ())):
            group = self.groups[key]
            if key != change.key and group.latest_begin is not None and group.latest_begin < begin:
                self._put(replace(group, superseded_ms=change.stream_time_ms))

    def _put(self, group: OpenGroup) -> None:
        known = self.groups.get(group.key)
        if known is not None:
            self._waiting.get((known.offset_id, known.key.instrument), set()).discard(known.key)
        self.groups[group.key] = group
        if group.superseded_ms is None:
            self._waiting.setdefault((group.offset_id, group.key.instrument), set()).add(group.key)
        at_ms = deadline(group, self.rules[group.key.instrument].closing).at_ms
        heapq.heappush(self._due.setdefault(group.offset_id, []), (at_ms, group.key))

    def _close(self, group: OpenGroup, reason: CloseReason) -> None:
        del self.groups[group.key]
        self._waiting.get((group.offset_id, group.key.instrument), set()).discard(group.key)
        self.touched.discard(group.key)
        members = () if group.key in self.large else self.members[group.key].values()
        self.closings.append(group_of_members(group.key, members, reason, group.last_ms))


def group_of_members(
    key: GroupKey, members: Iterable[Member], reason: CloseReason = CloseReason.COMPLETE, last_ms: int = 0
) -> Closing:
    """Close a group: those that have arrived are its exposures, in time order; the others are absent."""
    known = list(members)
    arrived = in_time_order([each.exposure for each in known if each.arrived])
    absent = tuple(sorted(each.exposure.id for each in known if not each.arrived))
    return Closing(Group(key=key, exposures=arrived), reason, absent, last_ms)
