"""``visit-consumer demo``: the whole path on embedded parts."""

import signal
import sys
from pathlib import Path

import click
from rich.console import Console

from consumer.commands.options import examples, reports_errors
from consumer.commands.values import ID, FilePath
from consumer.demo.run import DemoOptions, run_demo

_WIDTH = 110
"""Columns where the output goes to a file or a log."""


@click.command(epilog=examples("visit-consumer demo", "visit-consumer demo --exposures 20 --stay"))
@click.option(
    "--directory",
    type=FilePath(file_okay=False, path_type=Path),
    help="Folder of the database; an existing one is used again. Default: a temporary folder.",
)
@click.option(
    "--output",
    type=FilePath(file_okay=False, path_type=Path),
    default=DemoOptions().output,
    show_default=True,
    help="Folder for the picture.",
)
@click.option("--exposures", type=click.IntRange(0, 70), default=DemoOptions().exposures, show_default=True)
@click.option("--seed", type=ID, default=DemoOptions().seed, show_default=True)
@click.option("--stay", is_flag=True, help="Keep serving the page, and a night that goes on, until Enter is pressed.")
@reports_errors
def demo(directory: Path | None, output: Path, exposures: int, seed: int, stay: bool) -> None:
    """Run the whole path on an embedded broker and database, and compare with published visits."""
    options = DemoOptions(directory=directory, output=output, exposures=exposures, seed=seed, stay=stay)
    console = Console()
    # As Ctrl-C does: the servers end with the demo.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    if not run_demo(options, console):
        sys.exit(1)
