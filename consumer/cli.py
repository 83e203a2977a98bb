"""The command ``visit-consumer``: thin; each subcommand reads its options, calls one function and prints the answer."""

import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec

import click

from consumer import __version__
from consumer.app import Application, instrument_rules, migrate_database
from consumer.config import Settings, load_settings, secret_values
from consumer.errors import ConfigurationError, VisitConsumerError
from consumer.logs import configure_logging, get_logger

EXIT_CONFIGURATION = 78
"""EX_CONFIG of sysexits: starting again will not help."""
EXIT_FAILED = 1

P = ParamSpec("P")

config_option = click.option(
    "--config",
    "config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="VISIT_CONSUMER_CONFIG",
    help="Settings, a YAML file; environment variables VISIT_CONSUMER_... override it.",
)


def reports_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Print our own errors as one line each, and exit with a code that says which kind it was."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except ConfigurationError as error:
            click.echo(f"visit-consumer: {error}", err=True)
            sys.exit(EXIT_CONFIGURATION)
        except VisitConsumerError as error:
            click.echo(f"visit-consumer: {error}", err=True)
            sys.exit(EXIT_FAILED)

    return wrapped


def settings_from(config: Path | None) -> Settings:
    """Load the settings and set up logging by them."""
    settings = load_settings(config, os.environ)
    configure_logging(settings.log.format, settings.log.level, secret_values(settings))
    return settings


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="visit-consumer")
def main() -> None:
    """Define visits from raw-ingested events on Kafka, exactly once, in PostgreSQL."""


@main.command()
@config_option
@reports_errors
def run(config: Path | None) -> None:
    """Serve: read events, define visits, until SIGTERM."""
    settings = settings_from(config)
    try:
        Application(settings).run()
    except VisitConsumerError as error:
        get_logger(__name__).error("cannot go on", error=str(error))
        raise


@main.command("check-config")
@config_option
@reports_errors
def check_config(config: Path | None) -> None:
    """Check the settings, and that every rule, algorithm and camera that they name can be had."""
    settings = settings_from(config)
    for name, rules in instrument_rules(settings).items():
        click.echo(f"{name}: {rules.rule.name}, {rules.algorithm.name}, padding {rules.algorithm.padding} pixels")
    click.echo("The configuration is good.")


@main.command()
@config_option
@reports_errors
def migrate(config: Path | None) -> None:
    """Bring the database schema up to date; run it as the schema's owner, before a new release."""
    applied = migrate_database(settings_from(config))
    for name in applied:
        click.echo(f"applied {name}")
    if not applied:
        click.echo("The schema is up to date.")
