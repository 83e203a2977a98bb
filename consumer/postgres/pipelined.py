"""Statements that are sent together, each with an end of its own, so that PostgreSQL's timeouts go on counting.

PostgreSQL takes a session for idle in its transaction, and ends it in time, only while it waits for a request after it
has said that it is ready for one, which it says after a Sync. psycopg's own pipeline sends one Sync for all statements,
and a Flush behind it: a client that is frozen between two of these messages keeps its locks for as long as it is.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.abc import PQGen


class StatementPipeline(psycopg.Pipeline):
    """psycopg's pipeline, which ends with the Sync of its last statement."""

    def end_statement(self) -> None:
        """Send a Sync behind the statement that was executed last; `psycopg.Pipeline.sync` waits for all answers."""
        self._enqueue_sync()

    def _exit_gen(self) -> PQGen[None]:
        # A statement that failed before its Sync was sent would wait for its answer for ever.
        if self.result_queue and self.result_queue[-1] is not None:
            self._enqueue_sync()
        yield from self._communicate_gen()
        yield from self._fetch_gen(flush=False)


@contextmanager
def pipelined(connection: psycopg.Connection[tuple[object, ...]]) -> Iterator[StatementPipeline]:
    """Send the statements of the body together; their answers are there when it ends, which raises the first error."""
    pipeline = StatementPipeline(connection)
    connection._pipeline = pipeline  # noqa: SLF001 -- psycopg has no way to give it another class
    try:
        with pipeline:
            yield pipeline
    finally:
        connection._pipeline = None  # noqa: SLF001
