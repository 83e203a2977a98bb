"""The commands ``positions show|set|accept-gap|take-over|remove``."""

import re
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
    remove_positions,
    set_position,
    show_positions,
    take_over,
)
from consumer.commands.options import (
    JSON,
    config_option,
    dry_run_option,
    dsn_option,
    examples,
    output_option,
    print_rows,
    reports_errors,
    tool_settings,
)
from consumer.commands.values import NAME, PARTITION
from consumer.events.validation import INT64_MAX, shown
from consumer.model import PartitionId


@click.group()
def positions() -> None:
    """Show the stored positions, set them, accept a gap in the log, take over another group's, or remove those."""


@positions.command(
    epilog=examples(
        "visit-consumer positions show --config visits.yaml",
        "visit-consumer positions show --log --config visits.yaml",
    )
)
@click.option(
    "--log", "ask_log", is_flag=True, help="Ask the brokers too: is each position inside its log, and the lag."
)
@config_option
@dsn_option
@output_option
@reports_errors
def show(*, ask_log: bool, config: Path | None, dsn: str | None, output: str) -> None:
    """Show the next offset of every partition."""
    statuses = show_positions(tool_settings(config, dsn, kafka=ask_log), ask_log=ask_log)
    columns = ["consumer_group", "topic", "partition", "next_offset", "epoch", "stream_time", "owner", "updated_at"]
    if ask_log:
        columns[4:4] = ["low", "high", "lag", "state"]
    print_rows([_row(each) for each in statuses], columns, output)


@positions.command(
    "set",
    epilog=examples(
        "visit-consumer positions set --topic raw-ingested --partition 0 --offset earliest --config visits.yaml",
        "visit-consumer positions set --topic raw-ingested --partition 0 --offset 1500 --dry-run --config visits.yaml",
    ),
)
@click.option("--topic", type=NAME, required=True, help="Topic of the partition.")
@click.option("--partition", required=True, type=PARTITION, help="Its number.")
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
    """Set the next offset of a partition. A running replica drops its buffered messages and continues from there.

    Reading messages a second time changes no row; skipping messages loses them.
    """
    number = int(offset) if re.fullmatch(r"\d{1,19}", offset, re.ASCII) else None
    if offset not in {EARLIEST, LATEST} and (number is None or number > INT64_MAX):
        hint = f"{shown(offset)} is no offset: give a number, earliest or latest"
        raise click.BadParameter(hint, param_hint="--offset")
    where = offset if number is None else number
    settings = tool_settings(config, dsn, kafka=True)
    _print_changes([set_position(settings, PartitionId(topic, partition), where, force=force, dry_run=dry_run)], output)


@positions.command(
    "accept-gap",
    epilog=examples(
        "visit-consumer positions accept-gap --dry-run --config visits.yaml",
        "visit-consumer positions accept-gap --topic raw-ingested --partition 0 --config visits.yaml",
    ),
)
@click.option("--topic", type=NAME, help="Only of this topic.")
@click.option("--partition", type=PARTITION, help="Only of this partition.")
@dry_run_option
@config_option
@dsn_option
@output_option
@reports_errors
def accept_gap(
    *, topic: str | None, partition: int | None, dry_run: bool, config: Path | None, dsn: str | None, output: str
) -> None:
    """Accept that messages are lost: move each position that lies outside its log to the next message of the log.

    Until then the service does not read such partitions. The lost raws can be announced again later: the rows do not
    depend on the order of arrival.
    """
    settings = tool_settings(config, dsn, kafka=True)
    moves = accept_gaps(settings, topic=topic, partition=partition, dry_run=dry_run)
    _print_changes(moves, output)
    if not moves and output != JSON:
        click.echo("There is no gap: every position lies inside its log.", err=True)


@positions.command(
    "take-over",
    epilog=examples(
        "visit-consumer positions take-over --from visit-consumer-old --dry-run --config visits.yaml",
    ),
)
@click.option("--from", "former", type=NAME, required=True, metavar="GROUP", help="The consumer group's former name.")
@dry_run_option
@config_option
@dsn_option
@output_option
@reports_errors
def take_over_(*, former: str, dry_run: bool, config: Path | None, dsn: str | None, output: str) -> None:
    """Take over the positions and open groups of another consumer group, after kafka.group was changed.

    Stop the replicas of the former group first. Where both groups have read a partition, the smaller position counts:
    reading messages a second time changes no row.
    """
    _print_changes(take_over(tool_settings(config, dsn), former, dry_run=dry_run), output)


@positions.command(
    epilog=examples(
        "visit-consumer positions remove --group visit-consumer-old --dry-run --config visits.yaml",
    ),
)
@click.option("--group", required=True, type=NAME, help="The consumer group; not the configured one.")
@dry_run_option
@config_option
@dsn_option
@output_option
@reports_errors
def remove(*, group: str, dry_run: bool, config: Path | None, dsn: str | None, output: str) -> None:
    """Remove the positions of a consumer group that is no more, as the owner of the schema.

    A group that was taken over keeps its rows for the record until then; 'positions show --log' calls them retired.
    """
    rows = remove_positions(tool_settings(config, dsn), group, dry_run=dry_run)
    shown_rows = [{**each._asdict(), "done": not dry_run} for each in rows]
    print_rows(shown_rows, ("consumer_group", "topic", "partition", "next_offset", "done"), output)


def _row(status: PositionStatus) -> dict[str, object]:
    stored = status.stored
    clock = datetime.fromtimestamp(stored.stream_time_ms / 1000, UTC) if stored.stream_time_ms else None
    return {
        **stored._asdict(),
        "stream_time": None if clock is None else clock.isoformat(timespec="milliseconds"),
        "low": status.low,
        "high": status.high,
        "lag": status.lag,
        "state": None if status.state is None else status.state.value,
    }


def _print_changes(moves: Sequence[PositionChange], output: str) -> None:
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
