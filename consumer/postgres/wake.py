"""Waiting until the tables may have changed: the only place that listens to PostgreSQL's notifications.

The replicas send one after what they have committed, with their heartbeats. Where a session cannot listen (behind a
pooler, on a read replica, while the server is away) a second passes for one. Delivery: none. A notification can be lost
and can come without a reason; a waiter reads the tables again, and looks now and then without being woken.
"""

from collections.abc import Callable
from time import monotonic, sleep
from types import TracebackType
from typing import Self

import psycopg

from consumer.config import DatabaseSettings
from consumer.errors import VisitConsumerError
from consumer.postgres.connection import Database
from consumer.postgres.sql_files import statements

_POLL_S = 1.0
_LOOK_AT_STOP_EVERY_S = 0.25
_LISTEN_AGAIN_AFTER_S = 10.0


def _never() -> bool:
    return False


class Wake:
    """Listens with a session of its own, which is opened at the first wait. Not thread-safe; a context manager.

    Parameters
    ----------
    settings
        Where; any role may listen.
    application_name
        What ``pg_stat_activity`` shows.
    """

    def __init__(self, settings: DatabaseSettings, *, application_name: str) -> None:
        self._database = Database(settings, application_name=application_name)
        self._listening: psycopg.Connection[tuple[object, ...]] | None = None
        self._listen_at_s = 0.0

    def wait(self, timeout_s: float, stopped: Callable[[], bool] = _never) -> bool:
        """Wait until the tables may have changed, or the time is over.

        The first wait of a session returns at once: what was committed before it listened is not announced again.

        Parameters
        ----------
        timeout_s
            How long at most, seconds.
        stopped
            Ends the wait where it returns True; asked each quarter of a second.

        Returns
        -------
        changed
            Whether the tables may have changed.
        """
        end_s = monotonic() + timeout_s
        if self._listening is None and monotonic() >= self._listen_at_s and self._listen():
            return True
        # Who cannot listen looks each second, whether or not anything has changed.
        polls = self._listening is None
        if polls:
            end_s = min(end_s, monotonic() + _POLL_S)
        while (left_s := end_s - monotonic()) > 0 and not stopped():
            if self._notified(min(left_s, _LOOK_AT_STOP_EVERY_S)):
                return True
        return polls and not stopped()

    def close(self) -> None:
        """End the session."""
        self._listening = None
        self._database.close()

    def __enter__(self) -> Self:
        """Return the waiter itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the session."""
        self.close()

    def _listen(self) -> bool:
        try:
            connection = self._database.connection()
            if self._database.pooled:
                raise psycopg.NotSupportedError("a pooler hands no notification on")
            connection.execute(statements("replicas")["listen"])
        except (psycopg.Error, VisitConsumerError):
            self.close()
            self._listen_at_s = monotonic() + _LISTEN_AGAIN_AFTER_S
            return False
        self._listening = connection
        return True

    def _notified(self, timeout_s: float) -> bool:
        if self._listening is None:
            sleep(timeout_s)
            return False
        try:
            found = list(self._listening.notifies(timeout=timeout_s, stop_after=1))
        except psycopg.Error:
            self.close()
            return False
        return any(each.payload == self._database.schema for each in found)
