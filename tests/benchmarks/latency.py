"""*Latency*: an exposure of 205 raws each second; from its first raw produced to its visit seen by another session."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import quantiles
from typing import Any

import psycopg
from confluent_kafka import Producer

from consumer.simulation import message_value, simulate_night
from tests.benchmarks.servers import INSTRUMENT, Servers, night
from tests.benchmarks.throughput import replicas

_LOOK_EVERY_S = 0.002
_NEWER = "SELECT id FROM visits.visit WHERE instrument = %s AND id > %s"
_WARM_UP = 3
"""Exposures before those that count: a new process plans its statements and loads its camera."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds for each visit, in the order of exposures."""

    milliseconds: Sequence[float]

    @property
    def p50(self) -> float:
        """The median."""
        return quantiles(self.milliseconds, n=100)[49]

    @property
    def p99(self) -> float:
        """The 99th percentile."""
        return quantiles(self.milliseconds, n=100, method="inclusive")[98]

    @property
    def worst(self) -> float:
        """The largest."""
        return max(self.milliseconds)


def measure(
    servers: Servers,
    topic: str,
    dsn: str,
    seconds: int,
    *,
    day_obs: int = 20261101,
    **sections: Mapping[str, Any],
) -> Latency:
    """Produce one exposure a second of this night, all its raws at once, and watch the table of visits."""
    settings = night(seconds + _WARM_UP, disorder_s=0.0, day_obs=day_obs)
    exposures = [
        (raws[0].raw.exposure.id, [(each.key, message_value(each)) for each in raws])
        for _, group in groupby(simulate_night(settings), lambda each: each.ordinal)
        for raws in (list(group),)
    ]
    produced: dict[int, float] = {}
    seen: dict[int, float] = {}
    with replicas(servers.settings(topic, dsn, **sections)) as (replica,):
        replica.wait_ready()
        watcher = threading.Thread(target=_watch, args=(dsn, exposures[0][0], len(exposures), seen), daemon=True)
        watcher.start()
        producer = Producer({"bootstrap.servers": servers.kafka.bootstrap, "linger.ms": 0, "compression.type": "lz4"})
        began = time.monotonic()
        for number, (exposure, messages) in enumerate(exposures):
            time.sleep(max(0.0, began + number - time.monotonic()))
            produced[exposure] = time.monotonic()
            for key, value in messages:
                producer.produce(topic, value, key)
            producer.flush(10)
        watcher.join(30)
    if len(seen) < len(exposures):
        raise RuntimeError(f"{len(exposures) - len(seen)} visits were never seen")
    counted = [exposure for exposure, _ in exposures[_WARM_UP:]]
    return Latency([1000 * (seen[exposure] - produced[exposure]) for exposure in counted])


def _watch(dsn: str, first: int, number: int, seen: dict[int, float]) -> None:
    deadline = time.monotonic() + number + 60
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=0) as session:
        while len(seen) < number and time.monotonic() < deadline:
            latest = max(seen, default=first - 1)
            for (visit,) in session.execute(_NEWER, [INSTRUMENT, latest]).fetchall():
                seen[visit] = time.monotonic()
            time.sleep(_LOOK_EVERY_S)
