"""The outbox's rows, under the lock that lets one process at a time send them; and the removal of what is done.

Only committed rows are read. The lock belongs to the session and goes with it: the next leader may send again what
was sent but not yet marked, and never leaves anything out. Behind a connection pooler, whose sessions are lent, a lease
in a table takes the lock's place.
"""

from contextlib import suppress
from typing import NamedTuple, cast

from consumer.errors import TransientError
from consumer.events.visit_defined import Announcement
from consumer.postgres.connection import Database

_REMOVED_AT_ONCE = 5000
_S_PER_DAY = 86_400.0


class Backlog(NamedTuple):
    """What is not sent yet."""

    waiting: int
    oldest_s: float | None
    """When the oldest was written, UTC seconds since the Unix epoch; None without one."""


class Outbox:
    """The table ``outbox``.

    Parameters
    ----------
    database
        A session of its own: it holds the lock.
    lease_s
        Behind a pooler: for so long nobody else leads after this process died.
    """

    def __init__(self, database: Database, *, lease_s: float) -> None:
        self._database = database
        self._lease_s = lease_s

    def lead(self) -> bool:
        """Whether this process is the one that sends and cleans up: it holds the lock, or gets it now."""
        with self._database.transaction() as session:
            if self._database.pooled:
                lease = {"owner": self._database.owner, "seconds": self._lease_s}
                return session.run("outbox", "lead_by_lease", lease) > 0
            return bool(session.rows("outbox", "lead")[0][0])

    def unsent(self, limit: int) -> list[Announcement]:
        """Read the oldest announcements that are not marked as sent."""
        with self._database.transaction() as session:
            rows = session.rows("outbox", "unsent", {"limit": limit})
        return [
            Announcement(id=id_, instrument=instrument, visit=visit, payload=payload)
            for id_, instrument, visit, payload in cast("list[tuple[int, str, int, bytes]]", rows)
        ]

    def mark_sent(self, ids: list[int]) -> None:
        """Mark announcements that the brokers have."""
        with self._database.transaction() as session:
            session.run("outbox", "mark_sent", {"ids": ids})

    def backlog(self) -> Backlog:
        """Count what is not sent yet."""
        with self._database.transaction() as session:
            return Backlog(*cast("tuple[int, float | None]", session.rows("outbox", "backlog")[0]))

    def remove_sent(self, days: float) -> int:
        """Remove some announcements that were sent so long ago; 0 when none are left."""
        return self._remove("remove_sent", days)

    def remove_settled(self, days: float) -> int:
        """Remove some dead letters that were closed so long ago; 0 when none are left."""
        return self._remove("remove_settled", days)

    def close(self) -> None:
        """End the session, and with it the lock."""
        if self._database.pooled:
            with suppress(TransientError), self._database.transaction() as session:
                session.run("outbox", "give_up_lease", {"owner": self._database.owner})
        self._database.close()

    def _remove(self, name: str, days: float) -> int:
        with self._database.transaction() as session:
            return session.run("outbox", name, {"seconds": days * _S_PER_DAY, "limit": _REMOVED_AT_ONCE})
