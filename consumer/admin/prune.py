"""Removal of old nights: exposures, their visits and closed dead letters, some whole groups in each transaction.

It needs the schema's owner: the service's own role removes no exposure. Locks are taken in the service's order, so that
it may run beside. Open groups, groups that reach beyond the day, and open dead letters stay.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NamedTuple, cast

from consumer.model import GroupKey
from consumer.postgres.batch_tables import BatchTransaction
from consumer.postgres.connection import LOOKS_UP_BY_KEY, Database
from consumer.postgres.migrate import check_schema
from consumer.postgres.offline_store import lock_groups
from consumer.read.night import StoredNight, read_nights

PRUNE_SESSION = LOOKS_UP_BY_KEY
"""Settings of the session that prunes."""
_GROUPS_AT_ONCE = 100
"""Of one transaction: 20,000 detector regions of the largest camera, a second of work."""


class Pruned(NamedTuple):
    """What one transaction removed."""

    exposures: int
    visits: int


@dataclass(slots=True, kw_only=True)
class PruneResult:
    """What was removed, or would be."""

    nights: list[StoredNight]
    exposures: int = 0
    visits: int = 0


def prune(
    database: Database,
    before: int,
    *,
    instrument: str | None = None,
    dry_run: bool = False,
    report: Callable[[int, int], None] = lambda _done, _of: None,
) -> PruneResult:
    """Remove what is stored of the observing days before one.

    Parameters
    ----------
    database
        A session of the schema's owner, with `PRUNE_SESSION`.
    before
        The first day that stays, YYYYMMDD.
    instrument
        Only of this one; None: of all.
    dry_run
        Only count.
    report
        Called after each transaction with how many exposures of how many are removed.

    Raises
    ------
    TransientError
        When the database is lost; what was removed is removed, and the same call goes on.
    FatalError
        When the role may not do this.
    """
    check_schema(database)
    result = PruneResult(nights=read_nights(database, before=before, instrument=instrument))
    total = sum(each.exposures for each in result.nights)
    for night in [] if dry_run else result.nights:
        after = ""
        while True:
            keys, pruned = _prune_some(database, night, before, after)
            if not keys:
                break
            after = max(keys)
            result.exposures += pruned.exposures
            result.visits += pruned.visits
            report(result.exposures, total)
    return result


def _prune_some(database: Database, night: StoredNight, before: int, after: str) -> tuple[Collection[str], Pruned]:
    """Remove the next groups of a night in one transaction; return their keys, none at its end, and what went."""
    named: dict[str, object] = {"instrument": night.instrument, "day_obs": night.day_obs, "before": before}
    with database.transaction() as session:
        rows = session.rows("prune", "groups", named | {"after": after, "limit": _GROUPS_AT_ONCE})
        keys = [cast("str", key) for (key,) in rows]
        if not keys:
            return [], Pruned(0, 0)
        session.rows("prune", "lock_exposures", named | {"group_keys": keys})
        tables = BatchTransaction(session)
        # Of those that the service has opened since, nothing is removed.
        free = lock_groups(tables, [GroupKey(night.instrument, key) for key in keys])
        members = tables.group_members(free)
        # An exposure of the day itself may have joined a group since; its group stays too.
        old = free - {known.group for known in members if known.record.day_obs >= before}
        exposures = sorted(known.record.id for known in members if known.group in old)
        removed = tables.delete_visits(tables.lock_visits([], old)) if old else []
        for name in ("delete_raw_regions", "delete_dead_letters", "delete_exposures"):
            session.run("prune", name, {"instrument": night.instrument, "exposures": exposures})
        tables.delete_groups(free)
    return keys, Pruned(len(exposures), len(removed))
