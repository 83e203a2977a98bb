"""What the commands share: options, settings, errors as one line, and rows as JSON or as a table."""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import ParamSpec

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from consumer.commands.values import FilePath, printable
from consumer.config import Settings, load_settings, secret_values
from consumer.errors import ConfigurationError, VisitConsumerError
from consumer.logs import Redaction, configure_logging
from consumer.postgres.connection import Database

EXIT_CONFIGURATION = 78
"""EX_CONFIG of sysexits: starting again will not help."""
EXIT_FAILED = 1

JSON = "json"
TABLE = "table"

_NO_KAFKA = {"bootstrap_servers": "not-used:9092"}

P = ParamSpec("P")

Row = Mapping[str, object]

config_option = click.option(
    "--config",
    "config",
    type=FilePath(exists=True, dir_okay=False, path_type=Path),
    envvar="VISIT_CONSUMER_CONFIG",
    help="Settings, a YAML file; environment variables VISIT_CONSUMER_... override it.",
)
dsn_option = click.option(
    "--dsn",
    metavar="DSN",
    help="PostgreSQL, as libpq writes it, instead of database.conninfo. Others on this machine can read it: give a "
    "password as VISIT_CONSUMER_DATABASE__PASSWORD or PGPASSWORD.",
)
output_option = click.option(
    "--output",
    type=click.Choice([TABLE, JSON]),
    default=TABLE,
    show_default=True,
    help="A table for people, or JSON.",
)
dry_run_option = click.option("--dry-run", is_flag=True, help="Only show what would be done.")


def examples(*lines: str) -> str:
    """Return the epilog of a command's help: command lines that a reader can copy, one on each line."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def reports_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Print our own errors as one line each, and exit with a code that says which kind it was."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except ConfigurationError as error:
            complain(str(error))
            sys.exit(EXIT_CONFIGURATION)
        except VisitConsumerError as error:
            complain(str(error))
            sys.exit(EXIT_FAILED)

    return wrapped


def complain(text: str) -> None:
    """Print a line on standard error, without any password that it may hold."""
    click.echo(f"visit-consumer: {printable(Redaction().text(text))}", err=True)


def settings_from(config: Path | None) -> Settings:
    """Load the settings and set up logging by them."""
    settings = load_settings(config, os.environ)
    configure_logging(settings.log.format, settings.log.level, secret_values(settings))
    return settings


def tool_settings(
    config: Path | None, dsn: str | None = None, *, kafka: bool = False, database: bool = True
) -> Settings:
    """Load the settings of a command that needs not all of them, and set up logging.

    Parameters
    ----------
    config
        The file, or None.
    dsn
        Stands in for ``database.conninfo``.
    kafka, database
        Whether the command speaks to them: their required settings may be missing otherwise.
    """
    below: dict[str, object] = {}
    if not kafka:
        below["kafka"] = _NO_KAFKA
    if not database:
        below["database"] = {"conninfo": ""}
    settings = load_settings(config, os.environ, below=below, above=_above(dsn))
    # What was done is printed: only what went wrong is logged besides.
    configure_logging(settings.log.format, "warning", secret_values(settings))
    return settings


def database_settings(
    config: Path | None, dsn: str | None, options: Mapping[str, Mapping[str, object]], *, quiet: bool
) -> Settings:
    """Load the settings of a command that needs no Kafka, its options above them, and set up logging.

    Parameters
    ----------
    config
        The file, or None.
    dsn
        Stands in for ``database.conninfo``.
    options
        Keys of sections; values that are None say nothing.
    quiet
        Whether only what goes wrong is logged.
    """
    given = {name: {k: v for k, v in section.items() if v is not None} for name, section in options.items()}
    settings = load_settings(config, os.environ, below={"kafka": _NO_KAFKA}, above={**_above(dsn), **given})
    level = "warning" if quiet else settings.log.level
    configure_logging(settings.log.format, level, secret_values(settings))
    return settings


def _above(dsn: str | None) -> dict[str, object]:
    return {} if dsn is None else {"database": {"conninfo": dsn}}


def open_database(settings: Settings) -> Database:
    """Return a session for the command that runs, to be used in a ``with`` statement."""
    context = click.get_current_context()
    command = context.command_path.removeprefix(context.find_root().command_path)
    return Database(settings.database, application_name=f"visit-consumer{command}")


def print_json(value: object) -> None:
    """Print one JSON document."""
    json.dump(value, sys.stdout, allow_nan=False, default=str)
    click.echo()


def print_rows(
    rows: Sequence[Row], columns: Sequence[str], output: str, *, title: str = "", empty: str = "Nothing to show."
) -> None:
    """Print rows as a JSON array with every key, or as a table of some columns.

    Parameters
    ----------
    rows
        JSON values.
    columns
        Keys to show in the table, in order.
    output
        ``json`` or ``table``.
    title
        Of the table.
    empty
        Said in its place, beside the output, where there are no rows.
    """
    if output == JSON:
        print_json(list(rows))
        return
    if not rows:
        click.echo(empty, err=True)
        return
    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left")
    for name in columns:
        table.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(Text(as_text(row.get(name))) for name in columns))
    terminal = sys.stdout.isatty()
    # A file or a pipe has no width: nothing is folded there, so that grep finds whole lines.
    Console(file=sys.stdout, width=None if terminal else 10_000, highlight=False).print(table)


def as_text(value: object) -> str:
    """Write one value of a table."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(as_text, value))
    return printable(str(value))
