"""The command ``explain``: what became of exposures."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from consumer.commands.options import (
    JSON,
    as_text,
    config_option,
    dsn_option,
    examples,
    open_database,
    output_option,
    print_json,
    reports_errors,
    tool_settings,
)
from consumer.commands.values import DAY_OBS, ID, NAME, printable
from consumer.read.explain import explain_exposure, explain_named, explain_night


@click.command(
    epilog=examples(
        "visit-consumer explain 2026110100042 --instrument LSSTCam --config visits.yaml",
        "visit-consumer explain MC_O_20261101_000042 --config visits.yaml",
        "visit-consumer explain --group 2026-11-02T00:00:00.042 --config visits.yaml",
        "visit-consumer explain --visit 2026110100042 --config visits.yaml --output json",
        "visit-consumer explain --night 20261101 --config visits.yaml",
    ),
)
@click.argument("exposure", type=NAME, required=False)
@click.option("--group", type=NAME, help="Every exposure of this group, by its name or its key.")
@click.option("--visit", type=ID, help="Every exposure of this visit.")
@click.option("--night", type=DAY_OBS, help="A line for each exposure of this observing day that has no visit.")
@click.option("--instrument", type=NAME, help="Instrument of the exposure; without it, every one that has this id.")
@config_option
@dsn_option
@output_option
@reports_errors
def explain(  # one argument for each option
    *,
    exposure: str | None,
    group: str | None,
    visit: int | None,
    night: int | None,
    instrument: str | None,
    config: Path | None,
    dsn: str | None,
    output: str,
) -> None:
    """Explain the outcome of EXPOSURE (its id or its obs_id), or of those of a group, a visit or a night.

    The exposure is in visits, or was skipped with a reason, or waits in an open group with its deadlines, or became
    dead letters, or never arrived. Shown are also the raws that are missing and for how long, the neighbours in the
    night's sequence, and what happened, in order of time.

    Exit codes: 0 it was explained, 1 there is no such obs_id, group or visit, or the database cannot be asked.
    """
    if sum(each is not None for each in (exposure, group, visit, night)) != 1:
        raise click.UsageError("say what: one of EXPOSURE, --group, --visit and --night")
    id_ = None if exposure is None or not exposure.isdecimal() else ID.convert(int(exposure), None, None)
    settings = tool_settings(config, dsn)
    with open_database(settings) as database:
        if night is not None:
            explanations = explain_night(database, settings, night, instrument)
        elif id_ is not None:
            explanations = explain_exposure(database, settings, id_, instrument)
        else:
            by, name = next(
                (by, str(name))
                for by, name in (("obs_id", exposure), ("group", group), ("visit", visit))
                if name is not None
            )
            explanations = explain_named(database, settings, name, by=by, instrument=instrument)
            if not explanations:
                raise click.ClickException(f"no exposure of {by} {name} is stored")
    if output == JSON:
        print_json(explanations)
        return
    for each in explanations:
        click.echo(printable(_for_people(each["summary"])))
        if night is None:
            _details(each, 1)


_ISO_UTC = re.compile(r"(\d{4}-\d{2}-\d{2})T(\d{2}:\d{2}:\d{2})(?:\.\d+)?\+00:00")


def _for_people(value: object) -> str:
    """Write one value: times as UTC, to the second."""
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"
    return _ISO_UTC.sub(r"\1 \2Z", as_text(value))


def _details(values: dict[str, Any], depth: int) -> None:
    """Print what is known, one line each, lists of mappings as blocks."""
    for name, value in values.items():
        label = f"{'  ' * depth}{name.replace('_', ' ')}"
        if name == "summary" or value in (None, [], {}):
            continue
        if isinstance(value, dict):
            click.echo(f"{label}:")
            _details(value, depth + 1)
        elif name == "history":
            click.echo(f"{label}:")
            for each in value:
                click.echo(printable(f"{'  ' * (depth + 1)}{_for_people(each['at'])} {each['what']}"))
        elif isinstance(value, list) and isinstance(value[0], dict):
            for each in value:
                click.echo(f"{label}:")
                _details(each, depth + 1)
        else:
            click.echo(f"{label}: {_for_people(value)}")
