"""The command ``status``: the whole service on one screen."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from itertools import count
from pathlib import Path
from time import sleep

import click

from consumer.commands.options import (
    EXIT_FAILED,
    JSON,
    Row,
    complain,
    config_option,
    dsn_option,
    examples,
    open_database,
    output_option,
    print_json,
    print_rows,
    reports_errors,
    tool_settings,
)
from consumer.commands.values import printable
from consumer.errors import VisitConsumerError
from consumer.postgres.connection import Database
from consumer.read.overview import Overview, read_overview

EXIT_UNKNOWN = 2
"""The database could not be asked."""
_WATCH_EVERY_S = 1.0
_CONNECT_TIMEOUT_S = 2
"""The least that libpq takes: an answer that comes later than this is as good as none."""


@click.command(
    epilog=examples(
        "visit-consumer status --config visits.yaml",
        "visit-consumer status --watch --dsn 'host=db dbname=visits user=visit_reader'",
        "visit-consumer status --output json --dsn 'dbname=visits'",
    )
)
@click.option("--watch", is_flag=True, help="Show it again each second, until it is interrupted.")
@config_option
@dsn_option
@output_option
@reports_errors
def status(*, watch: bool, config: Path | None, dsn: str | None, output: str) -> None:
    """Show the whole service on one screen, from any machine that reaches the database.

    Replicas and what each says of itself, every partition, open groups and what they wait for, open dead letters,
    announcements that wait, the last night's counts and its last visits. A replica is silent after 1.5 s.

    Exit codes: 0 all is well, 1 there are problems (named on the first lines), 2 the database cannot be asked.
    """
    settings = tool_settings(config, dsn)
    within = min(settings.database.connect_timeout_s, _CONNECT_TIMEOUT_S)
    bounded = settings.database.model_copy(update={"connect_timeout_s": within})
    with open_database(settings.model_copy(update={"database": bounded})) as database:
        for turn in count():
            if turn:
                sleep(_WATCH_EVERY_S)
            code = _show(database, output, clear=watch and output != JSON and sys.stdout.isatty())
            if not watch:
                sys.exit(code)


def _show(database: Database, output: str, *, clear: bool) -> int:
    """Read and print it once; return the exit code."""
    try:
        found = read_overview(database)
    except VisitConsumerError as error:
        database.close()
        complain(str(error))
        return EXIT_UNKNOWN
    if clear:
        click.clear()
    if output == JSON:
        print_json(asdict(found))
        sys.stdout.flush()
    else:
        _print(found)
    return EXIT_FAILED if found.problems else 0


def _print(found: Overview) -> None:
    click.echo(f"{_time(found.at)}, schema version {found.schema_version}: {_in_short(found)}")
    for problem in found.problems:
        click.echo(printable(f"  ! {problem}"))
    replicas = [
        asdict(each)
        | {
            "partitions": len(each.partitions),
            "heartbeat": f"{each.silent_s:.1f} s ago",
            "started": _time(each.started_at),
        }
        for each in found.replicas
    ]
    _table("replicas", replicas, ("owner", "version", "life", "state", "partitions", "heartbeat", "started"))
    partitions = [
        asdict(each)
        | {"moved": f"{each.age_s:.0f} s ago", "stream time": _time(each.stream_time), "position": each.next_offset}
        for each in found.partitions
    ]
    columns = ("topic", "partition", "state", "position", "lag", "moved", "stream time", "reader", "detail")
    _table("partitions", partitions, columns)
    groups = [
        each._asdict() | {"opened": _time(each.opened), "closes": _time(each.closes)} for each in found.open_groups
    ]
    shown = f"open groups: {found.n_open_groups}"
    _table(shown, groups, ("instrument", "group", "exposures", "waits_for", "opened", "closes"))
    letters = [each._asdict() | {"last": _time(each.last_at)} for each in found.dead_letters]
    _table("open dead letters", letters, ("reason", "number", "last"))
    _table(
        "last night",
        [each._asdict() for each in found.tonight],
        ("day_obs", "instrument", "physical_filter", "exposures", "visits"),
    )
    visits = [each._asdict() | {"written": _time(each.updated_at)} for each in found.last_visits]
    _table("last visits", visits, ("instrument", "visit", "name", "physical_filter", "revision", "written"))
    oldest = "" if found.oldest_unsent_s is None else f", the oldest for {found.oldest_unsent_s:.0f} s"
    click.echo(f"announcements that wait: {found.unsent_announcements}{oldest}")


def _in_short(found: Overview) -> str:
    return "all is well" if not found.problems else f"{len(found.problems)} problems"


def _table(title: str, rows: Sequence[Row], columns: Sequence[str]) -> None:
    if rows:
        print_rows(rows, columns, "table", title=title)


def _time(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}Z"
