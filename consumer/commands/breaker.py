"""The commands ``breaker show|reset``."""

from pathlib import Path

import click

from consumer.admin.breaker import reset, tripped
from consumer.commands.options import (
    config_option,
    dry_run_option,
    dsn_option,
    examples,
    output_option,
    print_rows,
    reports_errors,
    tool_settings,
)


@click.group()
def breaker() -> None:
    """Show where the circuit breaker stopped reading because most messages were bad, or resume reading."""


@breaker.command(epilog=examples("visit-consumer breaker show --config visits.yaml"))
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
    empty = "No partition is stopped. One that was reset is read again within 15 s."
    print_rows(rows, ["topic", "partition", "next_offset", "detail"], output, empty=empty)


@breaker.command(
    "reset",
    epilog=examples(
        "visit-consumer breaker reset --config visits.yaml",
        "visit-consumer breaker reset --accept --dry-run --config visits.yaml",
    ),
)
@click.option("--accept", is_flag=True, help="Write the bad messages that the log holds now as dead letters.")
@dry_run_option
@config_option
@dsn_option
@output_option
@reports_errors
def reset_(*, accept: bool, dry_run: bool, config: Path | None, dsn: str | None, output: str) -> None:
    """Resume reading: after the cause is fixed, or with --accept because the messages really are bad."""
    rows = [
        {
            "topic": each.log.partition.topic,
            "partition": each.log.partition.partition,
            "accept_until": each.accept_until,
            "detail": each.detail,
        }
        for each in reset(tool_settings(config, dsn, kafka=accept), accept=accept, dry_run=dry_run)
    ]
    print_rows(rows, ["topic", "partition", "accept_until", "detail"], output, empty="No partition is stopped.")
