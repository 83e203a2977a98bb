"""The commands of the service itself: ``run``, ``check-config``, ``migrate``."""

from pathlib import Path

import click

from consumer.commands.options import (
    config_option,
    dsn_option,
    examples,
    reports_errors,
    settings_from,
    tool_settings,
)
from consumer.config.resolve import resolve_instruments
from consumer.errors import VisitConsumerError
from consumer.kafka.clients import check_clients
from consumer.kafka.event_decoder import event_decoder
from consumer.logs import get_logger
from consumer.service.app import Application, migrate_database


@click.command(epilog=examples("visit-consumer run --config visits.yaml"))
@config_option
@reports_errors
def run(config: Path | None) -> None:
    """Run the service: read events and define visits, until SIGTERM."""
    settings = settings_from(config)
    try:
        Application(settings).run()
    except VisitConsumerError as error:
        get_logger(__name__).error("cannot go on", error=str(error))
        raise


@click.command("check-config", epilog=examples("visit-consumer check-config --config visits.yaml"))
@config_option
@reports_errors
def check_config(config: Path | None) -> None:
    """Check the settings, and all that they name: rules, algorithms, cameras, librdkafka's properties."""
    settings = settings_from(config)
    for name, rules in resolve_instruments(settings).items():
        click.echo(f"{name}: {rules.rule.name}, {rules.algorithm.name}, padding {rules.algorithm.padding} pixels")
    with event_decoder(settings):
        pass
    check_clients(settings.kafka, announces=settings.announce.topic is not None)
    click.echo("The configuration is good.")


@click.command(
    epilog=examples(
        "visit-consumer migrate --dsn 'host=localhost user=visit_owner dbname=visits'",
        "visit-consumer migrate --config visits.yaml --dsn postgresql://visit_owner@db.example.org/visits",
    )
)
@config_option
@dsn_option
@reports_errors
def migrate(config: Path | None, dsn: str | None) -> None:
    """Bring the database schema up to date; run it as the schema's owner, before a new release."""
    applied = migrate_database(tool_settings(config, dsn))
    for name in applied:
        click.echo(f"applied {name}")
    if not applied:
        click.echo("The schema is up to date.")
