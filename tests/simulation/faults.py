"""Faults that the service had, or might have had: each is put back by changing a line of the product."""

import inspect
import textwrap
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

import pytest

from consumer.domain import visit_diff
from consumer.domain.open_groups import OpenGroups
from consumer.service import batch, lease_holder, leases, store_visits, writer
from tests.simulation import relay, tables, world


def _changed(function: object, old: str, new: str) -> Any:
    """Compile a function again, with one of its lines changed."""
    assert isinstance(function, FunctionType)
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(old) == 1, f"{function.__name__}: {old}"
    names = dict(function.__globals__)
    exec(compile(source.replace(old, new), function.__code__.co_filename, "exec"), names)  # noqa: S102 -- the product's own
    return names[function.__name__]


def no_fence(patch: pytest.MonkeyPatch) -> None:
    """Move a position, whatever is stored of it."""
    changed = _changed(
        tables.MemoryTables.advance,
        "if (stored.epoch, stored.next_offset) != (each.epoch, each.expected):",
        "if False:",
    )
    patch.setattr(tables.MemoryTables, "advance", changed)


def epoch_ignored(patch: pytest.MonkeyPatch) -> None:
    """Move a position that stands where it was left, whoever has claimed it since."""
    changed = _changed(
        tables.MemoryTables.advance,
        "if (stored.epoch, stored.next_offset) != (each.epoch, each.expected):",
        "if stored.next_offset != each.expected:",
    )
    patch.setattr(tables.MemoryTables, "advance", changed)


def border_one_too_far(patch: pytest.MonkeyPatch) -> None:
    """Let the first half of a batch move the position over the first message of the second."""
    changed = _changed(
        batch.bisect,
        "border.setdefault(event.message.partition, event.message.offset)",
        "border.setdefault(event.message.partition, event.message.offset + 1)",
    )
    patch.setattr(writer, "bisect", changed)


def age_restarted(patch: pytest.MonkeyPatch) -> None:
    """Let a group begin again with ``max_open_s`` where another partition brings an exposure of it."""
    changed = _changed(
        OpenGroups._touch,
        "opened_ms = min(known.opened_ms, change.stream_time_ms - age_ms)",
        "opened_ms = change.stream_time_ms",
    )
    patch.setattr(OpenGroups, "_touch", changed)


def owner_of_a_name_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Do not ask which groups have the ids and names that others were refused."""
    patch.setattr(store_visits, "_owners", lambda *_: set())


def removal_not_announced(patch: pytest.MonkeyPatch) -> None:
    """Remove a visit and say nothing."""
    patch.setattr(store_visits, "removal_rows", lambda *_: [])


def claimed_from_a_new_owner(patch: pytest.MonkeyPatch) -> None:
    """Claim a partition that was revoked while the brokers were asked about it."""
    acquire = leases.acquire_leases

    def whatever_is_wanted(*given: Any, **named: Any) -> Any:
        return acquire(*given, **named | {"wanted": lambda _: True})

    patch.setattr(lease_holder, "acquire_leases", whatever_is_wanted)


def two_leaders(patch: pytest.MonkeyPatch) -> None:
    """Let every relay send."""

    def lead(_: object) -> bool:
        return True

    patch.setattr(relay._StandingOutbox, "lead", lead)


def kept_visit_books_its_new_name(patch: pytest.MonkeyPatch) -> None:
    """Let a visit that is kept as it is have the name that it would have had."""
    changed = _changed(
        visit_diff.diff_visits,
        "diff.kept.append(candidate)",
        "diff.kept.append(candidate) or owner.update((claim, mine) for claim in claims)",
    )
    patch.setattr(store_visits, "diff_visits", changed)


def leader_epoch_ignored(patch: pytest.MonkeyPatch) -> None:
    """Never ask whether a later leader has replaced what was read."""
    patch.setattr(world.Brokers, "divergence", lambda *_: None)


def later_leader_not_asked(patch: pytest.MonkeyPatch) -> None:
    """Do not ask so with the first messages after a lease."""
    patch.setattr(lease_holder, "may_follow_another_log", lambda *_: False)


def reading_goes_on_behind(patch: pytest.MonkeyPatch) -> None:
    """After a lost answer, go on behind what was gathered, whether or not it was written."""

    def renewed(_: object, held: list[leases.PartitionLease], __: object) -> leases.CheckedLeases:
        return leases.CheckedLeases([lease._replace(start=(lease.next_offset or 0) + 1) for lease in held], [], [])

    patch.setattr(lease_holder, "check_leases", renewed)


FAULTS: Mapping[str, Callable[[pytest.MonkeyPatch], None]] = {
    each.__name__: each
    for each in (
        no_fence,
        epoch_ignored,
        border_one_too_far,
        age_restarted,
        owner_of_a_name_forgotten,
        removal_not_announced,
        claimed_from_a_new_owner,
        two_leaders,
        kept_visit_books_its_new_name,
        leader_epoch_ignored,
        later_leader_not_asked,
        reading_goes_on_behind,
    )
}
