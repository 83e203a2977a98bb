"""The positions of a Butler sink: which revision of each visit it has dealt with, and what it wrote last."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple, cast

from consumer.errors import ConfigurationError, DeadLetterReason, TransientError
from consumer.model import DeadLetter, GroupKey, VisitRecords
from consumer.postgres.batch_tables import BatchTransaction
from consumer.postgres.connection import Database
from consumer.postgres.offline_store import read_visits
from consumer.postgres.row_codecs import columns, storable


class PendingVisit(NamedTuple):
    """A visit whose present revision the sink has not dealt with."""

    instrument: str
    id: int
    day_obs: int
    updated_at: datetime
    """When it was written."""

    @property
    def key(self) -> tuple[str, int]:
        """Its instrument and id."""
        return self.instrument, self.id


class Advance(NamedTuple):
    """What became of one revision of a visit."""

    visit: int
    revision: int
    state: str
    """``written``, ``kept`` or ``refused``."""
    detail: str
    digest: bytes | None


class SinkNote(NamedTuple):
    """A visit that an operator may have to look at."""

    instrument: str
    visit: int
    revision: int | None
    state: str
    """``kept``, ``refused`` or ``removed``."""
    detail: str
    since: datetime


class SinkPositions:
    """The tables ``butler_sink`` and ``butler_sink_visit``, and the visits as they are stored.

    Parameters
    ----------
    database
        A session of its own, of the writer role: it holds the lock.
    sink
        Name of the sink.
    lease_s
        Behind a pooler: for so long no other process runs the sink after this one died.
    """

    def __init__(self, database: Database, sink: str, *, lease_s: float = 10.0) -> None:
        self.database = database
        self.sink = sink
        self._lease_s = lease_s

    def register(self, repository: str) -> None:
        """Take note of the sink's repository.

        Raises
        ------
        ConfigurationError
            When the positions of this name are those of another repository.
        """
        parameters = {"sink": self.sink, "repository": repository}
        with self.database.transaction() as session:
            session.run("butler", "register", parameters)
            ((stored,),) = session.rows("butler", "repository", parameters)
        if stored != repository:
            raise ConfigurationError(
                f"sink {self.sink!r} has written into {stored}, not into {repository}: give another --name"
            )

    def lead(self) -> bool:
        """Whether this process is the one that runs the sink: it holds the lock, or gets it now."""
        with self.database.transaction() as session:
            if self.database.pooled:
                lease = {"sink": self.sink, "owner": self.database.owner, "seconds": self._lease_s}
                return session.run("butler", "lead_by_lease", lease) > 0
            return bool(session.rows("butler", "lead", {"sink": self.sink})[0][0])

    def close(self) -> None:
        """End the session, and with it the lock."""
        if self.database.pooled:
            with suppress(TransientError), self.database.transaction() as session:
                session.run("butler", "give_up_lease", {"sink": self.sink, "owner": self.database.owner})
        self.database.close()

    def pending(
        self,
        *,
        limit: int,
        from_night: int | None = None,
        late_s: float | None = None,
        after: PendingVisit | None = None,
    ) -> list[PendingVisit]:
        """Read visits that are to be dealt with, those that were written first at the head.

        Parameters
        ----------
        limit
            Return at most so many.
        from_night
            Only of this observing day and later ones.
        late_s
            Only those that were written within so many seconds: cheap; None: all.
        after
            The last one of the page before, where all are read.
        """
        parameters: dict[str, object] = {
            "sink": self.sink,
            "limit": limit,
            "from_night": from_night,
            "seconds": late_s,
            "after_time": None if after is None else after.updated_at,
            "after_instrument": None if after is None else after.instrument,
            "after_visit": None if after is None else after.id,
        }
        with self.database.transaction() as session:
            rows = session.rows("butler", "pending" if late_s is None else "pending_of_late", parameters)
        return [PendingVisit(*row) for row in rows]  # type: ignore[arg-type]  # the columns' types

    def read(self, instrument: str, visits: Sequence[int]) -> tuple[dict[int, VisitRecords], dict[int, int]]:
        """Read every row of visits, and their revisions, as they were at one moment."""
        with self.database.snapshot() as session:
            wanted = {"instrument": instrument, "visits": list(visits)}
            revisions = dict(cast("list[tuple[int, int]]", session.rows("butler", "revisions", wanted)))
            return read_visits(session, instrument, visits), revisions

    def visit_systems(self, instrument: str) -> dict[int, str]:
        """Read the names of the visit systems of an instrument."""
        with self.database.transaction() as session:
            rows = session.rows("butler", "visit_systems", {"instrument": instrument})
        return {cast("int", number): cast("str", name) for _, number, name in rows}

    def remembered(self, instrument: str, visits: Sequence[int]) -> dict[int, set[bytes]]:
        """Read the digests of the regions that this sink has written of visits, or may have."""
        parameters = {"sink": self.sink, "instrument": instrument, "visits": list(visits)}
        with self.database.transaction() as session:
            rows = cast(
                "list[tuple[int, bytes | None, bytes | None]]", session.rows("butler", "remembered", parameters)
            )
        return {visit: {digest for digest in digests if digest is not None} for visit, *digests in rows}

    def intend(self, instrument: str, digests: Sequence[tuple[int, bytes]]) -> None:
        """Remember the digests of regions that are about to be written."""
        if digests:
            with self.database.transaction() as session:
                session.run("butler", "intend", self._columns(instrument, ("visits", "digests"), digests))

    def advance(self, instrument: str, moved: Sequence[Advance], groups: Sequence[GroupKey]) -> None:
        """Move the position of visits, and write or resolve their dead letters, in one transaction.

        Parameters
        ----------
        instrument
            Of all of them.
        moved
            What became of each.
        groups
            The group of each.
        """
        names = ("visits", "revisions", "states", "details", "digests")
        letters = [
            DeadLetter(
                reason=DeadLetterReason.BUTLER_REFUSED,
                detail=f"sink {self.sink!r} cannot write visit {each.visit}: {each.detail}",
                instrument=instrument,
                group_key=group.key,
            )
            for each, group in zip(moved, groups, strict=True)
            if each.state == "refused"
        ]
        with self.database.transaction() as session:
            rows = [each._replace(detail=storable(each.detail)) for each in moved]
            session.run("butler", "advance", self._columns(instrument, names, rows))
            session.run("butler", "resolve", {"instrument": instrument, "group_keys": [g.key for g in groups]})
            BatchTransaction(session).write_dead_letters(letters, {})

    def forget_removed(self) -> None:
        """Let go of refused visits that the tables no longer have, and of their dead letters."""
        with self.database.transaction() as session:
            if session.run("butler", "forget_removed", {"sink": self.sink}):
                session.run("butler", "resolve", {"instrument": None, "group_keys": []})

    def retry_refused(self) -> int:
        """Let refused visits be tried again; return how many."""
        with self.database.transaction() as session:
            return session.run("butler", "retry_refused", {"sink": self.sink})

    def notes(self) -> list[SinkNote]:
        """Read what needs an operator: kept regions, refused visits, visits that the tables no longer have."""
        with self.database.transaction() as session:
            rows = session.rows("butler", "notes", {"sink": self.sink})
        return [SinkNote(*row) for row in rows]  # type: ignore[arg-type]  # the columns' types

    def _columns(self, instrument: str, names: Sequence[str], rows: Sequence[tuple[object, ...]]) -> dict[str, object]:
        return {"sink": self.sink, "instrument": instrument, **columns(names, rows)}
