"""What the last audits found: for metrics, the page and boards."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from consumer.postgres.connection import Database
from consumer.read.audit.finding import FindingSeverity


@dataclass(frozen=True, slots=True, kw_only=True)
class LastAudit:
    """The last audit of the newest audited night of an instrument."""

    instrument: str
    day_obs: int
    audited_at: datetime
    found: Mapping[str, int]
    """Number of findings, by severity: see `FindingSeverity`."""


def read_last_audits(database: Database) -> list[LastAudit]:
    """Read the last audit of each instrument, ordered by its name; needs a session of the reader role."""
    with database.snapshot() as session:
        rows = session.rows("audit", "last_runs")
    return [
        LastAudit(
            instrument=cast("str", instrument),
            day_obs=cast("int", day_obs),
            audited_at=cast("datetime", audited_at),
            found={FindingSeverity.ERROR: cast("int", errors), FindingSeverity.WARNING: cast("int", warnings)},
        )
        for instrument, day_obs, audited_at, errors, warnings in rows
    ]
