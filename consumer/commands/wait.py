"""The command ``wait``: block until a visit, an exposure's visits or a night's are there."""

import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from time import monotonic

import click

from consumer.commands.options import (
    EXIT_FAILED,
    JSON,
    config_option,
    dsn_option,
    examples,
    open_database,
    output_option,
    print_json,
    reports_errors,
    tool_settings,
)
from consumer.commands.values import DAY_OBS, DURATION, ID, NAME
from consumer.postgres.wake import Wake
from consumer.read.arrival import Awaited, read_arrival, wait_for


@click.command(
    epilog=examples(
        "visit-consumer wait --visit 2026110100042 --instrument LSSTCam --timeout 5m --dsn 'dbname=visits'",
        "visit-consumer wait --exposure 2026110100042 --timeout 30s --config visits.yaml",
        "visit-consumer wait --night 20261101 --complete --timeout 2h --config visits.yaml",
    )
)
@click.option("--visit", type=ID, help="Until this visit is stored.")
@click.option("--exposure", type=ID, help="Until this exposure is in a visit.")
@click.option("--night", type=DAY_OBS, help="Until this observing day has a visit; with --complete, until it is over.")
@click.option(
    "--complete", is_flag=True, help="Until the visits have all their exposures, and none is without a visit."
)
@click.option("--instrument", type=NAME, help="Instrument; without it, any.")
@click.option("--timeout", "timeout_s", type=DURATION, required=True, help="How long to wait: 30s, 10m or 1.5h.")
@config_option
@dsn_option
@output_option
@reports_errors
def wait(  # noqa: PLR0913  # one argument for each option
    *,
    visit: int | None,
    exposure: int | None,
    night: int | None,
    complete: bool,
    instrument: str | None,
    timeout_s: float,
    config: Path | None,
    dsn: str | None,
    output: str,
) -> None:
    """Wait until visits are there, for scripts. A replica that commits something wakes the command.

    Exit codes: 0 it is there, 1 the time is over (the output says what is missing), 2 the call is wrong.
    """
    given = {Awaited.VISIT: visit, Awaited.EXPOSURE: exposure, Awaited.NIGHT: night}
    chosen = [(what, number) for what, number in given.items() if number is not None]
    if len(chosen) != 1:
        raise click.UsageError("say what: one of --visit, --exposure and --night")
    ((what, number),) = chosen
    settings = tool_settings(config, dsn)
    with (
        open_database(settings) as database,
        Wake(settings.database, application_name="visit-consumer wait, listening") as wake,
    ):
        ask = partial(read_arrival, database, what, number, instrument=instrument, complete=complete)
        found = wait_for(ask, timeout_s=timeout_s, monotonic_s=monotonic, rest=wake.wait)
    if output == JSON:
        print_json({what.value: number, **asdict(found)})
    else:
        click.echo(found.detail, err=not found.arrived)
    if not found.arrived:
        sys.exit(EXIT_FAILED)
