"""*Page*: how long the API takes with a survey in the tables, and what 200 open pages cost the consumer."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import psycopg

from tests.benchmarks.age import store_nights
from tests.benchmarks.servers import DETECTORS, INSTRUMENT, Servers, night
from tests.benchmarks.throughput import flat_out
from tests.support.pages import API, Page, page_of

_ROUNDS = 7
_CLIENTS = """
import asyncio, sys

async def follow(host, port):
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET %s/events HTTP/1.1\\r\\nHost: page\\r\\n\\r\\n" % sys.argv[4].encode())
    while await reader.read(65536):
        pass

async def main(host, port, number):
    await asyncio.gather(*(follow(host, port) for _ in range(number)))

asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
"""


def answers(servers: Servers, *, visits: int, nights: int) -> list[dict[str, Any]]:
    """Measure each question of the API for a night of so many visits, with so many other nights stored besides.

    Returns
    -------
    rows
        Path, median and largest time in milliseconds, kilobytes; every answer is asked of the tables.
    """
    with servers.database() as dsn:
        topic = servers.new_topic("page")
        # Shorter exposures: as many of the usual ones would end on the day after.
        flat_out(servers, topic, servers.fill(topic, night(visits, exposure_s=15.0)), dsn)
        store_nights(dsn, nights)
        with psycopg.connect(dsn) as session:
            row = session.execute(
                "SELECT day_obs, visit, s_ra, s_dec FROM visits.visit_obscore ORDER BY day_obs DESC, visit LIMIT 1"
            ).fetchone()
            assert row is not None
            day, visit, ra, dec = row
            found = session.execute("SELECT obs_id FROM visits.exposure WHERE id = %s", [visit]).fetchone()
            assert found is not None
        paths = (
            "/nights?",
            "/nights/latest?",
            f"/nights/{day}/visits?limit=500",
            f"/nights/{day}/footprints?limit=2000",
            f"/visits/{INSTRUMENT}/{visit}?",
            f"/exposures/{visit}?",
            "/groups?",
            "/status?",
            "/trouble?",
            "/dead-letters?",
            f"/cone?ra_deg={ra}&dec_deg={dec}",
            f"/cone?ra_deg={ra}&dec_deg={dec}&radius_deg=5",
            f"/search?q={visit}",
            f"/search?q={found[0]}",
            "/search?q=a",
            f"/search?q={ra:.3f}%20{dec:.3f}",
        )
        with tempfile.TemporaryDirectory() as folder, page_of(dsn, Path(folder), instruments={INSTRUMENT: {}}) as page:
            return [_measured(page, path) for path in paths]


def open_pages(servers: Servers, *, exposures: int, pages: int, pairs: int) -> dict[str, Any]:
    """Compare the consumer's throughput beside so many open pages with that without any, in turns."""
    topic, events = servers.topic(exposures), exposures * DETECTORS
    rows = []
    for number in range(pairs):
        speeds: dict[bool, float] = {}
        for beside in (True, False) if number % 2 else (False, True):
            with servers.database() as dsn:
                if beside:
                    with _open(dsn, pages):
                        speeds[beside] = flat_out(servers, topic, events, dsn).visits_per_s
                else:
                    speeds[beside] = flat_out(servers, topic, events, dsn).visits_per_s
        rows.append({"beside": speeds[True], "alone": speeds[False], "ratio": speeds[True] / speeds[False]})
    return {"pages": pages, "ratio": median(row["ratio"] for row in rows), "pairs": rows}


@contextmanager
def _open(dsn: str, pages: int) -> Iterator[None]:
    """Keep pages open, in a process of their own."""
    with tempfile.TemporaryDirectory() as folder, page_of(dsn, Path(folder), instruments={INSTRUMENT: {}}) as page:
        host, port = page.url.removeprefix("http://").split(":")
        clients = subprocess.Popen([sys.executable, "-c", _CLIENTS, host, port, str(pages), API])
        try:
            time.sleep(2)
            yield
        finally:
            clients.kill()
            clients.wait()


def _measured(page: Page, path: str) -> dict[str, Any]:
    took, size = [], 0
    for number in range(_ROUNDS):
        # Another name for the same answer: none is shared with the one before.
        started_s = time.perf_counter()
        answer = page.ask(f"{API}{path}&round={number}", Accept_Encoding="gzip")
        took.append(1000 * (time.perf_counter() - started_s))
        assert answer.status == 200, answer.body
        size = len(answer.body)
    return {
        "path": path,
        "median_ms": round(median(took), 1),
        "max_ms": round(max(took), 1),
        "kB": round(size / 1000, 1),
    }
