"""The commands ``dead-letters list|show|replay|discard``."""

import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from consumer.admin.dead_letters import DeadLetterResult, decoded, discard, hex_dump, replay
from consumer.commands.options import (
    EXIT_FAILED,
    JSON,
    as_text,
    complain,
    config_option,
    dry_run_option,
    dsn_option,
    examples,
    open_database,
    output_option,
    print_json,
    print_rows,
    reports_errors,
    tool_settings,
)
from consumer.commands.values import COUNT, ID, NAME, PARTITION, printable
from consumer.errors import DeadLetterReason
from consumer.events.validation import INT64_MAX, shown
from consumer.postgres.dead_letters import DeadLetterFilter, DeadLetterStatus, StoredDeadLetter
from consumer.read.dead_letters import list_dead_letters

Command = TypeVar("Command", bound=Callable[..., object])

_COLUMNS = (
    "id",
    "recorded_at",
    "status",
    "reason",
    "instrument",
    "exposure",
    "group_key",
    "topic",
    "partition",
    "offset",
    "detail",
)
_TIME = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f"])


def offset_range(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> tuple[int | None, int | None] | None:
    """Read an offset, or a range written ``first-last``, either of which may be left out; both ends count."""
    if value is None:
        return None
    first, dash, last = value.partition("-")
    if not re.fullmatch(r"\d{1,19}|\d{0,19}-\d{1,19}|\d{1,19}-", value, re.ASCII):
        raise click.BadParameter(f"{shown(value)} is no range of offsets: write 17, 17-20, 17- or -20")
    begin, end = int(first) if first else None, (int(last) if last else None) if dash else int(first)
    if max(begin or 0, end or 0) > INT64_MAX or (begin is not None and end is not None and end < begin):
        raise click.BadParameter(f"{value} is no range of offsets: it runs backwards, or beyond any log")
    return begin, end


def choice_options(command: Command) -> Command:
    """Add the options that choose dead letters."""
    for option in reversed(
        (
            click.option("--id", "ids", type=ID, multiple=True, help="By id; may be repeated."),
            click.option(
                "--reason",
                "reasons",
                multiple=True,
                type=click.Choice([each.value for each in DeadLetterReason]),
                metavar="REASON",
                help="By reason, such as contradiction; may be repeated.",
            ),
            click.option("--topic", type=NAME, help="Of messages of this topic."),
            click.option("--partition", type=PARTITION, help="Of messages of this partition."),
            click.option(
                "--offsets",
                metavar="FIRST-LAST",
                callback=offset_range,
                help="Of messages at these offsets, both ends included.",
            ),
            click.option("--since", type=_TIME, help="Recorded at this time (UTC) or later."),
            click.option("--until", type=_TIME, help="Recorded before this time (UTC)."),
            click.option("--instrument", type=NAME, help="Of this instrument."),
            click.option("--exposure", type=ID, help="Of this exposure."),
            click.option(
                "--status",
                "statuses",
                multiple=True,
                type=click.Choice([*(each.value for each in DeadLetterStatus), "any"]),
                default=["open"],
                show_default=True,
                help="By status; may be repeated.",
            ),
        )
    ):
        command = option(command)
    return command


@click.group("dead-letters")
def dead_letters() -> None:
    """List the messages and groups that could not be used, replay their messages, or discard them."""


@dead_letters.command(
    "list",
    epilog=examples(
        "visit-consumer dead-letters list --config visits.yaml",
        "visit-consumer dead-letters list --reason contradiction --since 2026-11-01 --config visits.yaml",
    ),
)
@choice_options
@click.option("--limit", type=COUNT, help="Show at most this many, the oldest first.")
@config_option
@dsn_option
@output_option
@reports_errors
def list_(*, limit: int | None, config: Path | None, dsn: str | None, output: str, **chosen: Any) -> None:
    """List dead letters."""
    choice = _choice(chosen)
    with open_database(tool_settings(config, dsn)) as database:
        letters = list_dead_letters(database, choice, limit=limit)
    print_rows([_row(each) for each in letters], _COLUMNS, output, empty="No dead letters of this choice.")
    if output != JSON and letters:
        counts = Counter(each.reason for each in letters)
        click.echo(", ".join(f"{count} {reason}" for reason, count in counts.most_common()), err=True)


@dead_letters.command(epilog=examples("visit-consumer dead-letters show 17 --config visits.yaml"))
@click.argument("number", metavar="ID", type=ID)
@config_option
@dsn_option
@output_option
@reports_errors
def show(number: int, config: Path | None, dsn: str | None, output: str) -> None:
    """Show one dead letter: its place in the log, the reason, its bytes and its decoded fields."""
    settings = tool_settings(config, dsn)
    with open_database(settings) as database:
        found = list_dead_letters(database, DeadLetterFilter(ids=[number]))
    if not found:
        complain(f"there is no dead letter {number}")
        sys.exit(EXIT_FAILED)
    (letter,) = found
    fields = decoded(settings, letter) if letter.is_message else None
    if output == JSON:
        bytes_ = {name: None if data is None else data.hex() for name, data in _bytes_of(letter).items()}
        print_json({**_row(letter), **bytes_, "fields": fields})
        return
    _show(letter, fields)


def _show(letter: StoredDeadLetter, fields: Mapping[str, object] | str | None) -> None:
    for name, value in _row(letter).items():
        if value is not None:
            click.echo(f"{name.replace('_', ' ')}: {as_text(value)}")
    for name, data in _bytes_of(letter).items():
        if data is not None:
            click.echo(f"{name}, {len(data)} bytes:")
            for line in hex_dump(data):
                click.echo(f"  {line}")
    if isinstance(fields, str):
        click.echo(f"fields: none, {printable(fields)}")
    elif fields is not None:
        click.echo("fields:")
        for name, value in fields.items():
            click.echo(f"  {name}: {value!r}")


@dead_letters.command(
    "replay",
    epilog=examples(
        "visit-consumer dead-letters replay --reason unknown_instrument --dry-run --config visits.yaml",
        "visit-consumer dead-letters replay --id 17 --id 18 --config visits.yaml",
    ),
)
@choice_options
@click.option("--all", "everything", is_flag=True, help="All open ones; required where no other option selects some.")
@dry_run_option
@config_option
@dsn_option
@output_option
@reports_errors
def replay_(
    *, everything: bool, dry_run: bool, config: Path | None, dsn: str | None, output: str, **chosen: Any
) -> None:
    """Produce the messages of dead letters to their topics again, and mark them as replayed.

    Fix the cause first. The service reads replayed messages like any other message. The header
    visit-consumer-replay-of holds the original place of each message.
    """
    choice = _choice(chosen, everything=everything)
    _print_results(
        replay(tool_settings(config, dsn, kafka=not dry_run), choice, dry_run=dry_run), output, dry_run=dry_run
    )


@dead_letters.command(
    "discard",
    epilog=examples(
        "visit-consumer dead-letters discard --id 17 --config visits.yaml",
        "visit-consumer dead-letters discard --reason empty --topic raw-ingested --config visits.yaml",
    ),
)
@choice_options
@click.option("--all", "everything", is_flag=True, help="All open ones; required where no other option selects some.")
@dry_run_option
@config_option
@dsn_option
@output_option
@reports_errors
def discard_(
    *, everything: bool, dry_run: bool, config: Path | None, dsn: str | None, output: str, **chosen: Any
) -> None:
    """Mark dead letters as discarded; the service removes them after the retention time."""
    choice = _choice(chosen, everything=everything)
    _print_results(discard(tool_settings(config, dsn), choice, dry_run=dry_run), output, dry_run=dry_run)


def _choice(chosen: dict[str, Any], *, everything: bool | None = None) -> DeadLetterFilter:
    """Build a choice of options; `everything` is None where no choice at all is fine."""
    offsets = chosen.pop("offsets")
    statuses = list(chosen.pop("statuses"))
    given: dict[str, Any] = {
        name: list(value) if isinstance(value, tuple) else value for name, value in chosen.items() if value
    }
    for name in ("since", "until"):
        moment = given.get(name)
        if isinstance(moment, datetime):
            given[name] = moment.replace(tzinfo=UTC)
    # 0 is a partition, and an exposure.
    given |= {name: chosen[name] for name in ("partition", "exposure") if chosen[name] is not None}
    if offsets is not None:
        given["first_offset"], given["last_offset"] = offsets
    if everything is False and not given:
        raise click.UsageError("say which: --id, --reason, --topic, --offsets, --since ..., or --all")
    given["statuses"] = None if "any" in statuses else statuses
    return DeadLetterFilter(**given)


def _row(letter: StoredDeadLetter) -> dict[str, object]:
    row = letter._asdict()
    del row["key"], row["value"]
    return row


def _bytes_of(letter: StoredDeadLetter) -> dict[str, bytes | None]:
    return {"key": letter.key, "value": letter.value}


def _print_results(outcomes: Sequence[DeadLetterResult], output: str, *, dry_run: bool) -> None:
    """Print the outcome of each, and exit with 1 if one was neither replayed nor discarded."""
    rows = [{**_row(each.letter), "outcome": each.outcome, "done": each.done} for each in outcomes]
    print_rows(rows, ("id", "reason", "topic", "partition", "offset", "outcome"), output)
    failed = sum(not each.done for each in outcomes)
    if output != JSON:
        done = "would be done" if dry_run else "done"
        click.echo(f"{len(outcomes) - failed} {done}, {failed} not", err=True)
    if failed:
        sys.exit(EXIT_FAILED)
