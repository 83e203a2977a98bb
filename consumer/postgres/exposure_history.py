"""Reading what became of one exposure."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, cast

from consumer.domain import KnownExposure
from consumer.domain.closing import OpenGroup
from consumer.model import GroupKey
from consumer.postgres.batch_tables import BatchTransaction
from consumer.postgres.connection import Database, Session
from consumer.postgres.row_codecs import exposure_from_row


class VisitTrace(NamedTuple):
    """One visit that has the exposure; see the columns of table ``visit``."""

    id: int
    name: str
    complete: bool | None
    close_reason: str
    revision: int
    defined_at: datetime
    updated_at: datetime
    rule: str
    algorithm: str
    camera_version: str | None
    padding: int
    visit_systems: list[int]
    exposures: list[int]
    detector_regions: int


class OpenTrace(NamedTuple):
    """The open group in which the exposure waits, and the partition by whose clock it lives."""

    group: OpenGroup
    topic: str | None
    partition: int | None
    stream_time_ms: int | None
    """Where that clock stands, as stored, UTC milliseconds."""


class DeadLetterTrace(NamedTuple):
    """One dead letter of the exposure or of its group."""

    id: int
    reason: str
    detail: str
    status: str
    topic: str | None
    partition: int | None
    offset: int | None
    recorded_at: datetime
    settled_at: datetime | None
    """When it was closed, by an operator or because the reason is gone."""


class Neighbour(NamedTuple):
    """The exposure of the same night whose sequence number is the next one that is stored."""

    exposure: int
    seq_num: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """All that is stored of one exposure of one instrument."""

    instrument: str | None
    exposure: KnownExposure | None
    """None where no raw of it was stored."""
    first_seen_at: datetime | None
    updated_at: datetime | None
    """When the record or its raws changed last."""
    at: datetime | None
    """Of this answer, by the server's clock."""
    neighbours: tuple[Neighbour, ...]
    """Before and after it in the night's sequence, in this order; those that there are."""
    members: tuple[KnownExposure, ...]
    """The exposures of its group, itself among them."""
    visits: tuple[VisitTrace, ...]
    waiting: OpenTrace | None
    dead_letters: tuple[DeadLetterTrace, ...]
    unattributed: int
    """Open dead letters that may be of any exposure."""


def read_traces(database: Database, exposure: int, instrument: str | None) -> list[Trace]:
    """Read what is stored of an exposure, at one moment.

    Parameters
    ----------
    database
        A session of the reader role.
    exposure
        Its id.
    instrument
        None: of whichever instruments have an exposure of this id.

    Returns
    -------
    traces
        One for each instrument; at least one.
    """
    with database.snapshot() as session:
        named = {"exposure": exposure, "instrument": instrument}
        rows = session.rows("explain", "exposures", named)
        unattributed = cast("int", session.rows("explain", "unattributed")[0][0])
        if not rows:
            letters = session.rows("explain", "dead_letters", named | {"group_key": None})
            return [
                Trace(
                    instrument=instrument,
                    exposure=None,
                    first_seen_at=None,
                    updated_at=None,
                    at=None,
                    neighbours=(),
                    members=(),
                    visits=(),
                    waiting=None,
                    dead_letters=tuple(DeadLetterTrace(*row) for row in letters),  # type: ignore[arg-type]  # the columns' types
                    unattributed=unattributed,
                )
            ]
        traces = []
        for row in rows:
            known = exposure_from_row(row[:-3])
            own = {"exposure": exposure, "instrument": known.record.instrument, "group_key": known.group.key}
            opened = session.rows("explain", "open_group", own)
            traces.append(
                Trace(
                    instrument=known.record.instrument,
                    exposure=known,
                    first_seen_at=cast("datetime", row[-3]),
                    updated_at=cast("datetime", row[-2]),
                    at=cast("datetime", row[-1]),
                    neighbours=_neighbours(session, known),
                    members=tuple(BatchTransaction(session).group_members([known.group])),
                    visits=tuple(VisitTrace(*each) for each in session.rows("explain", "visits", own)),  # type: ignore[arg-type]  # the columns' types
                    waiting=_open(known.group, opened[0]) if opened else None,
                    dead_letters=tuple(DeadLetterTrace(*each) for each in session.rows("explain", "dead_letters", own)),  # type: ignore[arg-type]  # the columns' types
                    unattributed=unattributed,
                )
            )
        return traces


def find_exposures(
    database: Database, *, text: str | None = None, by: str, number: int | None = None, instrument: str | None = None
) -> list[tuple[str, int]]:
    """Find exposures by another name than their id; return their instruments and ids, in this order.

    Parameters
    ----------
    database
        A session of the reader role.
    by
        ``obs_id``, ``group`` or ``visit``.
    text, number
        The name, and the id of a visit.
    instrument
        None: of any.
    """
    with database.snapshot() as session:
        named = {"text": text, "number": number, "instrument": instrument}
        return cast("list[tuple[str, int]]", session.rows("explain", f"ids_of_{by}", named))


def _neighbours(session: Session, known: KnownExposure) -> tuple[Neighbour, ...]:
    record = known.record
    if record.seq_num is None:
        return ()
    named = {"instrument": record.instrument, "day_obs": record.day_obs, "seq_num": record.seq_num}
    return tuple(Neighbour(*row) for row in session.rows("explain", "neighbours", named))  # type: ignore[arg-type]  # the columns' types


def _open(key: GroupKey, row: tuple[object, ...]) -> OpenTrace:
    offset_id, opened, last, superseded, latest_begin, topic, partition, stream_time = row
    group = OpenGroup(
        key=key,
        offset_id=cast("int", offset_id),
        opened_ms=cast("int", opened),
        last_ms=cast("int", last),
        superseded_ms=cast("int | None", superseded),
        latest_begin=cast("int | None", latest_begin),
    )
    return OpenTrace(group, cast("str | None", topic), cast("int | None", partition), cast("int | None", stream_time))
