"""The commands of the service itself: ``run``, ``check-config``, ``migrate``."""

from pathlib import Path

import click

from consumer.commands.options import config_option, reports_errors, settings_from
from consumer.config.resolve import resolve_instruments
from consumer.errors import VisitConsumerError
from consumer.kafka.clients import check_clients
from consumer.kafka.schema_registry import event_decoder
from consumer.logs import get_logger
from consumer.service.app import Application, migrate_database


@click.command()
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


@click.command("check-config")
@config_option
@reports_errors
def check_config(config: Path | None) -> None:
    """Check the settings, and that all they name can be had: rules, algorithms, cameras, librdkafka's properties."""
    settings = settings_from(config)
    for name, rules in resolve_instruments(settings).items():
        click.echo(f"{name}: {rules.rule.name}, {rules.algorithm.name}, padding {rules.algorithm.padding} pixels")
    with event_decoder(settings):
        pass
    check_clients(settings.kafka, announces=settings.announce.topic is not None)
    click.echo("The configuration is good.")


@click.command()
@config_option
@reports_errors
def migrate(config: Path | None) -> None:
    """Bring the database schema up to date; run it as the schema's owner, before a new release."""
    applied = migrate_database(settings_from(config))
    for name in applied:
        click.echo(f"applied {name}")
    if not applied:
        click.echo("The schema is up to date.")
