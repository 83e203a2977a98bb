"""What the tables know of the service as a whole: positions, open groups, dead letters, announcements to be sent."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from consumer.postgres.connection import Database
from consumer.postgres.offsets import ListedPosition, list_positions


@dataclass(frozen=True, slots=True, kw_only=True)
class TablesStatus:
    """One moment of the tables."""

    positions: tuple[ListedPosition, ...]
    """Of every consumer group, ordered by their keys."""
    open_groups: int
    open_dead_letters: Mapping[str, int]
    """By reason."""
    unsent_announcements: int


def read_status(database: Database) -> TablesStatus:
    """Read how the service stands, at one moment; needs a session of the reader role."""
    with database.transaction() as session:
        return TablesStatus(
            positions=tuple(list_positions(session)),
            open_groups=cast("int", session.rows("read", "open_groups")[0][0]),
            open_dead_letters=dict(cast("list[tuple[str, int]]", session.rows("read", "open_dead_letters"))),
            unsent_announcements=cast("int", session.rows("read", "unsent_announcements")[0][0]),
        )
