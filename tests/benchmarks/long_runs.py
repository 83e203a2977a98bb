"""The benchmarks of ``long``, each with its table and its figures; shortened by their arguments."""

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import psycopg

from consumer.kafka.night_producer import Pace
from tests.benchmarks import age as age_benchmark
from tests.benchmarks import growth as growth_benchmark
from tests.benchmarks import page as page_benchmark
from tests.benchmarks.processes import memory_mb
from tests.benchmarks.report import rounded, show
from tests.benchmarks.servers import DETECTORS, Servers, night
from tests.benchmarks.throughput import Throughput, flat_out, replicas

CADENCE_S = 34.0
"""Of the survey, from exposure to exposure."""


def growth(
    servers: Servers, *, stored: Sequence[int], waiting: Sequence[int], exposures: int, rounds: int
) -> dict[str, Any]:
    """Throughput with more and more visits stored, and with more and more groups open."""
    return {
        "exposures": exposures,
        "stored_visits": _growth(
            "visits stored", stored, rounds, lambda number: growth_benchmark.stored_visits(servers, number, exposures)
        ),
        "open_groups": _growth(
            "groups open", waiting, rounds, lambda number: growth_benchmark.open_groups(servers, number, exposures)
        ),
    }


def _growth(
    what: str, numbers: Sequence[int], rounds: int, measure: Callable[[int], Throughput]
) -> list[dict[str, Any]]:
    runs: dict[int, list[Throughput]] = {number: [] for number in numbers}
    for turn in range(rounds):
        # There and back again: whatever changes with the hour would look like growth otherwise.
        for number in numbers if turn % 2 == 0 else reversed(numbers):
            runs[number].append(measure(number))
    rates = {number: median(run.visits_per_s for run in found) for number, found in runs.items()}
    rows = [
        {
            what.replace(" ", "_"): number,
            "visits_per_s": rounded(rates[number]),
            "ratio_to_first": rounded(rates[number] / rates[numbers[0]]),
            "cpu_s_per_million": rounded(median(run.cpu_s / run.events * 1e6 for run in found)),
            "postgres_cpu_s_per_million": rounded(median(run.postgres_cpu_s / run.events * 1e6 for run in found)),
        }
        for number, found in runs.items()
    ]
    show(f"Growth: {what}", rows)
    return rows


def age(servers: Servers, *, nights: int, exposures: int, rounds: int, seconds: int) -> dict[str, Any]:
    """Ask a database that holds so many nights of 800 visits what a young one is asked."""
    measured: dict[str, dict[str, float]] = {}
    for name, stored in (("young", 0), ("old", nights)):
        with servers.database() as dsn:
            read = age_benchmark.read_template(servers, dsn)
            age_benchmark.store_nights(dsn, stored)
            measured[name] = age_benchmark.measure(
                servers, dsn, read=read, exposures=exposures, rounds=rounds, seconds=seconds
            )
    young, old = measured["young"], measured["old"]
    rows = [
        {
            "figure": name,
            "young": rounded(young[name]),
            "old": rounded(old[name]),
            # Above 1 the old one is the faster.
            "ratio": rounded(old[name] / young[name] if name.endswith("_per_s") else young[name] / old[name]),
        }
        for name in young
    ]
    show(f"Age: {nights * age_benchmark.VISITS_A_NIGHT:,} visits stored", rows)
    return {"visits": nights * age_benchmark.VISITS_A_NIGHT, "figures": rows}


def page(servers: Servers, *, visits: int, nights: int, exposures: int, pages: int, pairs: int) -> dict[str, Any]:
    """Ask the API with so many nights stored, and read a topic beside so many open pages."""
    asked = page_benchmark.answers(servers, visits=visits, nights=nights)
    show(f"Page: {visits * (nights + 1):,} visits stored, {visits:,} of them in the night that is shown", asked)
    beside = page_benchmark.open_pages(servers, exposures=exposures, pages=pages, pairs=pairs)
    show(f"Page: visits a second beside {pages} open pages", beside["pairs"])
    return {"visits": visits * (nights + 1), "answers": asked, "open_pages": beside}


def scaling(servers: Servers, *, exposures: int, rounds: int) -> dict[str, Any]:
    """Throughput of 1, 2 and 4 replicas over 8 partitions; on few cores they share what there is."""
    topic, events = servers.topic(exposures, partitions=8), exposures * DETECTORS
    runs: dict[int, list[Throughput]] = {1: [], 2: [], 4: []}
    for _ in range(rounds):
        for number, found in runs.items():
            with servers.database() as dsn:
                found.append(flat_out(servers, topic, events, dsn, number=number))
    rows = [
        {"replicas": number, "visits_per_s": rounded(median(run.visits_per_s for run in found))}
        for number, found in runs.items()
    ]
    show("Scaling: replicas over 8 partitions", rows)
    return {"exposures": exposures, "replicas": rows}


def catch_up(servers: Servers, *, hours: float) -> dict[str, Any]:
    """How long a backlog of the survey takes."""
    exposures = round(hours * 3600 / CADENCE_S)
    with servers.database() as dsn:
        run = flat_out(servers, servers.topic(exposures), exposures * DETECTORS, dsn)
    figures = {"hours": hours, "exposures": exposures, "seconds": rounded(run.seconds)}
    show("Catch-up: a backlog of the survey", [figures])
    return figures


def soak(servers: Servers, *, minutes: float) -> dict[str, Any]:
    """Memory of a replica that has ten times the survey's cadence for a while; the first minute warms up."""
    pace = Pace(exposures_per_s=10 / CADENCE_S)
    warm_up, counted = (round(60 * each * 10 / CADENCE_S) for each in (1.0, minutes))
    topic = servers.new_topic("soak")
    with servers.database() as dsn, replicas(servers.settings(topic, dsn)) as (replica,):
        replica.wait_ready()
        servers.fill(topic, night(warm_up), pace)
        began_mb, began = memory_mb(replica.pid), time.monotonic()
        servers.fill(topic, night(counted, day_obs=20270101), pace)
        with psycopg.connect(dsn, autocommit=True) as session:
            query = "SELECT count(*) FROM visits.visit"
            replica.wait_until(lambda: session.execute(query).fetchone() == (warm_up + counted,), what="all visits")
        figures = {
            "minutes": rounded((time.monotonic() - began) / 60),
            "visits": counted,
            "memory_at_start_mb": rounded(began_mb),
            "memory_at_end_mb": rounded(memory_mb(replica.pid)),
            "growth_percent": rounded(100 * (memory_mb(replica.pid) / began_mb - 1)),
            "peak_mb": rounded(memory_mb(replica.pid, peak=True)),
        }
    show("Soak: ten times the survey's cadence", [figures])
    return figures
