"""The command ``page``: the page for people and its JSON API."""

from pathlib import Path

import click

from consumer.commands.options import config_option, database_settings, dsn_option, examples, reports_errors
from consumer.page.process import PageProcess


@click.command(
    short_help="Serve the page for people and its JSON API.",
    epilog=examples(
        "visit-consumer page --config visits.yaml",
        "visit-consumer page --dsn 'host=replica dbname=visits user=visit_reader' --port 8084",
    ),
)
@click.option("--host", metavar="HOST", help="Address to listen on; default: page.host.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0: any free one; default: page.port.")
@config_option
@dsn_option
@reports_errors
def page(*, host: str | None, port: int | None, config: Path | None, dsn: str | None) -> None:
    """Show nights, visits on the sky, open groups and trouble in a browser, live, until SIGTERM.

    Below /api/v1 is a JSON API, described at /api/v1/openapi.json. The process reads the tables alone: the reader role
    and a read replica are enough, and any number of processes can run.
    """
    PageProcess(database_settings(config, dsn, {"page": {"host": host, "port": port}}, quiet=False)).run()
