"""The command ``prune``: remove old nights."""

import sys
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from consumer.admin.prune import PRUNE_SESSION
from consumer.admin.prune import prune as remove_nights
from consumer.commands.options import (
    JSON,
    config_option,
    dry_run_option,
    dsn_option,
    examples,
    output_option,
    print_json,
    print_rows,
    reports_errors,
    tool_settings,
)
from consumer.commands.values import DAY_OBS, NAME
from consumer.postgres.connection import Database


@click.command(
    epilog=examples(
        "visit-consumer prune --before 20250101 --dry-run --config visits.yaml",
        "visit-consumer prune --before 20250101 --instrument LATISS --dsn 'dbname=visits user=visit_owner'",
    )
)
@click.option("--before", type=DAY_OBS, required=True, help="The first observing day that stays, YYYYMMDD.")
@click.option("--instrument", type=NAME, help="Only of this instrument.")
@dry_run_option
@config_option
@dsn_option
@output_option
@reports_errors
def prune(
    *, before: int, instrument: str | None, dry_run: bool, config: Path | None, dsn: str | None, output: str
) -> None:
    """Remove the exposures, visits and closed dead letters of the nights before a day, as the schema's owner.

    It may run beside the service: each transaction removes up to 100 groups. Open groups, groups with an exposure on or
    after the day, and open dead letters stay. The removal is not announced. An event of a removed exposure that is read
    again stores it again.

    Exit codes: 0 done, 1 the database was lost or the role may not remove exposures; the same call goes on.
    """
    settings = tool_settings(config, dsn)
    database = Database(settings.database, application_name="visit-consumer prune", session=PRUNE_SESSION)
    bar = Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    with database, bar:
        task = bar.add_task("exposures", total=None)

        def report(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        result = remove_nights(database, before, instrument=instrument, dry_run=dry_run, report=report)
    nights = [each._asdict() for each in result.nights]
    if output == JSON:
        removed = {"exposures": result.exposures, "visits": result.visits}
        print_json({"dry_run": dry_run, "nights": nights, "removed": removed})
        return
    title = "would be removed" if dry_run else "stored before"
    columns = ("day_obs", "instrument", "exposures", "visits")
    print_rows(nights, columns, output, title=title, empty="Nothing is stored of such nights.")
    if not dry_run:
        click.echo(f"removed: {result.exposures} exposures, {result.visits} visits")
