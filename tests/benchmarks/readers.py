"""Asks what people on shift ask, twenty times a second, of a database that a replica writes to; ends with its input.

Arguments: a settings file. It reads what it asks for from the tables as they fill.
"""

import json
import sys
import threading
import time
from itertools import cycle
from pathlib import Path

from consumer.config import Settings
from consumer.postgres.connection import Database
from consumer.read.explain import explain_exposure
from consumer.read.find import find_visits
from consumer.read.overview import read_overview

_EVERY_S = 0.05

settings = Settings(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
ended = threading.Event()


def _end_with_input() -> None:
    sys.stdin.read()
    ended.set()


threading.Thread(target=_end_with_input, daemon=True).start()
number, took_s = 0, 0.0
with Database(settings.database, application_name="reader") as database:
    for number in cycle(range(900)):
        if ended.is_set():
            break
        started = time.perf_counter()
        if number % 10 == 0:
            read_overview(database)
        elif number % 2:
            explain_exposure(database, settings, 2026110100001 + number)
        else:
            find_visits(database, number * 0.4, -25.0)
        took_s = max(took_s, time.perf_counter() - started)
        ended.wait(max(0.0, _EVERY_S - (time.perf_counter() - started)))
sys.stdout.write(json.dumps({"slowest_ms": 1000 * took_s}))
