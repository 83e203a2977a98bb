"""The benchmarks of ``quick`` and ``full``, each with its table and its figures."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from consumer.config import Settings
from consumer.config.resolve import resolve_instruments
from consumer.model import VisitRegions
from consumer.simulation import simulate_exposures
from tests.benchmarks import ceiling
from tests.benchmarks import stages as stages_benchmark
from tests.benchmarks.butler import measure as measure_butler
from tests.benchmarks.landing import measure as measure_landing
from tests.benchmarks.latency import Latency
from tests.benchmarks.latency import measure as measure_latency
from tests.benchmarks.report import rounded, show
from tests.benchmarks.servers import DETECTORS, Servers, night
from tests.benchmarks.sources import measure as measure_sources
from tests.benchmarks.throughput import Throughput, flat_out
from tests.support.delay_line import delayed

PARTITIONS = 4
ROUND_TRIPS_MS = (0.0, 2.5, 12.0)
"""None, between machines of one site, and between two sites."""


def floor(servers: Servers, topic: str, events: int, script: str = "floor") -> float:
    """Run the script `tests.benchmarks.floor`, or another; return events a second."""
    command = [sys.executable, "-m", f"tests.benchmarks.{script}", servers.kafka.bootstrap, topic]
    done = subprocess.run([*command, str(PARTITIONS), str(events)], check=True, capture_output=True, text=True)
    return events / float(json.loads(done.stdout)["seconds"])


def throughput(servers: Servers, *, exposures: int, rounds: int) -> dict[str, Any]:
    """Floor, ceiling and throughput, side by side in each round: the machine's other work hits all of them alike."""
    topic, events = servers.topic(exposures, PARTITIONS), exposures * DETECTORS
    # As many of them as take a while: an event of an exposure is 205 of raws.
    wholes = 3 * exposures
    whole_topic = servers.topic(wholes, PARTITIONS, by_exposure=True)
    regions = _any_regions(servers)
    rows: list[dict[str, float]] = []
    for _ in range(rounds):
        floors = floor(servers, topic, events), floor(servers, whole_topic, wholes, "exposure_floor")
        with servers.database() as dsn:
            most = ceiling.rows_per_second(dsn, regions, exposures)
        with servers.database() as dsn:
            run = flat_out(servers, topic, events, dsn)
        with servers.database() as dsn:
            whole = flat_out(servers, whole_topic, wholes, dsn)
        with servers.database() as dsn:
            pair = flat_out(servers, topic, events, dsn, number=2)
        with servers.database() as dsn:
            whole_pair = flat_out(servers, whole_topic, wholes, dsn, number=2)
        rows.append(_round(floors, most, run, whole) | _pair(most, (run, pair), (whole, whole_pair)))
    figures = {name: rounded(median(row[name] for row in rows)) for name in rows[0]}
    show(
        f"Floor, ceiling and throughput: {exposures} exposures, {events:,} events, {rounds} rounds",
        [
            {"figure": name.replace("_", " "), "median": value, **_extremes([row[name] for row in rows])}
            for name, value in figures.items()
        ],
    )
    return {"exposures": exposures, "events": events, **figures, "rounds": rows}


def obscore(servers: Servers, *, exposures: int, rounds: int) -> dict[str, Any]:
    """Throughput with the ObsCore table and without it, one after the other in each round, in turns."""
    topic, events = servers.topic(exposures, PARTITIONS), exposures * DETECTORS
    rows: list[dict[str, float]] = []
    for number in range(rounds):
        runs: dict[bool, Throughput] = {}
        for enabled in (True, False) if number % 2 else (False, True):
            with servers.database() as dsn:
                runs[enabled] = flat_out(servers, topic, events, dsn, obscore={"enabled": enabled})
        speeds = {enabled: run.visits_per_s for enabled, run in runs.items()}
        # Processor time hardly feels what else the machine does.
        cpu = {enabled: run.cpu_s + run.postgres_cpu_s for enabled, run in runs.items()}
        rows.append(
            {
                "with": speeds[True],
                "without": speeds[False],
                "ratio": speeds[True] / speeds[False],
                "cpu_ratio": cpu[False] / cpu[True],
            }
        )
    figures = {name: rounded(median(row[name] for row in rows)) for name in rows[0]}
    show(
        f"The ObsCore table: {exposures} exposures, {rounds} rounds, visits a second",
        [
            {"figure": name, "median": value, **_extremes([row[name] for row in rows])}
            for name, value in figures.items()
        ],
    )
    return {"exposures": exposures, **figures, "rounds": rows}


