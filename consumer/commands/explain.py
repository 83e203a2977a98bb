"""The command ``explain``: what became of an exposure."""

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
from consumer.commands.values import ID, NAME, printable
from consumer.read.explain import explain_exposure


@click.command(
    epilog=examples("visit-consumer explain 2026110100042 --instrument LSSTCam --config visits.yaml"),
)
@click.argument("exposure", type=ID)
@click.option("--instrument", type=NAME, help="Instrument of the exposure; without it, every one that has this id.")
@config_option
@dsn_option
@output_option
@reports_errors
def explain(exposure: int, instrument: str | None, config: Path | None, dsn: str | None, output: str) -> None:
    """Explain the outcome of EXPOSURE (its id).

    The exposure is in visits, or was skipped with a reason, or waits in an open group with its deadlines, or became
    dead letters, or never arrived.
    """
    settings = tool_settings(config, dsn)
    with open_database(settings) as database:
        explanations = explain_exposure(database, settings, exposure, instrument)
    if output == JSON:
        print_json(explanations)
        return
    for each in explanations:
        click.echo(printable(each["summary"]))
        _details(each, 1)


def _details(values: dict[str, Any], depth: int) -> None:
    """Print what is known, one line each, lists of mappings as blocks."""
    for name, value in values.items():
        label = f"{'  ' * depth}{name.replace('_', ' ')}"
        if name == "summary" or value in (None, [], {}):
            continue
        if isinstance(value, dict):
            click.echo(f"{label}:")
            _details(value, depth + 1)
        elif isinstance(value, list) and isinstance(value[0], dict):
            for each in value:
                click.echo(f"{label}:")
                _details(each, depth + 1)
        else:
            click.echo(f"{label}: {as_text(value)}")
