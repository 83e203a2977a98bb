"""What went wrong and is still open: dead letters, and what the last audits found."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from consumer.postgres.connection import Database
from consumer.read.audit.finding import FindingSeverity
from consumer.read.audit.last import read_last_audits

_FIRST_LINES = 3
_FINDINGS = 50


class DeadLetterLine(NamedTuple):
    """One open dead letter, without its message."""

    id: int
    reason: str
    detail: str
    instrument: str | None
    exposure: int | None
    group: str | None
    topic: str | None
    partition: int | None
    offset: int | None
    recorded_at: datetime


class FindingLine(NamedTuple):
    """What an audit found; see `consumer.read.audit.finding`."""

    rule: str
    severity: str
    subject: str
    subjects: str
    found: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLines:
    """The last audit of an instrument's newest audited night."""

    instrument: str
    day_obs: int
    audited_at: datetime
    errors: int
    warnings: int
    findings: list[FindingLine]
    """The first ones."""


def read_first_dead_letters(database: Database) -> list[DeadLetterLine]:
    """Read the oldest open dead letters of each reason."""
    with database.snapshot() as session:
        rows = session.rows("page", "first_dead_letters", {"limit": _FIRST_LINES})
    return [DeadLetterLine(*row) for row in rows]  # type: ignore[arg-type]  # the columns' types


def read_dead_letter_page(
    database: Database, *, after: int, limit: int, reason: str | None = None
) -> list[DeadLetterLine]:
    """Read open dead letters, oldest first: at most `limit`, with larger ids than `after`."""
    with database.snapshot() as session:
        rows = session.rows("page", "dead_letters", {"after": after, "limit": limit, "reason": reason})
    return [DeadLetterLine(*row) for row in rows]  # type: ignore[arg-type]  # the columns' types


def read_audit_lines(database: Database) -> list[AuditLines]:
    """Read the last audit of each instrument with its first findings."""
    found = []
    for run in read_last_audits(database):
        own = {"instrument": run.instrument, "day_obs": run.day_obs, "limit": _FINDINGS}
        with database.snapshot() as session:
            rows = session.rows("page", "findings", own)
        found.append(
            AuditLines(
                instrument=run.instrument,
                day_obs=run.day_obs,
                audited_at=run.audited_at,
                errors=run.found[FindingSeverity.ERROR],
                warnings=run.found[FindingSeverity.WARNING],
                findings=[FindingLine(*row) for row in rows],  # type: ignore[arg-type]  # the columns' types
            )
        )
    return found
