"""The command ``butler-sink``: visits of the tables into a Butler registry."""

import sys
from collections import Counter
from pathlib import Path

import click

from consumer.butler.process import SinkProcess
from consumer.commands.options import (
    EXIT_FAILED,
    JSON,
    config_option,
    database_settings,
    dry_run_option,
    dsn_option,
    examples,
    output_option,
    print_rows,
    reports_errors,
)
from consumer.commands.values import DAY_OBS


@click.command(
    short_help="Write visits into a Butler registry.",
    epilog=examples(
        "visit-consumer butler-sink --repo /repo/main --config visits.yaml",
        "visit-consumer butler-sink --repo /repo/main --from-night 20261101 --dry-run --config visits.yaml",
        "visit-consumer butler-sink --repo /repo/main --list --output json --config visits.yaml",
    ),
)
@click.option("--repo", metavar="REPO", help="Repository: a folder, a URI or a label; default: butler.repository.")
@click.option(
    "--name", metavar="NAME", help="Name of the sink, under which its position is kept; default: butler.name."
)
@click.option("--from-night", type=DAY_OBS, help="Only visits of this observing day and later ones, YYYYMMDD.")
@click.option("--once", is_flag=True, help="Write what is pending now, and end.")
@click.option("--list", "notes", is_flag=True, help="List kept regions, refused and removed visits; write nothing.")
@click.option("--retry-refused", is_flag=True, help="Let refused visits be tried again, and end.")
@dry_run_option
@config_option
@dsn_option
@output_option
@reports_errors
def butler_sink(  # noqa: PLR0913  # one argument for each option
    *,
    repo: str | None,
    name: str | None,
    from_night: int | None,
    once: bool,
    notes: bool,
    retry_refused: bool,
    dry_run: bool,
    config: Path | None,
    dsn: str | None,
    output: str,
) -> None:
    """Write every visit that the registry lacks into a Butler repository, until SIGTERM.

    The command works from the tables alone, and keeps its position there under the sink's name. A second process of the
    same name stands by. Regions that another client has changed in the registry are kept. The Butler cannot delete
    visits: --list names those that the tables no longer have.

    Exit code 1: of --once, it refused a visit or kept regions; of --list, it lists any.
    """
    if sum((once, notes, retry_refused, dry_run)) > 1:
        raise click.UsageError("give one of --once, --list, --retry-refused and --dry-run")
    short = once or notes or retry_refused or dry_run
    settings = database_settings(config, dsn, {"butler": {"repository": repo, "name": name}}, quiet=short)
    with SinkProcess(settings, from_night=from_night, writeable=not (notes or dry_run)) as process:
        if not short:
            process.run()
        elif notes:
            _list(process, output)
        elif retry_refused:
            click.echo(f"{process.positions.retry_refused()} visits will be tried again")
        elif dry_run:
            rows = [each._asdict() for each in process.sink.preview()]
            print_rows(rows, ("instrument", "visit", "day_obs", "result", "detail"), output)
            _summary(Counter(str(row["result"]) for row in rows))
        else:
            process.prepare()
            if not process.positions.lead():
                raise click.ClickException(f"another process runs sink {settings.butler.name!r}")
            while process.sink.turn():
                pass
            _summary(process.sink.counts + Counter(waiting=process.sink.waiting))
            if process.sink.counts["refused"] or process.sink.counts["kept"]:
                sys.exit(EXIT_FAILED)


def _list(process: SinkProcess, output: str) -> None:
    rows = [each._asdict() for each in process.positions.notes()]
    print_rows(rows, ("instrument", "visit", "revision", "state", "since", "detail"), output)
    if output != JSON:
        _summary(Counter(str(row["state"]) for row in rows))
    if rows:
        sys.exit(EXIT_FAILED)


def _summary(counts: Counter[str]) -> None:
    click.echo(", ".join(f"{n} {what}" for what, n in sorted(counts.items()) if n) or "no visits", err=True)
