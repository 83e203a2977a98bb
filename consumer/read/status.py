"""What the tables know of the service as a whole: positions, open groups, dead letters, announcements to be sent."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from consumer.postgres.connection import Database
from consumer.postgres.dead_letters import DeadLetterStatus
from consumer.postgres.offsets import ListedPosition, list_positions


@dataclass(frozen=True, slots=True, kw_only=True)
class TablesStatus:
    """One moment of the tables."""

    schema_version: int
    """Of the last migration that was applied."""
    positions: tuple[ListedPosition, ...]
    """Of every consumer group, ordered by their keys."""
    open_groups: int
    dead_letters: Mapping[tuple[str, DeadLetterStatus], int]
    """By reason and status; pairs without any are missing."""
    unsent_announcements: int


def read_status(database: Database) -> TablesStatus:
    """Read how the service stands, at one moment; needs a session of the reader role."""
    with database.snapshot() as session:
        ((schema_version, open_groups, unsent),) = cast("list[tuple[int, int, int]]", session.rows("read", "status"))
        letters = cast("list[tuple[str, str, int]]", session.rows("read", "dead_letters"))
        return TablesStatus(
            schema_version=schema_version,
            positions=tuple(list_positions(session)),
            open_groups=open_groups,
            dead_letters={(reason, DeadLetterStatus(status)): count for reason, status, count in letters},
            unsent_announcements=unsent,
        )


def read_positions(database: Database) -> list[ListedPosition]:
    """Read the stored positions of every consumer group, ordered by their keys; needs a session of the reader role."""
    with database.snapshot() as session:
        return list_positions(session)
