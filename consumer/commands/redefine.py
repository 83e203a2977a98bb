"""The command ``redefine``: stored exposures, defined again by changed settings."""

import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.progress import track

from consumer.admin.redefine import Redefinition, Scope
from consumer.commands.options import (
    EXIT_FAILED,
    JSON,
    config_option,
    dry_run_option,
    dsn_option,
    examples,
    open_database,
    output_option,
    print_json,
    print_rows,
    reports_errors,
    tool_settings,
)
from consumer.commands.values import DAY_OBS, ID, NAME
from consumer.domain.redefinition import ChangeKind, VisitChange

_BAD = frozenset({ChangeKind.CONFLICT, ChangeKind.FAILED})


@click.command(
    epilog=examples(
        "visit-consumer redefine --instrument LSSTCam --day-obs 20261101 --dry-run --config visits.yaml",
        "visit-consumer redefine --instrument LSSTCam --visit 2026110100042 --config visits.yaml",
    )
)
@click.option("--instrument", type=NAME, required=True, help="Instrument of the visits.")
@click.option("--day-obs", type=DAY_OBS, help="All visits of this observing day, YYYYMMDD.")
@click.option("--visit", type=ID, help="This visit, and those that share a group with it before or after the change.")
@dry_run_option
@config_option
@dsn_option
@output_option
@reports_errors
def redefine(
    *,
    instrument: str,
    day_obs: int | None,
    visit: int | None,
    dry_run: bool,
    config: Path | None,
    dsn: str | None,
    output: str,
) -> None:
    """Define visits again from the stored exposures, after a change of padding, rule or camera.

    The command replaces rows and removes visits that are no longer defined, in one transaction for each visit and those
    that it replaces, and then shows what changed; --dry-run shows it without a change. Restart running consumers with
    the changed settings first. Visits that cannot be defined stay unchanged, and the exit code is 1.
    """
    if (day_obs is None) == (visit is None):
        raise click.UsageError("say what: either --day-obs or --visit")
    scope = Scope(instrument=instrument, day_obs=day_obs, visit=visit)
    settings = tool_settings(config, dsn)
    with open_database(settings) as database:
        work = Redefinition(database, settings, scope)
        parts = work.components()
        if not dry_run:
            work.store_systems()
        console = Console(stderr=True)
        bar = track(parts, "redefining", console=console, disable=not console.is_terminal)
        changes = [change for part in bar for change in work.redefine(part, write=not dry_run)]
    if output == JSON:
        print_json([asdict(each) for each in changes])
    else:
        _show(changes, title="would change" if dry_run else "changes")
        counts = Counter(each.kind.value for each in changes)
        click.echo(", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())) or "no exposures", err=True)
    if any(each.kind in _BAD for each in changes):
        sys.exit(EXIT_FAILED)


def _show(changes: list[VisitChange], *, title: str) -> None:
    shown_changes = [asdict(each) for each in changes if each.kind is not ChangeKind.UNCHANGED]
    print_rows(shown_changes, ("kind", "visit", "name", "detail"), "table", title=title)
