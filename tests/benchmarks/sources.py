"""*Sources*: how fast one emitter turns sidecars of a folder into events, against reading and parsing them alone.

All in one thread, by the processor time of that thread: other work of the machine slows both alike.
The brokers are left out, as an emitter leaves them out: librdkafka sends from threads of its own.
"""

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from consumer.config import Settings, load_settings
from consumer.process import tune_interpreter
from consumer.sources.configured import configured_places, configured_translator, header_limits
from consumer.sources.detector_names import DetectorNames
from consumer.sources.interfaces import EmitCommand, FoundObject
from consumer.sources.object_stores import ObjectStores
from consumer.sources.place_reader import PlaceReader
from consumer.sources.places import Place
from tests.support.emitting import Bench
from tests.support.sidecars import sidecars, write

_AT_ONCE = 100


def measure(exposures: int) -> dict[str, float]:
    """Return sidecars a second: ``parsed`` by the standard library, ``read`` by our reader, and ``emitted``."""
    settings = load_settings(None, {}, below={"kafka": {"bootstrap_servers": "unused:1"}, "database": {"conninfo": ""}})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [file for number in range(1, exposures + 1) for file in sidecars(number)]
        for file in files:
            write(folder, file)
        (place,) = configured_places(settings.source, [folder]).places
        keys = [file.key for file in files]
        return {
            "parsed_per_s": len(keys) / _seconds(lambda: _parse(folder, keys)),
            "read_per_s": len(keys) / _seconds(lambda: _read(settings, place, keys)),
            "emitted_per_s": len(keys) / _seconds(lambda: _emit(settings, place, keys)),
        }


def _parse(folder: Path, keys: Sequence[str]) -> None:
    for key in keys:
        with (folder / key).open("rb") as stream:
            json.load(stream)


def _read(settings: Settings, place: Place, keys: Sequence[str]) -> None:
    reader = PlaceReader(ObjectStores(), header_limits(settings.source))
    for key in keys:
        reader.read_raw(place, key)


def _emit(settings: Settings, place: Place, keys: Sequence[str]) -> None:
    translator = configured_translator(settings)
    bench = Bench(
        place,
        reader=PlaceReader(ObjectStores(), header_limits(settings.source)),
        translator=translator,
        detector_ids=DetectorNames(translator.detector_ids).ids,
    )
    for start in range(0, len(keys), _AT_ONCE):
        for key in keys[start : start + _AT_ONCE]:
            bench.pipeline.offer(
                FoundObject(place=place, key=key, tag="", command=EmitCommand.WATCH, done=lambda: None)
            )
        bench.pipeline.step(0)
    if len(bench.producer.sent) != len(keys):
        raise RuntimeError(f"{len(bench.producer.sent)} events of {len(keys)} sidecars")


def _seconds(run: Callable[[], Any]) -> float:
    run()  # once before, for what is loaded at first
    tune_interpreter()
    began_s = time.thread_time()
    run()
    return time.thread_time() - began_s
