"""Dead letters: choosing, reading and closing them."""

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, cast

from consumer.postgres.connection import Database

_PAGE = 500


class DeadLetterStatus(StrEnum):
    """What became of a dead letter."""

    OPEN = "open"
    REPLAYED = "replayed"
    """Its message was produced again."""
    DISCARDED = "discarded"
    RESOLVED = "resolved"
    """Its group or exposure is a visit after all."""


class StoredDeadLetter(NamedTuple):
    """One row of ``dead_letter``; see its columns."""

    id: int
    reason: str
    detail: str
    instrument: str | None
    exposure: int | None
    group_key: str | None
    cluster_id: str | None
    topic: str | None
    topic_id: str | None
    partition: int | None
    offset: int | None
    key: bytes | None
    value: bytes | None
    message_at: datetime | None
    status: str
    recorded_at: datetime
    settled_at: datetime | None

    @property
    def is_message(self) -> bool:
        """Whether it is one of a message; otherwise it is of a group or of an exposure."""
        return self.topic is not None and self.partition is not None and self.offset is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterFilter:
    """Which dead letters; what is None chooses nothing out."""

    ids: list[int] | None = None
    reasons: list[str] | None = None
    statuses: list[str] | None = None
    instrument: str | None = None
    exposure: int | None = None
    topic: str | None = None
    partition: int | None = None
    first_offset: int | None = None
    last_offset: int | None = None
    """Inclusive."""
    since: datetime | None = None
    """Recorded at this time or later."""
    until: datetime | None = None
    """Recorded before this time."""


class DeadLetters:
    """The table ``dead_letter``.

    Parameters
    ----------
    database
        A session of the writer role, or of the reader role where nothing is closed.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def choose(self, choice: DeadLetterFilter, *, limit: int | None = None) -> Iterator[StoredDeadLetter]:
        """Read dead letters in order of their ids, page by page, each page in a transaction of its own."""
        after, left = 0, limit
        while left is None or left > 0:
            page = _PAGE if left is None else min(left, _PAGE)
            with self._database.transaction() as session:
                rows = session.rows("dead_letters", "choose", {**asdict(choice), "after": after, "limit": page})
            letters = [StoredDeadLetter(*row) for row in rows]  # type: ignore[arg-type]  # the columns' types
            yield from letters
            if len(letters) < page:
                return
            after = letters[-1].id
            left = None if left is None else left - page

    def close(self, ids: Collection[int], status: DeadLetterStatus, *, before: Collection[str]) -> set[int]:
        """Mark dead letters; return those that had one of the statuses `before`, and so are marked now."""
        parameters = {"ids": sorted(ids), "status": status.value, "before": sorted(before)}
        with self._database.transaction() as session:
            return {cast("int", row[0]) for row in session.rows("dead_letters", "close", parameters)}