def mixed(servers: Servers, *, exposures: int, rounds: int) -> dict[str, Any]:
    """Throughput beside twenty questions of readers a second, and without them, in turns."""
    topic, events = servers.topic(exposures, PARTITIONS), exposures * DETECTORS
    rows: list[dict[str, float]] = []
    for number in range(rounds):
        speeds: dict[bool, float] = {}
        slowest_ms = 0.0
        for asked in (True, False) if number % 2 else (False, True):
            with servers.database() as dsn:
                if not asked:
                    speeds[asked] = flat_out(servers, topic, events, dsn).visits_per_s
                    continue
                with _readers(servers.settings(topic, dsn)) as reader:
                    speeds[asked] = flat_out(servers, topic, events, dsn).visits_per_s
                    slowest_ms = json.loads(reader.communicate(timeout=60)[0])["slowest_ms"]
        rows.append(
            {
                "alone": speeds[False],
                "beside_readers": speeds[True],
                "ratio": speeds[True] / speeds[False],
                "slowest_answer_ms": slowest_ms,
            }
        )
    figures = {name: rounded(median(row[name] for row in rows)) for name in rows[0]}
    show(
        f"Mixed: {exposures} exposures, {rounds} rounds, twenty questions a second, visits a second",
        [
            {"figure": name, "median": value, **_extremes([row[name] for row in rows])}
            for name, value in figures.items()
        ],
    )
    return {"exposures": exposures, **figures, "rounds": rows}


