"""The command ``define``: the visits of exposures that are given as JSON."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from time import time_ns
from typing import TextIO

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from consumer.admin.define import DefineSummary, define_visits, instrument_settings
from consumer.admin.exposure_files import parse_exposures
from consumer.commands.options import (
    JSON,
    config_option,
    dsn_option,
    examples,
    output_option,
    print_json,
    print_rows,
    reports_errors,
    tool_settings,
)
from consumer.commands.values import NAME, TextFile
from consumer.config.resolve import resolve_obscore
from consumer.events.visit_defined import announcer
from consumer.model import VisitRecords
from consumer.task.butler_rows import visit_tables
from consumer.task.define import DefineOptions
from consumer.task.define_visits import Progress

_SHOWN = 10
"""Exposures off sky that are named."""
_STORED_ONLY = ("update_records", "incremental", "skip_conflicting", "prefilter", "check_detector_regions")


@click.command(
    short_help="Define the visits of exposures that are given as JSON.",
    epilog=examples(
        "visit-consumer define exposures.jsonl --instrument LSSTCam",
        "visit-consumer define exposures.jsonl --instrument LATISS --config visits.yaml --dsn 'dbname=visits'",
    ),
)
@click.argument("exposures", type=TextFile(encoding="utf-8"))
@click.option("--instrument", type=NAME, required=True, help="Instrument of all exposures.")
@click.option(
    "--camera",
    multiple=True,
    metavar="FILE",
    help="Geometry: a file or the name of a built-in camera; may be repeated.",
)
@click.option(
    "--group-exposures",
    metavar="RULE",
    help="Grouping rule, such as one-to-one or by-group-metadata; default: the instrument's.",
)
@click.option("--group-id", type=click.Choice(["digits", "lsst"]), help="How by-group-metadata makes a visit's id.")
@click.option(
    "--padding",
    type=click.IntRange(0, 1_000_000),
    help="Pixels added on all four sides of every detector; default: the instrument's, mostly 250.",
)
@click.option("--merge-exposures", is_flag=True, help="Regions cover all exposures of a visit, not only the first.")
@click.option(
    "--processes", type=click.IntRange(1, 1024), default=1, show_default=True, help="Processes that compute regions."
)
@click.option("--update-records/--no-update-records", help="Rewrite stored visits.")
@click.option("--incremental/--no-incremental", help="Add to stored visits: their members count beside the given ones.")
@click.option("--skip-conflicting/--no-skip-conflicting", help="Keep stored visits that differ, instead of failing.")
@click.option("--prefilter/--no-prefilter", help="Do not look at exposures that are in stored visits.")
@click.option("--check-detector-regions/--no-check-detector-regions", help="Restore detector regions that are missing.")
@config_option
@dsn_option
@output_option
@reports_errors
def define(  # noqa: PLR0913  # one argument for each option
    *,
    exposures: TextIO,
    instrument: str,
    camera: tuple[str, ...],
    group_exposures: str | None,
    group_id: str | None,
    padding: int | None,
    merge_exposures: bool,
    processes: int,
    config: Path | None,
    dsn: str | None,
    output: str,
    **stored: bool,
) -> None:
    """Define the visits of EXPOSURES: JSON lines or a JSON array with the event's field names, - for standard input.

    Required are id (or exposure), obs_id, day_obs and group. Angles are degrees, ICRS; times are TAI nanoseconds.

    With --dsn the command stores the visits in PostgreSQL. Without it nothing is written to a database, whatever
    database the settings name, and the options about stored visits are refused: --update-records, --incremental,
    --skip-conflicting, --prefilter and --check-detector-regions.
    """
    refused = [f"--{name.replace('_', '-')}" for name in _STORED_ONLY if stored[name]]
    if dsn is None and refused:
        raise click.UsageError(f"{', '.join(refused)} speaks of stored visits: say with --dsn where they are stored")
    settings = tool_settings(config, dsn, database=dsn is not None)
    own = instrument_settings(
        settings,
        instrument,
        {
            "camera": camera or None,
            "group_exposures": group_exposures,
            "group_id": group_id,
            "regions": {"padding": padding, "merge_exposures": merge_exposures or None},
        },
    )
    given = parse_exposures(exposures.read(), instrument=instrument, source=exposures.name)
    with _bar() as progress:
        defined = define_visits(
            given,
            own,
            database=None if dsn is None else settings.database,
            announce=announcer(settings.announce.topic, now_ns=time_ns),
            obscore=resolve_obscore(settings),
            options=DefineOptions(**stored),
            processes=processes,
            progress=progress,
        )
    if output == JSON:
        print_json(
            {
                "result": asdict(defined.result),
                "off_sky": list(defined.off_sky),
                **visit_tables(instrument, defined.visit_systems, defined.visits),
            }
        )
    else:
        _print_table(defined)


@contextmanager
def _bar() -> Iterator[Progress | None]:
    """Show a progress bar on standard error where that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("regions"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        yield _follow(bar)


def _follow(bar: Bar) -> Callable[[int, int], None]:
    task = bar.add_task("regions", total=None)

    def report(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)

    return report


def _print_table(defined: DefineSummary) -> None:
    columns = (
        "visit",
        "name",
        "day_obs",
        "systems",
        "exposures",
        "detectors",
        "physical_filter",
        "exposure_time",
        "target_name",
        "complete",
    )
    print_rows([_row(each) for each in defined.visits], columns, "table")
    counts = ", ".join(f"{value} {name.removeprefix('n_')}" for name, value in asdict(defined.result).items() if value)
    rate = f", {defined.result.n_visits / defined.seconds:.0f} visits/s" if defined.seconds > 0 else ""
    click.echo(f"{counts or 'no visits'} in {defined.seconds:.2f} s{rate}", err=True)
    if defined.off_sky:
        names = ", ".join(map(str, defined.off_sky[:_SHOWN])) + (", ..." if len(defined.off_sky) > _SHOWN else "")
        click.echo(f"off sky, and so in no visit: {len(defined.off_sky)} exposures: {names}", err=True)


def _row(records: VisitRecords) -> dict[str, object]:
    visit, own = records.definition, records.aggregate
    return {
        "visit": visit.id,
        "name": visit.name,
        "day_obs": own.day_obs,
        "systems": visit.visit_systems,
        "exposures": [e.id for e in visit.exposures],
        "detectors": len(records.regions.detectors),
        "physical_filter": own.physical_filter,
        "exposure_time": own.exposure_time,
        "target_name": own.target_name,
        "complete": visit.complete,
    }
