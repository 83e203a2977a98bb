"""Which nights there are, and one of them in numbers."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, cast

from consumer.domain.obscore import utc_ns
from consumer.postgres.connection import Database
from consumer.read.visit_rows import VisitId, VisitRow, read_visit_rows

_LAST_VISITS = 20
_NS = 1_000_000_000


class NightLine(NamedTuple):
    """One night of the list."""

    day_obs: int
    exposures: int
    visits: int


class FilterCount(NamedTuple):
    """One instrument and filter of a night."""

    instrument: str
    physical_filter: str | None
    exposures: int
    visits: int
    complete: int
    incomplete: int
    """Of neither kind are visits whose groups have no known size."""


class Latency(NamedTuple):
    """From the end of a visit's last exposure to the commit of its first revision."""

    visits: int
    """Of which it is known."""
    p50_s: float
    p99_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NightSummary:
    """One night in numbers."""

    at: datetime
    """The server's clock, UTC."""
    day_obs: int | None
    """None where nothing is stored."""
    counts: list[FilterCount]
    latency: Latency | None
    last_visits: list[VisitRow]
    """Those that were written last, the last one first."""

    @property
    def exposures(self) -> int:
        """Number of stored exposures."""
        return sum(each.exposures for each in self.counts)

    @property
    def visits(self) -> int:
        """Number of visits."""
        return sum(each.visits for each in self.counts)

    @property
    def complete(self) -> int:
        """Number of visits that have all exposures of their groups."""
        return sum(each.complete for each in self.counts)

    @property
    def incomplete(self) -> int:
        """Number of visits that lack some."""
        return sum(each.incomplete for each in self.counts)


def read_night_lines(database: Database, *, before: int, limit: int) -> list[NightLine]:
    """Read the nights before an observing day (YYYYMMDD) of which exposures are stored, the newest first."""
    with database.snapshot() as session:
        rows = session.rows("page", "nights", {"before": before, "limit": limit})
    return [NightLine(*row) for row in rows]  # type: ignore[arg-type]  # the columns' types


def read_night_summary(database: Database, day_obs: int | None = None) -> NightSummary:
    """Read a night in numbers, at one moment.

    Parameters
    ----------
    database
        A session of the reader role.
    day_obs
        The observing day, YYYYMMDD; None: the last of which an exposure is stored.
    """
    with database.snapshot() as session:
        ((at, last),) = cast("list[tuple[datetime, int | None]]", session.rows("page", "last_day"))
        day = last if day_obs is None else day_obs
        if day is None:
            return NightSummary(at=at, day_obs=None, counts=[], latency=None, last_visits=[])
        own = {"day_obs": day, "tai_utc_s": _tai_utc_s(day), "limit": _LAST_VISITS}
        counts = [FilterCount(*row) for row in session.rows("page", "counts", own)]  # type: ignore[arg-type]  # the columns' types
        ((number, quantiles),) = cast("list[tuple[int, list[float] | None]]", session.rows("page", "latency", own))
        keys = cast("list[VisitId]", session.rows("page", "last_keys", own))
        return NightSummary(
            at=at,
            day_obs=day,
            counts=counts,
            latency=Latency(number, *quantiles) if quantiles else None,
            last_visits=read_visit_rows(session, keys),
        )


def _tai_utc_s(day_obs: int) -> float:
    """Return by how much TAI is ahead of UTC at the end of an observing day; of what is no day, as it is now."""
    try:
        end = datetime.strptime(f"{day_obs:08d}", "%Y%m%d").replace(tzinfo=UTC) + timedelta(days=1)
    except (ValueError, OverflowError):
        end = datetime.now(UTC)
    tai_ns = int(end.timestamp()) * _NS
    return (tai_ns - cast("int", utc_ns(tai_ns))) / _NS
