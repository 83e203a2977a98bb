"""Whether a visit, the visits of an exposure, or those of a night are there yet; and waiting until they are.

It is asked when a replica has committed something, and every few seconds besides: each question is one indexed
look-up, or one pass over a night.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

from consumer.errors import TransientError
from consumer.postgres.connection import Database

EVERY_S = 5.0
"""How often it is asked at least."""


class Awaited(StrEnum):
    """What may be waited for."""

    VISIT = "visit"
    EXPOSURE = "exposure"
    NIGHT = "night"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """What is there."""

    arrived: bool
    detail: str
    """In words: what is there, or what is missing."""


def read_arrival(
    database: Database, what: Awaited, number: int, *, instrument: str | None = None, complete: bool = False
) -> Arrival:
    """Read whether what is awaited is there.

    Parameters
    ----------
    database
        A session of the reader role.
    what, number
        A visit or an exposure by its id, or a night by its day_obs.
    instrument
        Of it; None: of any instrument.
    complete
        Wait until the visits have all their exposures. Of a night: until its groups are closed and every exposure on
        sky is in a visit; without it, one visit is enough.

    Raises
    ------
    TransientError
        When the database cannot be asked.
    """
    with database.snapshot() as session:
        rows = session.rows("wait", what.value, {"id": number, "instrument": instrument})
    if what is Awaited.NIGHT:
        visits, groups, without, partial = cast("tuple[int, int, int, int]", rows[0])
        over = not (groups or without or partial)
        detail = f"{visits} visits, {groups} open groups, {without} exposures without a visit, {partial} not complete"
        return Arrival(arrived=visits > 0 and (over or not complete), detail=f"night {number}: {detail}")
    found = [f"visit {visit} of {name}, revision {revision}" for name, visit, revision, _ in rows]
    if not found:
        return Arrival(arrived=False, detail=f"{what.value} {number}: no visit yet")
    partial = sum(each[3] is False for each in rows)
    missing = f"; {partial} not complete" if complete and partial else ""
    return Arrival(arrived=not missing, detail=" and ".join(found) + missing)


def wait_for(
    ask: Callable[[], Arrival], *, timeout_s: float, monotonic_s: Callable[[], float], rest: Callable[[float], object]
) -> Arrival:
    """Ask until it is there or the time is over; return the last answer.

    A database that cannot be asked may be there the next time.

    Parameters
    ----------
    ask
        See `read_arrival`.
    timeout_s
        How long to wait, seconds.
    monotonic_s
        The clock.
    rest
        Waits so many seconds, or less where the tables may have changed: see `consumer.postgres.wake.Wake.wait`.
    """
    end_s = monotonic_s() + timeout_s
    while True:
        try:
            found = ask()
        except TransientError as error:
            found = Arrival(arrived=False, detail=str(error))
        left_s = end_s - monotonic_s()
        if found.arrived or left_s <= 0:
            return found
        rest(min(EVERY_S, left_s))
