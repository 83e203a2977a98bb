"""What is announced of a visit's revision, as ``schemas/visit_defined.avsc`` has it. Reads no clock, sends nothing."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from consumer.domain import VisitKey
from consumer.events import VISIT_DEFINED, encode_record
from consumer.model import Exposure, VisitAggregate, VisitDefinition, VisitRecords
from consumer.regions.polygons import s_region


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedVisit:
    """What was stored of a visit that exists no longer."""

    instrument: str
    id: int
    revision: int
    """One more than the last that was stored: a visit of this id that is defined again counts on from it."""
    name: str
    complete: bool | None
    close_reason: str
    day_obs: int
    physical_filter: str | None
    timespan_begin: int | None
    timespan_end: int | None
    region: bytes


Announce = Callable[[VisitRecords | RemovedVisit, int], bytes]
"""Encodes the announcement of a visit's revision."""


_MOST_EXPOSURES = 10_000
"""More are not listed: their ids would take 100 kB of a message that may have 1 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """One row of the outbox: a revision of a visit that was committed, and is to be sent."""

    id: int
    """Ascending in the order of the revisions of one visit."""
    instrument: str
    visit: int
    payload: bytes

    @property
    def key(self) -> bytes:
        """The message's key: the revisions of one visit share a partition."""
        return f"{self.instrument}/{self.visit}".encode()


class Sent(NamedTuple):
    """What became of announcements that were given to the brokers."""

    acknowledged: list[int]
    """Ids of those that the brokers have; any other may have arrived or not."""
    complaint: str
    """What the brokers said of the others, where there are any."""


def encode_announcement(records: VisitRecords | RemovedVisit, revision: int, *, defined_at_us: int) -> bytes:
    """Encode what is announced of a visit, in Avro single-object encoding.

    Parameters
    ----------
    records
        Every row of the visit, or what was stored of one that exists no longer.
    revision
        1 for a new visit, one more for each change of it.
    defined_at_us
        When the revision is written, UTC microseconds since the Unix epoch.

    Returns
    -------
    payload
        A message's value.

    Raises
    ------
    RegionError
        The visit's region is not the encoding of a polygon.
    """
    if isinstance(records, RemovedVisit):
        visit: VisitDefinition | RemovedVisit = records
        aggregate: VisitAggregate | RemovedVisit = records
        region, change = records.region, "removed"
        systems: Sequence[int] = ()
        exposures: Sequence[Exposure] = ()
    else:
        visit, aggregate, region = records.definition, records.aggregate, records.regions.visit
        change = "new" if revision == 1 else "updated"
        systems, exposures = records.definition.visit_systems, records.definition.exposures
    begin, end = aggregate.timespan_begin, aggregate.timespan_end
    return encode_record(
        {
            "instrument": visit.instrument,
            "visit": visit.id,
            "name": visit.name,
            "visit_systems": list(systems),
            "revision": revision,
            "change": change,
            "complete": visit.complete,
            "close_reason": str(records.close_reason),
            "exposures": [exposure.id for exposure in exposures] if len(exposures) <= _MOST_EXPOSURES else [],
            "exposure_count": len(exposures),
            "day_obs": aggregate.day_obs,
            "physical_filter": aggregate.physical_filter,
            "timespan": None if begin is None or end is None else {"begin": begin, "end": end},
            "region": region,
            "s_region": s_region(region),
            "defined_at": defined_at_us,
        },
        VISIT_DEFINED,
    )


def announcer(topic: str | None, *, now_ns: Callable[[], int]) -> Announce | None:
    """Return what encodes announcements for the outbox, or None where visits are not announced.

    Parameters
    ----------
    topic
        Of the announcements; None: there are none.
    now_ns
        The wall clock, UTC nanoseconds since the Unix epoch.
    """
    if not topic:
        return None
    return lambda records, revision: encode_announcement(records, revision, defined_at_us=now_ns() // 1000)


def outbox_rows(
    visits: Iterable[VisitRecords], revisions: Mapping[VisitKey, int], announce: Announce
) -> list[tuple[str, int, int, bytes]]:
    """Make the outbox rows of visits that were written: instrument, visit, revision, payload."""
    keyed = ((VisitKey(each.definition.instrument, each.definition.id), each) for each in visits)
    return [(*key, revisions[key], announce(each, revisions[key])) for key, each in keyed]


def removal_rows(removed: Iterable[RemovedVisit], announce: Announce) -> list[tuple[str, int, int, bytes]]:
    """Make the outbox rows of visits that were removed; see `outbox_rows`."""
    return [(each.instrument, each.id, each.revision, announce(each, each.revision)) for each in removed]


def one_revision_each(announcements: Sequence[Announcement]) -> Sequence[Announcement]:
    """Cut announcements before the first that repeats a visit.

    A later revision is sent only once the earlier one is acknowledged: whatever becomes of each message of a batch,
    no reader sees the second before the first.
    """
    seen: set[tuple[str, int]] = set()
    for number, each in enumerate(announcements):
        if (each.instrument, each.visit) in seen:
            return announcements[:number]
        seen.add((each.instrument, each.visit))
    return announcements
