"""The commands ``emit``: from files to events."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, time_ns

import click
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from consumer.commands.emit_live import listen, notifications, rejected, scan, watch
from consumer.commands.options import (
    EXIT_FAILED,
    complain,
    config_option,
    examples,
    output_option,
    print_rows,
    reports_errors,
    tool_settings,
)
from consumer.commands.values import FILE_NAME, FilePath, printable
from consumer.config import Settings
from consumer.config.source import SourceSettings
from consumer.errors import TransientError
from consumer.events import RawEncoder, encode, record_of
from consumer.kafka.delivery import DeliveringProducer
from consumer.kafka.properties import connection_properties
from consumer.model import Ingested, RawIngested
from consumer.sources.configured import configured_translator, events_topic, header_limits
from consumer.sources.emit_files import Listed, emit_files
from consumer.sources.events import event_of, message_key
from consumer.sources.header_reader import read_header
from consumer.sources.model import SourceError
from consumer.sources.objects import list_objects
from consumer.sources.translate import Translator

_MOST_UNDELIVERED = 20_000
"""Events that wait for the brokers while further files are read."""
_SILENT_S = 60.0
"""Brokers that take nothing for so long are given up."""

_header_map_option = click.option(
    "--header-map",
    "header_maps",
    multiple=True,
    type=FilePath(exists=True, path_type=Path),
    help="Header map of an instrument, or a folder of them, beside source.header_maps; may be repeated.",
)
_corrections_option = click.option(
    "--corrections",
    multiple=True,
    type=FilePath(exists=True, path_type=Path),
    help="Corrections, a file or a folder, beside source.corrections; may be repeated.",
)


@click.group()
def emit() -> None:
    """Read the headers of raws, and send their events to Kafka."""


@emit.command(
    epilog=examples(
        "visit-consumer emit files /data/raw/20251121 --config visits.yaml",
        "visit-consumer emit files 's3://raws/LSSTCam/20251121/*/*.json' --config visits.yaml",
        "visit-consumer emit files MC_O_20251121_000156_R44_SW0.json --dry-run",
    )
)
@click.argument("paths", nargs=-1, required=True, type=FILE_NAME, metavar="PATH|URL...")
@click.option("--dry-run", is_flag=True, help="Print events as JSON lines instead of sending them.")
@_header_map_option
@_corrections_option
@config_option
@reports_errors
def files(
    *,
    paths: tuple[str, ...],
    dry_run: bool,
    header_maps: tuple[Path, ...],
    corrections: tuple[Path, ...],
    config: Path | None,
) -> None:
    """Send the events of the raws at PATH|URL...: FITS files, JSON and YAML sidecars, folders and globs of them.

    The exit code is 1 if an object was rejected; each is listed on standard error.
    """
    settings = _with_options(tool_settings(config, kafka=not dry_run, database=False), header_maps, corrections)
    translator = configured_translator(settings)
    listed = list(list_objects(paths))
    sender = _Printer() if dry_run else _Sender(settings)
    with _bar(len(listed)) as progress:
        summary = emit_files(
            translator,
            header_limits(settings.source),
            listed,
            by_exposure=settings.source.emits == "exposure",
            now_us=_now_us,
            send=sender.send,
            reject=_reject,
            progress=progress,
        )
    sender.finish()
    click.echo(f"{summary.objects} objects: {summary.events} events, {summary.rejected} rejected", err=True)
    sys.exit(EXIT_FAILED if summary.rejected else 0)


@emit.command(
    epilog=examples(
        "visit-consumer emit check MC_O_20251121_000156_R44_SW0.json",
        "visit-consumer emit check raw.fits --header-map twincam-headers.yaml",
    )
)
@click.argument("paths", nargs=-1, required=True, type=FILE_NAME, metavar="FILE...")
@_header_map_option
@_corrections_option
@config_option
@output_option
@reports_errors
def check(
    *,
    paths: tuple[str, ...],
    header_maps: tuple[Path, ...],
    corrections: tuple[Path, ...],
    config: Path | None,
    output: str,
) -> None:
    """Show, field by field, what the event of each FILE says and where each value comes from; nothing is sent.

    The exit code is 1 if a file was rejected.
    """
    settings = _with_options(tool_settings(config, kafka=False, database=False), header_maps, corrections)
    translator = configured_translator(settings)
    bad = False
    for each in list_objects(paths):
        try:
            print_rows(
                _rows(translator, settings.source, each),
                ("field", "value", "from"),
                output,
                title=printable(each[0].uri),
            )
        except SourceError as error:
            bad = True
            _reject(error)
    sys.exit(EXIT_FAILED if bad else 0)


class _Printer:
    """Prints events as JSON lines."""

    def send(self, event: Ingested) -> None:
        click.echo(json.dumps(_fields(event), allow_nan=False))

    def finish(self) -> None:
        """Nothing is left."""


class _Sender:
    """Sends events, and waits until the brokers have them."""

    def __init__(self, settings: Settings) -> None:
        self._producer = DeliveringProducer(connection_properties(settings.kafka))
        self._topic = events_topic(settings)
        self._encoder = RawEncoder()

    def send(self, event: Ingested) -> None:
        value = self._encoder.encode(event) if isinstance(event, RawIngested) else encode(event)
        self._producer.send(self._topic, message_key(event.exposure), value, lambda: None)
        self._producer.poll(0)
        self._wait(_MOST_UNDELIVERED)

    def finish(self) -> None:
        """Wait until the brokers have every event."""
        self._wait(0)

    def _wait(self, most: int) -> None:
        """Wait until at most so many events are not acknowledged.

        Raises
        ------
        TransientError
            The brokers have taken none for a while; sending all again is harmless.
        """
        left, heard_s = self._producer.undelivered, monotonic()
        while self._producer.undelivered > most:
            self._producer.poll(0.1)
            if self._producer.undelivered < left:
                left, heard_s = self._producer.undelivered, monotonic()
            elif monotonic() - heard_s > _SILENT_S:
                reason = self._producer.last_error or f"no answer within {_SILENT_S:.0f} s"
                raise TransientError(f"{left} events were not acknowledged: {reason}; emit again")


def _now_us() -> int:
    return time_ns() // 1000


def _with_options(settings: Settings, header_maps: tuple[Path, ...], corrections: tuple[Path, ...]) -> Settings:
    """Return the settings with the files of the options beside theirs."""
    source = settings.source
    source = source.model_copy(
        update={
            "header_maps": (*source.header_maps, *header_maps),
            "corrections": (*source.corrections, *corrections),
        }
    )
    return settings.model_copy(update={"source": source})


def _reject(error: SourceError) -> None:
    complain(f"rejected: {error}")


def _rows(translator: Translator, settings: SourceSettings, listed: Listed) -> list[dict[str, object]]:
    source, filesystem = listed
    header = read_header(source, filesystem, header_limits(settings))
    record = translator.translate(header, source.uri, explain=True)
    origins = {"exposure": record.provenance["id"], **record.provenance}
    fields = _fields(event_of(record, by_exposure=settings.emits == "exposure", ingested_at_us=_now_us()))
    return [{"field": name, "value": _shown(name, fields[name]), "from": origins.get(name, "")} for name in fields]


def _shown(name: str, value: object) -> str | None:
    """Write a value as it is sent, which a table would round; an instant also as a date."""
    if isinstance(value, int) and name.startswith("timespan_"):
        return f"{value} ({np.datetime64(value, 'ns')} TAI)"
    return None if value is None else str(value)


def _fields(event: Ingested) -> dict[str, object]:
    """Return the fields of an event, its identity first."""
    fields = record_of(event)
    return {"instrument": fields["instrument"], "exposure": fields["exposure"], **fields}


@contextmanager
def _bar(total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on standard error where that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("objects"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("objects", total=total)
        yield lambda done: bar.update(task, completed=done)


for command in (watch, notifications, listen, scan, rejected):
    emit.add_command(command)
