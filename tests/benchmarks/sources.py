"""*Sources*: how fast one emitter turns sidecars of a folder into events, against reading and parsing them alone.

All in one thread, by the processor time of that thread: other work of the machine slows both alike.
The brokers are left out, as an emitter leaves them out: librdkafka sends from threads of its own.
"""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from consumer.config import load_settings
from consumer.sources.configured import configured_places
from consumer.sources.detector_names import DetectorNames
from consumer.sources.interfaces import FoundObject, Lister
from consumer.sources.object_stores import ObjectStores
from consumer.sources.pipeline import build_pipeline
from consumer.sources.place_reader import PlaceReader
from tests.support.emitting import Bench
from tests.support.sidecars import sidecars, write

_AT_ONCE = 100


def measure(exposures: int) -> dict[str, float]:
    """Return sidecars a second: ``parsed`` by the standard library, ``read`` by our reader, and ``emitted``."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keys = []
        for number in range(1, exposures + 1):
            for file in sidecars(number):
                write(folder, file)
                keys.append(file.key)
        settings = load_settings(
            None, {}, below={"kafka": {"bootstrap_servers": "unused:1"}, "database": {"conninfo": ""}}
        )
        (place,) = configured_places(settings.source, [folder]).places
        headers = build_pipeline(settings, now_us=lambda: 0)
        reader = PlaceReader(ObjectStores(), headers.limits)

        def parse() -> None:
            for key in keys:
                json.loads((folder / key).read_bytes())

        def read() -> None:
            for key in keys:
                reader.read_raw(place, key)

        def emit() -> None:
            bench = Bench(place, reader=reader, translator=headers.translator, detector_ids=DetectorNames(settings).ids)
            for start in range(0, len(keys), _AT_ONCE):
                for key in keys[start : start + _AT_ONCE]:
                    bench.pipeline.offer(
                        FoundObject(place=place, key=key, tag="", lister=Lister.WATCH, done=lambda: None)
                    )
                bench.pipeline.step(0)
            if len(bench.producer.sent) != len(keys):
                raise RuntimeError(f"{len(bench.producer.sent)} events of {len(keys)} sidecars")

        return {
            f"{name}_per_s": len(keys) / _seconds(run)
            for name, run in (("parsed", parse), ("read", read), ("emitted", emit))
        }


def _seconds(run: Callable[[], Any]) -> float:
    run()  # once before, for what is loaded and remembered at first
    began_s = time.thread_time()
    run()
    return time.thread_time() - began_s
