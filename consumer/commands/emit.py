"""The commands ``emit``: from files to events."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import time_ns

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
from consumer.events import Decoder, record_of
from consumer.model import Ingested
from consumer.sources.configured import configured_translator, events_topic, header_limits, retry_policy
from consumer.sources.emitter import Emitter
from consumer.sources.events import event_of
from consumer.sources.header_reader import read_header
from consumer.sources.interfaces import EmitCommand
from consumer.sources.model import SourceError
from consumer.sources.objects import NamedObject, NamedObjects, list_objects
from consumer.sources.outlet import Rejection
from consumer.sources.places import Places
from consumer.sources.translate import Translator

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
    named = NamedObjects(paths, header_limits(settings.source))
    with _bar(len(named)) as advance:
        emitter = Emitter(
            settings,
            Places(()),
            EmitCommand.FILES,
            policy=retry_policy(settings.source.retry, give_up_s=0.0),
            reader=named,
            producer=_PrintingProducer(events_topic(settings)) if dry_run else None,
            report=_report,
        )
        emitter.run(lambda: emitter.offer(named.found(advance)), once=True)
    click.echo(f"{len(named)} objects: {emitter.events} events, {emitter.rejections} rejected", err=True)
    sys.exit(EXIT_FAILED if emitter.rejections else 0)


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
                title=printable(each.uri),
            )
        except SourceError as error:
            bad = True
            complain(f"rejected: {error}")
    sys.exit(EXIT_FAILED if bad else 0)


class _PrintingProducer:
    """Prints events as JSON lines instead of sending them, and sends nothing else either."""

    last_error: str | None = None
    errors = 0
    undelivered = 0
    away = False
    silent_s = 0.0

    def __init__(self, events_topic: str) -> None:
        self._events_topic = events_topic
        self._decoder = Decoder()

    def send(self, topic: str, _: bytes, value: bytes | None, delivered: Callable[[], None]) -> None:
        if topic == self._events_topic:
            click.echo(json.dumps(_fields(self._decoder.decode(value)), allow_nan=False))
        delivered()

    def poll(self, _: float) -> None:
        """Nothing is left."""


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


def _report(rejections: Sequence[Rejection]) -> None:
    for each in rejections:
        complain(f"rejected: {each.error}")


def _rows(translator: Translator, settings: SourceSettings, named: NamedObject) -> list[dict[str, object]]:
    with named.open() as stream:
        header = read_header(stream, named.uri, header_limits(settings))
    record = translator.translate(header, named.uri, explain=True)
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
def _bar(total: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar on standard error where that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("objects"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("objects", total=total)
        yield lambda: bar.advance(task)


for command in (watch, notifications, listen, scan, rejected):
    emit.add_command(command)
