"""Runs chaos: ``python -m tests.chaos --minutes 5 --seed 42``, or ``make chaos MINUTES=5 SEED=42``.

Without a seed the clock draws one. The report names it; the same seed lets the same things happen in the same order,
though not at the same moments of each process' life. Settings and logs stay in ``build/chaos/`` until the next run.
"""

import argparse
import shutil
import sys
import time
from pathlib import Path

import click

from tests.chaos.actions import schedule
from tests.chaos.run import run
from tests.chaos.stage import set_stage

_FOLDER = Path(__file__).parents[2] / "build" / "chaos"


def main() -> int:
    """Run what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long things go wrong")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of schedule and messages")
    parser.add_argument("--folder", type=Path, default=_FOLDER, help="for settings and logs; is emptied")
    given = parser.parse_args()
    shutil.rmtree(given.folder, ignore_errors=True)
    given.folder.mkdir(parents=True)
    click.echo(f"seed {given.seed}, {given.minutes:g} minutes")
    with set_stage(given.seed, given.folder) as stage:
        report = run(stage, schedule(given.seed), seconds=60 * given.minutes, write_line=click.echo)
    click.echo("\n".join(report.lines))
    return 1 if report.outcome.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