@contextmanager
def _readers(settings: dict[str, Any]) -> Iterator["subprocess.Popen[str]"]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "settings.json"
        file.write_text(json.dumps(settings))
        command = [sys.executable, "-m", "tests.benchmarks.readers", str(file)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield process
            finally:
                process.kill()


def _round(floors: tuple[float, float], ceiling_per_s: float, run: Throughput, whole: Throughput) -> dict[str, float]:
    floor_per_s, exposure_floor_per_s = floors
    figures = {
        "floor_events_per_s": floor_per_s,
        "exposure_floor_events_per_s": exposure_floor_per_s,
        "ceiling_rows_per_s": ceiling_per_s,
        "events_per_s": run.events_per_s,
        "visits_per_s": run.visits_per_s,
        "ratio_to_floor": run.events_per_s / floor_per_s,
        "ratio_to_ceiling": run.events_per_s / ceiling_per_s,
        "exposures_visits_per_s": whole.events_per_s,
        "exposures_ratio_to_raws": whole.events_per_s / run.visits_per_s,
        "exposures_ratio_to_ceiling": whole.events_per_s * DETECTORS / ceiling_per_s,
        "exposures_peak_mb": whole.peak_mb,
        "cpu_s_per_million": run.cpu_s / run.events * 1e6,
        "postgres_cpu_s_per_million": run.postgres_cpu_s / run.events * 1e6,
        "broker_cpu_s_per_million": run.broker_cpu_s / run.events * 1e6,
        "peak_mb": run.peak_mb,
    }
    return {name: rounded(value) for name, value in figures.items()}


def _pair(
    ceiling_per_s: float, raws: tuple[Throughput, Throughput], wholes: tuple[Throughput, Throughput]
) -> dict[str, float]:
    """Compare two replicas with one."""
    (one, two), (one_whole, two_whole) = raws, wholes
    figures = {
        "two_replicas_visits_per_s": two.visits_per_s,
        "two_replicas_ratio_to_one": two.visits_per_s / one.visits_per_s,
        "two_replicas_ratio_to_ceiling": two.events_per_s / ceiling_per_s,
        "two_replicas_cores_busy": (two.cpu_s + two.postgres_cpu_s + two.broker_cpu_s) / two.seconds,
        "two_replicas_exposures_visits_per_s": two_whole.events_per_s,
        "two_replicas_exposures_ratio_to_one": two_whole.events_per_s / one_whole.events_per_s,
        "two_replicas_exposures_ratio_to_ceiling": two_whole.events_per_s * DETECTORS / ceiling_per_s,
    }
    return {name: rounded(value) for name, value in figures.items()}


def _extremes(values: Sequence[float]) -> dict[str, float]:
    return {"lowest": min(values), "highest": max(values)}


def stages(servers: Servers, *, exposures: int) -> dict[str, Any]:
    """Where the time goes: each part by itself, in one thread."""
    events = exposures * DETECTORS
    with servers.database() as dsn:
        watch = stages_benchmark.measure(servers, servers.topic(exposures, PARTITIONS), events, dsn)
    rows = [
        {
            "stage": name,
            "us_per_event": rounded(1e6 * seconds / events),
            "ms_per_visit": rounded(1e3 * seconds / exposures),
            "cpu_ms_per_visit": rounded(1e3 * watch.cpu_s[name] / exposures),
        }
        for name, seconds in sorted(watch.wall_s.items(), key=lambda item: -item[1])
    ]
    show(f"Stages, one after the other: {exposures} exposures; cpu is our own thread's", rows)
    return {"exposures": exposures, "stages": rows}


def latency(servers: Servers, *, seconds: int) -> dict[str, Any]:
    """How long a visit takes to be visible."""
    with servers.database() as dsn:
        found = measure_latency(servers, servers.new_topic("latency"), dsn, seconds)
    figures = {
        "p50_ms": rounded(found.p50),
        "p99_ms": rounded(found.p99),
        "max_ms": rounded(found.worst),
    }
    show(f"Latency: an exposure of {DETECTORS} raws each second for {seconds} s", [figures])
    return {"seconds": seconds, **figures}


def network(servers: Servers, *, exposures: int, rounds: int, seconds: int) -> dict[str, Any]:
    """Throughput and latency with a database that is some milliseconds away, the distances side by side."""
    topic, events = servers.topic(exposures, PARTITIONS), exposures * DETECTORS
    runs: dict[float, list[float]] = {each: [] for each in ROUND_TRIPS_MS}
    latencies: dict[float, Latency] = {}
    for number in range(rounds):
        for round_trip_ms in ROUND_TRIPS_MS:
            with servers.database() as dsn, _far(dsn, round_trip_ms) as far:
                runs[round_trip_ms].append(flat_out(servers, topic, events, dsn, database=far).events_per_s)
            if number == 0 and seconds:
                with servers.database() as dsn, _far(dsn, round_trip_ms) as far:
                    latencies[round_trip_ms] = measure_latency(
                        servers, servers.new_topic("network"), dsn, seconds, database=far
                    )
    near = runs[ROUND_TRIPS_MS[0]]
    rows = [
        {
            "round_trip_ms": round_trip_ms,
            "events_per_s": rounded(median(found)),
            "ratio_to_none": rounded(median(far / one for far, one in zip(found, near, strict=True))),
            **({"p50_ms": rounded(latencies[round_trip_ms].p50)} if seconds else {}),
            **({"p99_ms": rounded(latencies[round_trip_ms].p99)} if seconds else {}),
        }
        for round_trip_ms, found in runs.items()
    ]
    show(f"Network: {exposures} exposures, {rounds} rounds; PostgreSQL behind a delay line", rows)
    return {"exposures": exposures, "distances": rows}


@contextmanager
def _far(dsn: str, round_trip_ms: float) -> Iterator[dict[str, str]]:
    """Give the section ``database`` of a replica that is so far away from it; a session of our own stays near."""
    server = conninfo_to_dict(dsn)
    with delayed(str(server["host"]), int(server["port"] or 5432), round_trip_ms) as port:
        yield {"conninfo": make_conninfo(dsn, port=port)}


def define(_: Servers, *, exposures: int) -> dict[str, Any]:
    """``visit-consumer define --processes 2``, without a database."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "night.jsonl")
        file.write_text("".join(json.dumps(asdict(each)) + "\n" for each in simulate_exposures(night(exposures))))
        command = [sys.executable, "-m", "consumer", "define", str(file), "--instrument", "LSSTCam", "--processes", "2"]
        began = time.perf_counter()
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        whole_s = time.perf_counter() - began
    # Its last line says "... in 4.00 s, 500 visits/s": from exposures in memory to finished rows.
    told = done.stderr.strip().splitlines()[-1]
    figures = {
        "visits_per_s": rounded(float(told.rpartition(",")[2].split()[0])),
        "visits_per_s_with_start_and_output": rounded(exposures / whole_s),
    }
    show(f"define --processes 2: {exposures} exposures of {DETECTORS} detectors", [figures])
    return {"exposures": exposures, **figures}


def backfill(servers: Servers, *, exposures: int, processes: int) -> dict[str, Any]:
    """``visit-consumer backfill`` into an empty database, from the file to the rows; and again, when all is there."""
    with tempfile.TemporaryDirectory() as folder, servers.database() as dsn:
        file = Path(folder, "survey.jsonl")
        file.write_text("".join(json.dumps(asdict(each)) + "\n" for each in simulate_exposures(night(exposures))))
        command = [sys.executable, "-m", "consumer", "backfill", str(file), "--instrument", "LSSTCam"]
        command += ["--processes", str(processes), "--dsn", dsn, "--output", "json"]
        first, again = (
            json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(2)
        )
    figures = {
        "visits_per_s": rounded(first["visits_per_second"]),
        "visits_per_s_when_stored": rounded(again["visits_per_second"]),
    }
    show(f"backfill --processes {processes}: {exposures} exposures of {DETECTORS} detectors", [figures])
    return {"exposures": exposures, "processes": processes, **figures}


def sources(_: Servers, *, exposures: int, rounds: int) -> dict[str, Any]:
    """How fast one emitter is, against reading and parsing the same sidecars; without brokers and database."""
    measured = [measure_sources(exposures) for _ in range(rounds)]
    figures = {name: rounded(median(each[name] for each in measured)) for name in measured[0]}
    figures["ratio_to_read"] = rounded(median(each["emitted_per_s"] / each["read_per_s"] for each in measured))
    figures["ratio_to_parsed"] = rounded(median(each["emitted_per_s"] / each["parsed_per_s"] for each in measured))
    show(f"Sources: {exposures} exposures of {DETECTORS} sidecars, {rounds} rounds, one thread", [figures])
    return {"exposures": exposures, **figures}


def landing(servers: Servers, *, exposures: int, every_s: float) -> dict[str, Any]:
    """How long a raw that lands takes to be in a visit, through an emitter."""
    with servers.database() as dsn:
        found = measure_landing(servers, servers.new_topic("landing"), dsn, exposures=exposures, every_s=every_s)
    figures = {"p50_ms": rounded(found.p50), "p99_ms": rounded(found.p99), "max_ms": rounded(found.worst)}
    show(
        f"Landing: {exposures} exposures of {DETECTORS} sidecars in a watched folder, one each {every_s:g} s", [figures]
    )
    return {"exposures": exposures, **figures}


def butler(servers: Servers, *, visits: int, rounds: int) -> dict[str, Any]:
    """Visits into a Butler registry; see `tests.benchmarks.butler`."""
    return measure_butler(servers, visits=visits, rounds=rounds)


def _any_regions(servers: Servers) -> VisitRegions:
    settings = Settings(**servers.settings("none", "postgresql://nobody@127.0.0.1/none"))
    exposure = next(simulate_exposures(night(1)))
    return resolve_instruments(settings)["LSSTCam"].algorithm.compute((exposure,), ())
