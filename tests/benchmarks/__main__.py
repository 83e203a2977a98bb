"""Runs the benchmarks: ``python -m tests.benchmarks quick|full|long [NAME ...]``.

``quick`` takes a minute and fails when a ratio of throughput, to floor or ceiling, is far below the committed one;
``full`` takes about ten minutes, ``long`` an hour or two. Figures of the reference machine are written with
``--reference`` to ``results/``, others to ``build/benchmarks/``.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks import long_runs, report, short_runs
from tests.benchmarks.servers import Servers, started

Benchmark = Callable[[Servers], dict[str, Any]]

_LARGEST_DROP = 0.30
_GUARDED = ("ratio_to_floor", "ratio_to_ceiling", "exposures_ratio_to_raws")
_OTHER_RESULTS = Path(__file__).parents[2] / "build" / "benchmarks"

RUNS: dict[str, dict[str, Benchmark]] = {
    "quick": {"throughput": lambda servers: short_runs.throughput(servers, exposures=300, rounds=3)},
    "full": {
        "throughput": lambda servers: short_runs.throughput(servers, exposures=1000, rounds=5),
        "obscore": lambda servers: short_runs.obscore(servers, exposures=600, rounds=7),
        "mixed": lambda servers: short_runs.mixed(servers, exposures=1000, rounds=5),
        "stages": lambda servers: short_runs.stages(servers, exposures=300),
        "latency": lambda servers: short_runs.latency(servers, seconds=120),
        "network": lambda servers: short_runs.network(servers, exposures=500, rounds=5, seconds=30),
        "define": lambda servers: short_runs.define(servers, exposures=2000),
        "backfill": lambda servers: short_runs.backfill(servers, exposures=6000, processes=2),
        "sources": lambda servers: short_runs.sources(servers, exposures=20, rounds=5),
        "landing": lambda servers: short_runs.landing(servers, exposures=60, every_s=5.0),
        "butler": lambda servers: short_runs.butler(servers, visits=200, rounds=3),
    },
    "long": {
        "growth": lambda servers: long_runs.growth(
            servers, stored=(0, 5_000, 50_000), waiting=(1, 1_000, 20_000), exposures=1000, rounds=3
        ),
        "scaling": lambda servers: long_runs.scaling(servers, exposures=1000, rounds=3),
        "catch_up": lambda servers: long_runs.catch_up(servers, hours=1.0),
        "soak": lambda servers: long_runs.soak(servers, minutes=30.0),
        # Fills 35 GB of disk.
        "age": lambda servers: long_runs.age(servers, nights=625, exposures=400, rounds=3, seconds=60),
        "page": lambda servers: long_runs.page(servers, visits=1200, nights=83, exposures=1000, pages=200, pairs=5),
    },
    # The long ones again, cut down to a few minutes: their figures say less, and are named so.
    "shortened": {
        "growth": lambda servers: long_runs.growth(
            servers, stored=(0, 500, 5_000), waiting=(1, 1_000, 20_000), exposures=300, rounds=3
        ),
        "scaling": lambda servers: long_runs.scaling(servers, exposures=300, rounds=2),
        "catch_up": lambda servers: long_runs.catch_up(servers, hours=1.0),
        "soak": lambda servers: long_runs.soak(servers, minutes=3.0),
        "age": lambda servers: long_runs.age(servers, nights=12, exposures=200, rounds=2, seconds=20),
        "page": lambda servers: long_runs.page(servers, visits=200, nights=10, exposures=200, pages=200, pairs=3),
    },
}


def main() -> int:
    """Run what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("run", choices=RUNS)
    parser.add_argument("names", nargs="*", help="only these of the run")
    parser.add_argument("--reference", action="store_true", help="write the figures as those of the reference machine")
    given = parser.parse_intermixed_args()
    unknown = set(given.names) - RUNS[given.run].keys()
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: {given.run} has {', '.join(RUNS[given.run])}")
    folder = report.RESULTS if given.reference else _OTHER_RESULTS
    before = report.committed(given.run) or {}
    results: dict[str, Any] = dict(before) if given.names and given.reference else {}
    with started() as servers:
        results["machine"] = report.machine(servers)
        for name, benchmark in RUNS[given.run].items():
            if name in given.names or not given.names:
                results[name] = benchmark(servers)
    report.say(f"written to {report.write(given.run, results, folder)}")
    return 0 if given.run != "quick" or given.reference else compare(results, before)


def compare(results: dict[str, Any], before: dict[str, Any]) -> int:
    """Fail when a ratio, which means the same on every machine, has dropped."""
    now, then = (each.get("throughput", {}) for each in (results, before))
    guarded = [name for name in _GUARDED if name in then]
    if not guarded:
        report.say("no committed figures to compare with")
        return 1
    slow = [name for name in guarded if now[name] < (1 - _LARGEST_DROP) * then[name]]
    for name in guarded:
        report.say(f"{name.replace('_', ' ')}: {now[name]:.3g}; committed: {then[name]:.3g}")
    if slow:
        report.say(f"dropped by more than {_LARGEST_DROP:.0%}: {', '.join(slow)}; something became slow")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
