"""The ObsCore table beside the writer: rows that are missing are filled, and stored ones are read as a stream."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import cast

from consumer.domain.obscore import Obscore, PublishedVisit
from consumer.model import VisitAggregate
from consumer.postgres.batch_tables import BatchTransaction
from consumer.postgres.connection import Database, Session
from consumer.postgres.row_codecs import columns

_AT_ONCE = 500
_READ_AT_ONCE = 2000
_AGGREGATE = tuple(VisitAggregate.__dataclass_fields__)
LONG_READS = {"idle_in_transaction_session_timeout": "10min", "statement_timeout": "10min"}
"""For the session of an `Export`: what takes the rows may be slow."""

Row = tuple[object, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which rows of the ObsCore table; None: of all."""

    instrument: str | None = None
    day_obs: int | None = None
    since_day: int | None = None
    """From this observing day on."""
    since_mjd: float | None = None
    """Begun at this time, UTC, or later."""
    public: bool = False
    """Only those whose embargo is over."""


def fill_obscore(database: Database, obscore: Obscore, *, rewrite: bool) -> tuple[int, int]:
    """Write the rows of visits that have none, or one of another revision, and remove those of visits that went.

    Safe beside running consumers: each step is one transaction that locks its visits.

    Parameters
    ----------
    database
        A session of the writer role.
    obscore
        Makes the rows.
    rewrite
        Write the row of every visit.

    Returns
    -------
    written, removed
        How many rows.
    """
    key, written = ("", -1), 0
    while True:
        with database.transaction() as session:
            wanted = {"instrument": key[0], "visit": key[1], "rewrite": rewrite, "limit": _AT_ONCE}
            found = session.rows("obscore", "unfilled", wanted)
            BatchTransaction(session, obscore).write_obscore(_published(row) for row in found)
        written += len(found)
        if len(found) < _AT_ONCE:
            break
        key = cast("tuple[str, int]", found[-1][:2])
    with database.transaction() as session:
        removed = session.run("obscore", "remove_orphans")
    return written, removed


def _published(row: Row) -> PublishedVisit:
    aggregate = VisitAggregate(**dict(zip(_AGGREGATE, row[5:], strict=True)))  # type: ignore[arg-type]  # the columns' types
    return PublishedVisit(*row[:5], aggregate)  # type: ignore[arg-type,call-arg]  # the same


class ObscoreSnapshot:
    """What the ObsCore table holds at one moment; see `obscore_snapshot`."""

    def __init__(self, session: Session, selection: Selection) -> None:
        self._session = session
        self._selection = asdict(selection)

    def unfilled(self) -> int:
        """Count the visits of the selection that have no row, or one of another revision."""
        return cast("int", self._session.rows("obscore", "count_unfilled", self._selection)[0][0])

    def visits(self) -> Iterator[list[Row]]:
        """Read rows of `consumer.domain.obscore.COLUMNS`, some at a time, by night, instrument and visit."""
        name = "export_public" if self._selection["public"] else "export"
        return self._session.stream("obscore", name, self._selection, at_once=_READ_AT_ONCE)

    def detectors(self) -> Iterator[list[Row]]:
        """Read a row for each detector of the visits: the visit's columns, the detector, its encoded region."""
        return self._session.stream("obscore", "export_detectors", self._selection, at_once=_READ_AT_ONCE)


@contextmanager
def obscore_snapshot(database: Database, selection: Selection) -> Iterator[ObscoreSnapshot]:
    """Read the ObsCore table as it is at one moment, with a memory that does not depend on its size."""
    with database.snapshot() as session:
        yield ObscoreSnapshot(session, selection)


def rows_of_visits(database: Database, visits: list[tuple[str, int]]) -> list[Row]:
    """Read the rows of visits (instrument and id), in the order of time."""
    with database.snapshot() as session:
        return session.rows("obscore", "rows_of_visits", columns(("instruments", "visits"), visits))
