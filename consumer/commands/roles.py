"""The command ``roles``."""

from pathlib import Path

import click

from consumer.commands.options import config_option, dsn_option, reports_errors, tool_settings
from consumer.postgres.connection import Database
from consumer.postgres.roles import apply_roles, roles_script


@click.command()
@click.option("--apply", "applies", is_flag=True, help="Make them in the database, as a superuser.")
@config_option
@dsn_option
@reports_errors
def roles(*, applies: bool, config: Path | None, dsn: str | None) -> None:
    """Print the SQL of the roles: visit_owner migrates, visit_writer runs, visit_reader serves dashboards."""
    settings = tool_settings(config, dsn, database=applies)
    if not applies:
        click.echo(roles_script(settings.database.schema_name))
        return
    with Database(settings.database, application_name="visit-consumer roles") as database:
        apply_roles(database)
    click.echo(f"The roles have their rights on schema {settings.database.schema_name}.")
