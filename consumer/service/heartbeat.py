"""The heartbeat of one replica: a thread that writes twice a second what the replica is doing, for ``status``.

It has a session of its own and reads snapshots of the reporter: neither the loop nor a batch waits for it, and nothing
depends on what it writes. While the database does not take it, it tries again. Where something was committed since the
last heartbeat, this one wakes all who listen: a notification in the batch's own transaction would let no two replicas
commit at once.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import Protocol

from consumer.errors import VisitConsumerError
from consumer.logs import get_logger
from consumer.service.runtime import Runtime
from consumer.web import HealthSource

_EVERY_S = 0.5
"""A third of what `consumer.read.overview` waits before it calls a replica silent."""
_LOOK_EVERY_S = 20.0
_FORGOTTEN_AFTER_S = 600.0
"""For so long ``status`` shows a replica that died; by then its partitions have another reader."""


class HeartbeatTable(Protocol):
    """Where heartbeats go; see `consumer.postgres.replicas.Heartbeats`."""

    def beat(
        self,
        state: str,
        reasons: Sequence[str],
        partitions: Sequence[Mapping[str, object]],
        *,
        started_at: datetime,
        wakes: bool,
    ) -> None:
        """Write the replica's row, and wake those that wait for rows of others."""

    def remove_silent(self, seconds: float) -> None:
        """Remove the rows of replicas that were not heard of for so long."""

    def leave(self) -> None:
        """Remove the replica's own row."""

    def close(self) -> None:
        """End the session; the next heartbeat opens another."""


class Heartbeat:
    """The thread that writes heartbeats.

    Parameters
    ----------
    table
        Where they go.
    source
        What the replica is doing.
    runtime
        Clocks, threads and pauses.
    look
        Called now and then: reads what others have written into the tables.
    """

    def __init__(
        self,
        table: HeartbeatTable,
        source: HealthSource,
        *,
        runtime: Runtime,
        look: Callable[[], None] = lambda: None,
    ) -> None:
        self._table = table
        self._source = source
        self._runtime = runtime
        self._stopping = runtime.new_stop_flag()
        self._running: Future[None] | None = None
        self._look = look
        self._look_at_s = 0.0
        self._counts: Mapping[str, int] = {}
        self._log = get_logger(__name__)

    def start(self) -> None:
        """Start the thread; nothing happens when it was started before."""
        if self._running is None and not self._stopping.is_set():
            worker = self._runtime.start_worker("heartbeat")
            self._running = worker.submit(self._run)
            worker.end()

    def close(self, timeout_s: float) -> None:
        """Remove the row and end the thread; one that is blocked in the database does not delay the exit."""
        self._stopping.set()
        if self._running is not None:
            try:
                self._running.result(timeout_s)
            except TimeoutError:
                self._log.warning("the heartbeat hangs and is left behind")

    def beat(self) -> None:
        """Write one heartbeat; now and then remove those of replicas that died, and look at what others wrote."""
        status, alive, ready = self._source.status(), self._source.alive(), self._source.ready()
        reasons = [*alive.reasons, *ready.reasons, *([] if status.kafka is None else [f"Kafka: {status.kafka}"])]
        partitions: list[dict[str, object]] = [
            {
                "topic": each.partition.topic,
                "partition": each.partition.partition,
                "state": each.state,
                "position": each.position,
                "lag": each.lag,
                "detail": each.detail,
            }
            for each in status.partitions
        ]
        wakes = status.counts != self._counts
        self._table.beat(status.state, reasons, partitions, started_at=status.started_at, wakes=wakes)
        self._counts = status.counts
        now_s = self._runtime.monotonic_s()
        if now_s >= self._look_at_s:
            self._table.remove_silent(_FORGOTTEN_AFTER_S)
            self._look()
            self._look_at_s = now_s + _LOOK_EVERY_S

    def _run(self) -> None:
        failed = False
        while not self._stopping.is_set():
            try:
                self.beat()
                failed = False
            except VisitConsumerError as error:
                # A session that was opened while the server was read only stays so.
                self._table.close()
                if not failed:
                    self._log.warning("no heartbeat is written", detail=str(error))
                failed = True
            self._stopping.wait(_EVERY_S)
        self._table.leave()
