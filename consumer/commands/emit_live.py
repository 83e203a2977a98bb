"""The commands ``emit watch|notifications|listen|scan`` and ``emit rejected list|retry``: listers on one pipeline."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from time import time

import click

from consumer.commands.options import (
    EXIT_FAILED,
    JSON,
    config_option,
    examples,
    output_option,
    print_json,
    print_rows,
    reports_errors,
    settings_from,
    tool_settings,
)
from consumer.commands.values import DAY_OBS, DURATION, FILE_NAME, FilePath, last_observing_days
from consumer.config import Settings
from consumer.errors import ConfigurationError, TransientError
from consumer.kafka.notification_consumer import NotificationConsumer
from consumer.kafka.properties import connection_properties
from consumer.kafka.whole_topic import read_topic
from consumer.logs import get_logger
from consumer.postgres.connection import Database
from consumer.read.raws import stored_detectors
from consumer.sources.configured import configured_places, retry_policy
from consumer.sources.emitter import Emitter
from consumer.sources.interfaces import EmitCommand, FoundObject
from consumer.sources.listers import PushedNotifications, read_notifications
from consumer.sources.model import RejectReason
from consumer.sources.notified import NotificationIntake
from consumer.sources.places import Places
from consumer.sources.raw_names import place_of, require_folders
from consumer.sources.rejections import StoredRejection, open_rejections
from consumer.sources.scan import Scanner, ScanReport
from consumer.sources.watch import FolderWatcher
from consumer.web import HttpServer
from consumer.web.notification_port import notification_port

_GIVE_UP_S = 30.0
"""A command that ends waits so long for what cannot be read, and then rejects it."""

_log = get_logger(__name__)

folders_argument = click.argument("folders", nargs=-1, metavar="[DIR]...", type=FilePath(path_type=Path))


@click.command(
    epilog=examples(
        "visit-consumer emit watch /data/raws --config visits.yaml", "visit-consumer emit watch --config visits.yaml"
    )
)
@folders_argument
@config_option
@reports_errors
def watch(folders: Sequence[Path], config: Path | None) -> None:
    """Emit the raws of folders: those that are there, then each as it lands, until SIGTERM.

    Without DIR the folders of the settings (source.folders) are watched.
    """
    settings = settings_from(config)
    places = configured_places(settings.source, folders or [each.path for each in settings.source.folders])
    if not places.places:
        raise ConfigurationError("source.folders: names no folder to watch, and none is given as DIR")
    require_folders(places)
    emitter = _emitter(settings, places, EmitCommand.WATCH)
    watcher = FolderWatcher(
        places.places, emitter.pipeline, emitter.metrics, list_every_s=settings.source.list_every_s, wall_s=time
    )
    emitter.run(partial(watcher.run, emitter.stopping))


@click.command(epilog=examples("visit-consumer emit notifications --config visits.yaml"))
@config_option
@reports_errors
def notifications(config: Path | None) -> None:
    """Emit the raws that notifications on Kafka name, in the form of Ceph, AWS or MinIO, until SIGTERM."""
    settings = settings_from(config)
    emitter = _emitter(settings, _buckets(settings), EmitCommand.NOTIFICATIONS)
    intake = NotificationIntake(emitter.pipeline, emitter.places, emitter.metrics, EmitCommand.NOTIFICATIONS)
    topic = settings.source.notifications
    consumer = NotificationConsumer(
        emitter.connection, topic.topic, topic.group, session_timeout_s=settings.kafka.session_timeout_s
    )
    emitter.run(partial(read_notifications, consumer, intake, emitter.pipeline, emitter.stopping))


@click.command(epilog=examples("visit-consumer emit listen --config visits.yaml"))
@config_option
@reports_errors
def listen(config: Path | None) -> None:
    """Emit the raws that notifications by HTTP POST name, in the form of Ceph, AWS or MinIO, until SIGTERM."""
    settings = settings_from(config)
    listening = settings.source.listen
    emitter = _emitter(settings, _buckets(settings), EmitCommand.LISTEN)
    intake = NotificationIntake(emitter.pipeline, emitter.places, emitter.metrics, EmitCommand.LISTEN)
    sink = PushedNotifications(intake, emitter.pipeline, emitter.brokers_away)

    def token() -> str | None:
        current = listening.current_token()
        return None if current is None else current.get_secret_value()

    port = notification_port(sink, token=token, max_body_bytes=listening.max_body_bytes)
    setting = "source.listen.host, source.listen.port"

    def serve() -> None:
        with HttpServer(listening.host, listening.port, port, setting=setting, purpose="taking notifications"):
            emitter.stopping.wait()

    emitter.run(serve)


@click.command(
    epilog=examples(
        "visit-consumer emit scan s3://raws --day-obs 20261101 --config visits.yaml",
        "visit-consumer emit scan /data/raws --days 2 --every 10m --config visits.yaml",
    )
)
@click.argument("url", type=FILE_NAME)
@click.option("--day-obs", "days", type=DAY_OBS, multiple=True, help="Only this observing day; may be repeated.")
@click.option("--days", "last_days", type=click.IntRange(1, 36500), help="Only the last N observing days.")
@click.option(
    "--every",
    "every_s",
    type=DURATION,
    help="Repeat the scan after this pause (30s, 10m, 1.5h); without it, scan once.",
)
@config_option
@reports_errors
def scan(*, url: str, days: Sequence[int], last_days: int | None, every_s: float | None, config: Path | None) -> None:
    """Compare a bucket of the settings (s3://NAME) or a folder with the tables, and emit what the tables lack.

    Notifications get lost: run this now and then. --day-obs and --days use the observing day in the key of an object;
    objects whose key has none are always included.
    """
    settings = settings_from(config)
    if days and last_days is not None:
        raise click.UsageError("give --day-obs or --days, not both")
    places = place_of(settings, url)
    emitter = _emitter(settings, places, EmitCommand.SCAN, once=every_s is None)

    def scan_once() -> ScanReport:
        wanted = last_observing_days(last_days) if last_days is not None else (list(days) or None)
        with Database(settings.database, application_name="visit-consumer emit scan") as database:
            scanner = Scanner(
                emitter.stores.list_objects,
                partial(stored_detectors, database),
                emitter.detector_ids,
                emitter.pipeline,
            )
            report = scanner.scan(places.places, wanted, emitter.stopping)
        _log.info("scanned", url=url, **asdict(report))
        return report

    def scan_for_ever(pause_s: float) -> None:
        while not emitter.stopping.is_set():
            try:
                scan_once()
            except TransientError as error:
                _log.warning("scan failed, will be repeated", url=url, error=str(error))
            emitter.stopping.wait(pause_s)

    if every_s is not None:
        emitter.run(partial(scan_for_ever, every_s))
        return
    reports: list[ScanReport] = []
    emitter.run(lambda: reports.append(scan_once()), once=True)
    for report in reports:
        click.echo(f"{report.listed} objects listed, {report.stored} already in the tables, {report.offered} passed on")
    _exit_by(emitter)


@click.group()
def rejected() -> None:
    """List the objects that became no event, or read them again."""


reason_option = click.option(
    "--reason",
    "reasons",
    multiple=True,
    type=click.Choice([each.value for each in RejectReason]),
    metavar="REASON",
    help="Only of this reason, such as missing; may be repeated.",
)


@rejected.command("list", epilog=examples("visit-consumer emit rejected list --config visits.yaml"))
@reason_option
@config_option
@output_option
@reports_errors
def list_rejected(reasons: Sequence[str], config: Path | None, output: str) -> None:
    """List the objects that became no event, and why, oldest first."""
    found = _rejections(tool_settings(config, kafka=True, database=False), reasons)
    if output == JSON:
        print_json([asdict(each) for each in found])
    else:
        print_rows([asdict(each) for each in found], ("rejected_at", "reason", "uri", "attempts", "detail"), output)
        click.echo(f"{len(found)} rejected", err=True)


@rejected.command("retry", epilog=examples("visit-consumer emit rejected retry --reason missing --config visits.yaml"))
@reason_option
@config_option
@reports_errors
def retry_rejected(reasons: Sequence[str], config: Path | None) -> None:
    """Read rejected objects again, and emit what has become readable."""
    settings = settings_from(config)
    found = [each for each in _rejections(settings, reasons) if each.uri is not None]
    places = configured_places(settings.source)
    emitter = _emitter(settings, places, EmitCommand.RETRY, once=True)

    again = []
    for each in found:
        located = places.locate(each.uri or "")
        if located is None:
            click.echo(f"{each.uri}: lies in no bucket or folder of the settings", err=True)
            continue
        place, key = located
        again.append(
            FoundObject(place=place, key=key, tag="", command=EmitCommand.RETRY, notification=each.notification)
        )
    emitter.run(lambda: emitter.offer(again), once=True)
    skipped = len(found) - len(again)
    counts = f"{len(again)} objects read again, {emitter.rejections} rejected again"
    click.echo(counts + (f", {skipped} skipped" if skipped else ""))
    _exit_by(emitter)


def _rejections(settings: Settings, reasons: Sequence[str]) -> list[StoredRejection]:
    messages = read_topic(connection_properties(settings.kafka), settings.source.rejected_topic)
    return [each for each in open_rejections(messages) if not reasons or each.reason in reasons]


def _emitter(settings: Settings, places: Places, command: EmitCommand, *, once: bool = False) -> Emitter:
    policy = retry_policy(settings.source.retry, give_up_s=_GIVE_UP_S if once else None)
    return Emitter(settings, places, command, policy=policy)


def _buckets(settings: Settings) -> Places:
    places = configured_places(settings.source)
    buckets = Places(each for each in places.places if not each.is_folder)
    if not buckets.places:
        raise ConfigurationError("source.buckets: is empty: name the buckets whose notifications are to be read")
    return buckets


def _exit_by(emitter: Emitter) -> None:
    if emitter.rejections:
        click.echo("some were rejected: visit-consumer emit rejected list shows them", err=True)
        sys.exit(EXIT_FAILED)
