"""Dead letters, as an operator chooses them."""

from consumer.postgres.connection import Database
from consumer.postgres.dead_letters import DeadLetterFilter, DeadLetters, StoredDeadLetter


def list_dead_letters(
    database: Database, choice: DeadLetterFilter, *, limit: int | None = None
) -> list[StoredDeadLetter]:
    """Read dead letters, oldest first.

    Parameters
    ----------
    database
        A session of the reader role.
    choice
        Which.
    limit
        At most so many; None: all.
    """
    return list(DeadLetters(database).choose(choice, limit=limit))
