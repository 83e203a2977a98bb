"""The commands ``breaker show|reset``."""

from pathlib import Path

import click

from consumer.admin.breaker import reset, tripped
from consumer.commands.options import (
    config_option,
    dry_run_option,
    dsn_option,
    output_option,
    print_rows,
    reports_errors,
    tool_settings,
)


@click.group()
def breaker() -> None:
    """Look where the circuit breaker stopped reading because most messages were bad, or let reading go on."""


@breaker.command()
@config_option
@dsn_option
@output_option
@reports_errors
def show(*, config: Path | None, dsn: str | None, output: str) -> None:
    """Show the partitions that the circuit breaker stopped, and why."""
    rows = [
        {"topic": each.topic, "partition": each.partition, "next_offset": each.next_offset, "detail": each.breaker}
        for each in tripped(tool_settings(config, dsn))
    ]
    print_rows(rows, ["topic", "partition", "next_offset", "detail"], output)


@breaker.command("reset")
@click.option("--accept", is_flag=True, help="Make dead letters of the bad messages that the log holds now.")
@dry_run_option
@config_option
@dsn_option
@output_option
@reports_errors
def reset_(*, accept: bool, dry_run: bool, config: Path | None, dsn: str | None, output: str) -> None:
    """Let reading go on: after the cause was mended, or with --accept because the messages really are bad."""
    rows = [
        {
            "topic": each.log.partition.topic,
            "partition": each.log.partition.partition,
            "accept_until": each.accept_until,
            "detail": each.detail,
        }
        for each in reset(tool_settings(config, dsn, kafka=accept), accept=accept, dry_run=dry_run)
    ]
    print_rows(rows, ["topic", "partition", "accept_until", "detail"], output)
