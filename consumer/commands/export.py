"""The command ``export``: the visits of a night, or of all, in the formats of astronomers' tools."""

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from consumer.commands.options import (
    config_option,
    dsn_option,
    examples,
    reports_errors,
    tool_settings,
)
from consumer.commands.values import DAY_OBS, NAME
from consumer.errors import ConfigurationError
from consumer.postgres.connection import Database
from consumer.postgres.obscore import LONG_READS, Selection, obscore_snapshot
from consumer.vo.export import ExportFormat
from consumer.vo.export import export as export_rows

_MJD_OF_1970 = 40587
_DAY_S = 86_400


@click.command(
    short_help="Export visits as Parquet, VOTable, CSV, JSON lines, DS9 regions or MOCs.",
    epilog=examples(
        "visit-consumer export --night 20261101 --format votable -o tonight.vot --config visits.yaml",
        "visit-consumer export --all --format parquet -o survey/ --config visits.yaml",
        "visit-consumer export --since 2026-11-02T03:00:00 --instrument LSSTCam --format jsonl --config visits.yaml",
        "visit-consumer export --night 20261101 --detectors --format ds9 -o tonight.reg --config visits.yaml",
    ),
)
@click.option("--night", type=DAY_OBS, help="Visits of this observing day.")
@click.option(
    "--since",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"]),
    help="Visits that began at this time, UTC, or later; not those of unknown begin.",
)
@click.option("--all", "everything", is_flag=True, help="All visits.")
@click.option("--instrument", type=NAME, help="Only of this instrument.")
@click.option(
    "--format", "form", type=click.Choice([each.value for each in ExportFormat]), default="csv", show_default=True
)
@click.option("--detectors", is_flag=True, help="A row for each detector, with its own footprint.")
@click.option("--public", is_flag=True, help="Only rows whose embargo is over, from the view visit_obscore_public.")
@click.option(
    "-o",
    "--to",
    "target",
    default="-",
    show_default=True,
    help="File, folder (ends in /: a file for each night, MOCs by filter), URL such as s3://bucket/key, or - for the "
    "standard output.",
)
@config_option
@dsn_option
@reports_errors
def export(  # noqa: PLR0913  # one argument for each option
    *,
    night: int | None,
    since: datetime | None,
    everything: bool,
    instrument: str | None,
    form: str,
    detectors: bool,
    public: bool,
    target: str,
    config: Path | None,
    dsn: str | None,
) -> None:
    """Export the visits of a night, since a time, or all, as they are at one moment.

    Columns are those of IVOA ObsCore 1.1 and some of ours; times are UTC, angles degrees, ICRS. Parquet has
    footprints as WKB (GeoParquet) and HEALPix cells besides.
    """
    if (night is not None) + (since is not None) + everything != 1:
        raise click.UsageError("say one of --night, --since and --all")
    chosen = ExportFormat(form)
    if target == "-" and sys.stdout.isatty():
        # Texts of headers could hold what commands a terminal.
        raise click.UsageError(
            f"{form} is not for a terminal: say where to with -o FILE, or pipe it, into less perhaps"
        )
    selection = Selection(
        instrument=instrument,
        day_obs=night,
        since_day=None if since is None else _two_days_before(since),
        since_mjd=None if since is None else _MJD_OF_1970 + since.replace(tzinfo=UTC).timestamp() / _DAY_S,
        public=public,
    )
    settings = tool_settings(config, dsn)
    database = Database(settings.database, application_name="visit-consumer export", session=LONG_READS)
    with database, obscore_snapshot(database, selection) as snapshot:
        if not public and (lacking := snapshot.unfilled()):
            raise ConfigurationError(
                f"{lacking} visits of these have no row in visit_obscore, or a former one: "
                "run 'visit-consumer obscore fill'"
            )
        try:
            done = export_rows(snapshot, sys.stdout.buffer if target == "-" else target, chosen, detectors=detectors)
        except BrokenPipeError:
            # The reader has enough. Python would complain once more when it flushes at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
    if target != "-":
        click.echo(f"{done.rows} rows in {done.files} files", err=True)


def _two_days_before(time: datetime) -> int:
    """Return the earliest observing day whose visits may end after a time, YYYYMMDD."""
    try:
        return int((time - timedelta(days=2)).strftime("%Y%m%d"))
    except OverflowError:  # before the calendar
        return 0
