"""The commands ``obscore fill|felis``: rows that are missing, and the table's description."""

from pathlib import Path

import click

from consumer.commands.options import (
    JSON,
    config_option,
    dsn_option,
    examples,
    open_database,
    output_option,
    print_json,
    reports_errors,
    tool_settings,
)
from consumer.config.resolve import resolve_obscore
from consumer.errors import ConfigurationError
from consumer.postgres.migrate import check_schema
from consumer.postgres.obscore import fill_obscore
from consumer.vo.felis import felis_description


@click.group()
def obscore() -> None:
    """Fill the ObsCore table of visits, or describe it for servers of the Virtual Observatory."""


@obscore.command(
    epilog=examples(
        "visit-consumer obscore fill --config visits.yaml",
        "visit-consumer obscore fill --rewrite --output json --config visits.yaml",
    )
)
@click.option("--rewrite", is_flag=True, help="Write every row: after a change of the settings obscore or of a camera.")
@config_option
@dsn_option
@output_option
@reports_errors
def fill(*, rewrite: bool, config: Path | None, dsn: str | None, output: str) -> None:
    """Write the rows of visits that have none or a former revision's, and remove those of visits that went.

    Needed after an upgrade from a release without the table, and after the setting obscore.enabled was false. Safe
    beside running replicas.
    """
    settings = tool_settings(config, dsn)
    rows = resolve_obscore(settings)
    if rows is None:
        raise ConfigurationError("obscore.enabled is false: the replicas would not keep what is filled now")
    with open_database(settings) as database:
        check_schema(database)
        written, removed = fill_obscore(database, rows, rewrite=rewrite)
    if output == JSON:
        print_json({"written": written, "removed": removed})
    else:
        click.echo(f"{written} rows written, {removed} removed")


@obscore.command(epilog=examples("visit-consumer obscore felis --config visits.yaml > visits.felis.yaml"))
@click.option(
    "--table",
    type=click.Choice(["visit_obscore_public", "visit_obscore"]),
    default="visit_obscore_public",
    show_default=True,
    help="What to describe: the view of what is public, or the table.",
)
@config_option
@dsn_option
@reports_errors
def felis(*, table: str, config: Path | None, dsn: str | None) -> None:
    """Describe the table in Felis' YAML, from which servers fill TAP_SCHEMA.

    With the setting obscore.view_schema it is that schema's view obscore that is described.
    """
    settings = tool_settings(config, dsn, database=False)
    schema = settings.obscore.view_schema
    if schema is None:
        click.echo(felis_description(settings.database.schema_name, table), nl=False)
    else:
        click.echo(felis_description(schema, "obscore"), nl=False)
