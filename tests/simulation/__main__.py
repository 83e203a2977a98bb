"""Runs schedules: ``python -m tests.simulation --schedules 100000``; one that failed again: ``--seed N``."""

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat

import pytest
import structlog

from tests.simulation.faults import FAULTS
from tests.simulation.schedule import Schedule
from tests.simulation.watch import BrokenPromiseError

_AT_ONCE = 100


def silence() -> None:
    """Let the service log nothing: thousands of replicas have much to say."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50), cache_logger_on_first_use=False)


def run_some(first: int, last: int, n_steps: int, fault: str | None) -> list[str]:
    """Run schedules, with a fault put back where one is named; return what those that failed say."""
    silence()
    failures = []
    with pytest.MonkeyPatch.context() as patch:
        if fault is not None:
            FAULTS[fault](patch)
        for seed in range(first, last):
            try:
                Schedule(seed).run(n_steps)
            except AssertionError as error:
                failures.append(str(error) if isinstance(error, BrokenPromiseError) else f"seed {seed}: {error!r}")
    return failures


def main() -> int:
    """Run what is asked for; the exit code is 1 when a schedule fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--schedules", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--fault", choices=FAULTS, help="put it back; all schedules that find it fail")
    asked = parser.parse_args()
    if asked.seed is not None:
        silence()
        Schedule(asked.seed).run(asked.steps)
        return 0
    began_s = time.monotonic()
    failed = []
    ranges = range(asked.first, asked.first + asked.schedules, _AT_ONCE)
    with ProcessPoolExecutor(asked.processes) as pool:
        ends = [min(begin + _AT_ONCE, asked.first + asked.schedules) for begin in ranges]
        for failures in pool.map(run_some, ranges, ends, repeat(asked.steps), repeat(asked.fault)):
            failed += failures
            for each in failures[:3]:
                sys.stdout.write(f"{each}\n\n")
    took_s = time.monotonic() - began_s
    sys.stdout.write(
        f"{asked.schedules} schedules of {asked.steps} steps in {took_s:.0f} s "
        f"({asked.schedules / took_s:.1f} a second), {len(failed)} failed\n"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
