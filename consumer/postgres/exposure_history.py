"""Reading what became of one exposure."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, cast

from consumer.domain import KnownExposure
from consumer.domain.closing import OpenGroup
from consumer.model import GroupKey
from consumer.postgres.batch_tables import BatchTransaction
from consumer.postgres.connection import Database
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """All that is stored of one exposure of one instrument."""

    instrument: str | None
    exposure: KnownExposure | None
    """None where no raw of it was stored."""
    first_seen_at: datetime | None
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
                    members=(),
                    visits=(),
                    waiting=None,
                    dead_letters=tuple(DeadLetterTrace(*row) for row in letters),  # type: ignore[arg-type]  # the columns' types
                    unattributed=unattributed,
                )
            ]
        traces = []
        for row in rows:
            known = exposure_from_row(row[:-2])
            own = {"exposure": exposure, "instrument": known.record.instrument, "group_key": known.group.key}
            opened = session.rows("explain", "open_group", own)
            traces.append(
                Trace(
                    instrument=known.record.instrument,
                    exposure=known,
                    first_seen_at=cast("datetime", row[-2]),
                    members=tuple(BatchTransaction(session).group_members([known.group])),
                    visits=tuple(VisitTrace(*each) for each in session.rows("explain", "visits", own)),  # type: ignore[arg-type]  # the columns' types
                    waiting=_open(known.group, opened[0]) if opened else None,
                    dead_letters=tuple(DeadLetterTrace(*each) for each in session.rows("explain", "dead_letters", own)),  # type: ignore[arg-type]  # the columns' types
                    unattributed=unattributed,
                )
            )
        return traces


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
