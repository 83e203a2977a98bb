"""The heartbeats of replicas: one row each, which says that a process lives and what it reads.

Delivery: none. A heartbeat is written without waiting for the disk, and the next one replaces it. Its notification may
be lost: who listens looks now and then without one (`consumer.postgres.wake`).
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime

from consumer.errors import VisitConsumerError
from consumer.postgres.connection import Database
from consumer.postgres.row_codecs import storable

HEARTBEAT_SESSION = {"synchronous_commit": "off"}
"""Settings of a session that only writes heartbeats: none of them is worth a wait for the disk."""


class Heartbeats:
    """The table ``replica``, as one replica writes it.

    Parameters
    ----------
    database
        A session of its own, so that no heartbeat waits for a batch and no batch for a heartbeat.
    owner, consumer_group, version
        Of the replica.
    """

    def __init__(self, database: Database, *, owner: str, consumer_group: str, version: str) -> None:
        self._database = database
        self._named = {"owner": owner, "consumer_group": consumer_group, "version": version}

    def beat(
        self,
        state: str,
        reasons: Sequence[str],
        partitions: Sequence[Mapping[str, object]],
        *,
        started_at: datetime,
        wakes: bool,
    ) -> None:
        """Write the row.

        Parameters
        ----------
        state
            One word: ``running``, ``waiting`` or ``stopping``.
        reasons
            Why the replica is not ready.
        partitions
            What it is assigned, JSON values.
        started_at
            Of the process, UTC.
        wakes
            Whether others are woken, because the replica has committed something.
        """
        with self._database.transaction() as session:
            if wakes:
                session.run_later("replicas", "wake", {"schema": self._database.schema})
            session.run(
                "replicas",
                "beat",
                self._named
                | {
                    "state": state,
                    "reasons": [storable(each) for each in reasons],
                    "partitions": json.dumps([_storable_values(each) for each in partitions]),
                    "started_at": started_at,
                },
            )

    def remove_silent(self, seconds: float) -> None:
        """Remove the rows of replicas that were not heard of for so long."""
        with self._database.transaction() as session:
            session.run("replicas", "remove_silent", {"seconds": seconds})

    def leave(self) -> None:
        """Remove the replica's own row, where the database answers, and end the session."""
        with suppress(VisitConsumerError), self._database.transaction() as session:
            session.run("replicas", "remove", {"owner": self._named["owner"]})
        self._database.close()

    def close(self) -> None:
        """End the session; the next heartbeat opens another."""
        self._database.close()


def _storable_values(values: Mapping[str, object]) -> dict[str, object]:
    return {name: storable(value) if isinstance(value, str) else value for name, value in values.items()}
