"""*Landing*: the 205 sidecars of an exposure land in a watched folder at once; from then to its visit with all raws."""

import tempfile
import time
from pathlib import Path

from tests.benchmarks.latency import Latency
from tests.benchmarks.servers import DETECTORS, Servers
from tests.benchmarks.throughput import replicas
from tests.support.emitters import emitter, raws_stored, visits_stored
from tests.support.sidecars import sidecars, write

_WARM_UP = 2
"""Exposures before those that count: a new process plans its statements and loads its camera."""
_LOOK_EVERY_S = 0.01
_GIVE_UP_S = 60.0


def measure(servers: Servers, topic: str, dsn: str, *, exposures: int, every_s: float) -> Latency:
    """Let so many exposures land, one after the other; emitter and service are processes of their own."""
    source = {"waiting_topic": servers.new_topic("waiting"), "rejected_topic": servers.new_topic("rejected")}
    settings = servers.settings(topic, dsn, source={**source, "http_port": 0})
    took_ms: list[float] = []
    with (
        tempfile.TemporaryDirectory(prefix="visit-consumer-bench-") as name,
        replicas(settings) as (service,),
    ):
        raws = Path(name, "raws")
        raws.mkdir()
        with emitter(Path(name), settings, "watch", str(raws)) as watching:
            service.wait_ready()
            watching.wait_until(lambda: watching.get("/readyz").status == 200, what="/readyz")
            for number in range(1, _WARM_UP + exposures + 1):
                began_s = time.monotonic()
                for file in sidecars(number):
                    write(raws, file)
                landed_s = time.monotonic()
                while len(visits_stored(dsn)) < number or raws_stored(dsn) < DETECTORS * number:
                    if time.monotonic() > landed_s + _GIVE_UP_S:
                        raise RuntimeError(f"exposure {number} was not there after {_GIVE_UP_S:.0f} s")
                    time.sleep(_LOOK_EVERY_S)
                took_ms.append(1000 * (time.monotonic() - landed_s))
                time.sleep(max(0.0, began_s + every_s - time.monotonic()))
    return Latency(took_ms[_WARM_UP:])
