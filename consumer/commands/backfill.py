"""The command ``backfill``: exposures of whole surveys into the tables."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from time import perf_counter

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from consumer.admin.backfill import BackfillJob, BackfillResult, Report
from consumer.admin.backfill import backfill as store_exposures
from consumer.admin.define import instrument_settings
from consumer.admin.exposure_lists import read_exposure_list
from consumer.commands.options import (
    EXIT_FAILED,
    JSON,
    complain,
    config_option,
    dsn_option,
    examples,
    output_option,
    print_json,
    reports_errors,
    tool_settings,
)
from consumer.commands.values import FILE_NAME, NAME


@click.command(
    short_help="Store exposures of whole surveys, and their visits.",
    epilog=examples(
        "visit-consumer backfill survey.jsonl --instrument LSSTCam --processes 2 --config visits.yaml",
        "visit-consumer backfill 2025.csv 2026.parquet --instrument LATISS --dsn 'dbname=visits' --output json",
        "visit-consumer backfill butler:/repo/main --instrument LSSTCam --config visits.yaml",
    ),
)
@click.argument("lists", nargs=-1, required=True, type=FILE_NAME, metavar="FILE|URL|butler:REPO...")
@click.option("--instrument", type=NAME, required=True, help="Instrument of all exposures.")
@click.option(
    "--processes", type=click.IntRange(1, 1024), default=1, show_default=True, help="Processes that compute and write."
)
@click.option("--announce", is_flag=True, help="Announce the visits, on the topic that the settings name.")
@config_option
@dsn_option
@output_option
@reports_errors
def backfill(
    *,
    lists: tuple[str, ...],
    instrument: str,
    processes: int,
    announce: bool,
    config: Path | None,
    dsn: str | None,
    output: str,
) -> None:
    """Store the exposures of lists, and the visits that the service would define of them.

    A list is a file or a URL (s3://, https://) of JSON lines, a JSON array, CSV with a header line, or Parquet, with
    the event's field names; or the exposures of a Butler registry. The command may be ended at any moment: the same
    call goes on. It may run beside the service.

    Exit codes: 0 all is stored, 1 some groups are not (each is named with the reason), or the database was lost.
    """
    settings = tool_settings(config, dsn)
    topic = settings.announce.topic if announce else None
    if announce and topic is None:
        raise click.UsageError("--announce: the settings name no announce.topic")
    job = BackfillJob(
        instrument=instrument_settings(settings, instrument, {}), database=settings.database, announce_topic=topic
    )
    started_s = perf_counter()
    total = BackfillResult()
    for each in lists:
        given = read_exposure_list(each, instrument=instrument)
        if given.exposures:
            with _bar(each.rpartition("/")[2]) as report:
                total.add(store_exposures(given, job, processes=processes, report=report))
    seconds = perf_counter() - started_s
    rate = (total.n_new + total.n_unchanged) / seconds
    if output == JSON:
        print_json(asdict(total) | {"seconds": seconds, "visits_per_second": rate})
    else:
        click.echo(
            f"{total.n_exposures} exposures: {total.n_new} visits written, {total.n_unchanged} were there already, "
            f"{len(total.failed)} groups failed; {seconds:.1f} s, {rate:.0f} visits/s"
        )
    for text in total.failed:
        complain(text)
    if total.failed:
        sys.exit(EXIT_FAILED)


@contextmanager
def _bar(name: str) -> Iterator[Report]:
    """Show progress on standard error where that is a terminal: how far, how fast, how long still."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]} exposures/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(name, total=None, rate="")
        started_s = perf_counter()

        def report(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, rate=f"{done / (perf_counter() - started_s):.0f}")

        yield report
