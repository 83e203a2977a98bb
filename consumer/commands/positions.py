"""The commands ``positions show|set|accept-gap|take-over``."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from consumer.admin.positions import (
    EARLIEST,
    LATEST,
    PositionChange,
    PositionStatus,
    accept_gaps,
    set_position,
    show_positions,
    take_over,
)
from consumer.commands.options import (
    JSON,
    config_option,
    dry_run_option,
    dsn_option,
    output_option,
    print_rows,
    reports_errors,
    tool_settings,
)
from consumer.model import PartitionId


@click.group()
def positions() -> None:
    """Look at the stored positions in the log, set them, accept that messages were lost, or rename their group."""


@positions.command()
@click.option(
    "--log", "ask_log", is_flag=True, help="Ask the brokers too: is each position inside its log, and the lag."
)
@config_option
@dsn_option
@output_option
@reports_errors
def show(*, ask_log: bool, config: Path | None, dsn: str | None, output: str) -> None:
    """Show where every partition is read next."""
    standings = show_positions(tool_settings(config, dsn, kafka=ask_log), ask_log=ask_log)
    columns = ["consumer_group", "topic", "partition", "next_offset", "epoch", "stream_time", "owner", "updated_at"]
    if ask_log:
        columns[4:4] = ["low", "high", "lag", "state"]
    print_rows([_row(each) for each in standings], columns, output)


@positions.command("set")
@click.option("--topic", required=True, help="Topic of the partition.")
@click.option("--partition", required=True, type=click.IntRange(min=0), help="Its number.")
@click.option("--offset", required=True, metavar="OFFSET", help="The offset to read next; or earliest, or latest.")
@click.option("--force", is_flag=True, help="Accept an offset that is outside the log.")
@dry_run_option
@config_option
@dsn_option
@output_option
@reports_errors
def set_(
    *,
    topic: str,
    partition: int,
    offset: str,
    force: bool,
    dry_run: bool,
    config: Path | None,
    dsn: str | None,
    output: str,
) -> None:
    """Set where a partition is read next. A running reader drops what it holds and goes on from there.

    Reading again what was read before changes no row; skipping messages loses them.
    """
    if offset not in {EARLIEST, LATEST} and not offset.isdecimal():
        raise click.BadParameter(f"{offset!r} is no offset: give a number, earliest or latest", param_hint="--offset")
    where = int(offset) if offset.isdecimal() else offset
    settings = tool_settings(config, dsn, kafka=True)
    _tell([set_position(settings, PartitionId(topic, partition), where, force=force, dry_run=dry_run)], output)


@positions.command("accept-gap")
@click.option("--topic", help="Only of this topic.")
@click.option("--partition", type=click.IntRange(min=0), help="Only of this partition.")
@dry_run_option
@config_option
@dsn_option
@output_option
@reports_errors
def accept_gap(
    *, topic: str | None, partition: int | None, dry_run: bool, config: Path | None, dsn: str | None, output: str
) -> None:
    """Accept that messages are gone: move positions that lie outside their log to where it goes on.

    Before that, such partitions are not read. What is lost may be announced again: the rows do not depend on order.
    """
    settings = tool_settings(config, dsn, kafka=True)
    moves = accept_gaps(settings, topic=topic, partition=partition, dry_run=dry_run)
    _tell(moves, output)
    if not moves and output != JSON:
        click.echo("There is no gap: every position lies inside its log.", err=True)


@positions.command("take-over")
@click.option("--from", "former", required=True, metavar="GROUP", help="The consumer group's former name.")
@dry_run_option
@config_option
@dsn_option
@output_option
@reports_errors
def take_over_(*, former: str, dry_run: bool, config: Path | None, dsn: str | None, output: str) -> None:
    """Go on for another consumer group, after kafka.group was changed: from its positions, with its open groups.

    End the replicas of the former name before. Where both have read a partition, the lesser position counts: what is
    read twice changes no row.
    """
    _tell(take_over(tool_settings(config, dsn), former, dry_run=dry_run), output)


def _row(standing: PositionStatus) -> dict[str, object]:
    stored = standing.stored
    clock = datetime.fromtimestamp(stored.stream_time_ms / 1000, UTC) if stored.stream_time_ms else None
    return {
        **stored._asdict(),
        "stream_time": None if clock is None else clock.isoformat(timespec="milliseconds"),
        "low": standing.low,
        "high": standing.high,
        "lag": standing.lag,
        "state": None if standing.state is None else standing.state.value,
    }


def _tell(moves: Sequence[PositionChange], output: str) -> None:
    rows = [
        {
            "topic": move.log.partition.topic,
            "partition": move.log.partition.partition,
            "cluster_id": move.log.cluster_id,
            "topic_id": move.log.topic_id,
            "before": move.before,
            "after": move.after,
            "epoch": move.epoch,
            "done": move.epoch is not None,
        }
        for move in moves
    ]
    print_rows(rows, ("topic", "partition", "before", "after", "epoch", "done"), output)
