"""*Throughput*: one replica as its own process reads a full topic flat out, from the first event to the last commit."""

import contextlib
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

from tests.benchmarks.processes import cpu_seconds, family, memory_mb
from tests.benchmarks.servers import DETECTORS, Servers
from tests.support.service import Replica

_LOOK_EVERY_S = 0.01
_READ = "SELECT coalesce(sum(next_offset), 0) FROM visits.consumer_offset"


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """One run of one or more replicas."""

    events: int
    seconds: float
    """From the moment that the first partition was claimed to the last commit, as another session sees it."""
    cpu_s: float
    """Processor time of the replicas in these seconds."""
    postgres_cpu_s: float
    broker_cpu_s: float
    peak_mb: float
    """Largest memory of a replica, 10^6 bytes."""
    stages_s: Mapping[str, float]
    """The replica's own account: seconds by stage, all batches."""
    batches: float

    @property
    def events_per_s(self) -> float:
        """Events committed each second."""
        return self.events / self.seconds

    @property
    def visits_per_s(self) -> float:
        """Visits of 205 detectors committed each second."""
        return self.events_per_s / DETECTORS


@contextlib.contextmanager
def replicas(settings: Mapping[str, Any], number: int = 1) -> Iterator[list[Replica]]:
    """Run replicas of one group for the length of the block."""
    with tempfile.TemporaryDirectory(prefix="visit-consumer-bench-") as folder, contextlib.ExitStack() as stack:
        yield [stack.enter_context(Replica(Path(folder), settings, name=f"replica-{n}")) for n in range(number)]


def flat_out(
    servers: Servers,
    topic: str,
    events: int,
    dsn: str,
    *,
    before: int = 0,
    number: int = 1,
    **sections: Mapping[str, Any],
) -> Throughput:
    """Read a topic that is full when the replicas start.

    Parameters
    ----------
    servers, topic, dsn
        Where.
    events
        Messages to read until the clock is stopped.
    before
        Messages of the topic that are committed already.
    number
        Replicas, of one group.
    **sections
        Of the settings.
    """
    server_pids = family(servers.postgres.pid)
    with (
        psycopg.connect(dsn, autocommit=True) as session,
        replicas(servers.settings(topic, dsn, **sections), number) as them,
    ):
        them[0].wait_for_line("partition claimed")
        cpu = {each.pid: cpu_seconds(each.pid) for each in them}
        broker_cpu, server_cpu = cpu_seconds(servers.kafka.brokers[0].pid), cpu_seconds(*server_pids)
        backends_cpu = 0.0
        while (row := session.execute(_READ).fetchone()) is not None and row[0] < before + events:
            if not all(each.running for each in them):
                raise RuntimeError(f"a replica has ended\n{them[0].log_tail()}")
            backends_cpu = cpu_seconds(*(set(family(servers.postgres.pid)) - set(server_pids)))
            time.sleep(_LOOK_EVERY_S)
        ended = time.time()
        began = min(
            datetime.fromisoformat(each.lines("partition claimed")[0]["timestamp"]).timestamp() for each in them
        )
        return Throughput(
            events=events,
            seconds=ended - began,
            cpu_s=sum(cpu_seconds(pid) - used for pid, used in cpu.items()),
            postgres_cpu_s=cpu_seconds(*server_pids) - server_cpu + backends_cpu,
            broker_cpu_s=cpu_seconds(servers.kafka.brokers[0].pid) - broker_cpu,
            peak_mb=max(memory_mb(each.pid, peak=True) for each in them),
            stages_s={
                stage: sum(each.metric("visit_consumer_stage_duration_seconds_sum", stage=stage) for each in them)
                for stage in ("decode", "group", "region", "write", "commit")
            },
            batches=sum(each.metric("visit_consumer_batches_total") for each in them),
        )
