"""Files to events: every object is read, its event goes to a sink, and what gives none is reported."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Final

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from consumer.model import Exposure, Ingested
from consumer.sources.events import exposure_event
from consumer.sources.header_reader import HeaderLimits, read_header
from consumer.sources.model import Header, SourceError, SourceObject, SourceRecord
from consumer.sources.objects import public_uri
from consumer.sources.translate import Translator

_AT_ONCE: Final = 16
"""Requests to a store at the same time: its answers are waited for far longer than they are read."""
_BATCH: Final = 256

Listed = tuple[SourceObject, AbstractFileSystem]


@dataclass(slots=True)
class EmitSummary:
    """What became of the objects."""

    objects: int = 0
    events: int = 0
    rejected: int = 0


def emit_files(
    translator: Translator,
    limits: HeaderLimits,
    listed: Iterable[Listed],
    *,
    by_exposure: bool,
    now_us: Callable[[], int],
    send: Callable[[Ingested], None],
    reject: Callable[[SourceError], None],
    progress: Callable[[int], None] = lambda _: None,
) -> EmitSummary:
    """Read objects, and send the event of each; with ``emits: exposure`` one for each exposure, at the end.

    Parameters
    ----------
    translator
        Makes records of headers.
    limits
        On one header.
    listed
        Objects and where they are; consumed as it goes.
    by_exposure
        Whether events speak of exposures.
    now_us
        UTC microseconds since the Unix epoch.
    send
        Takes each event.
    reject
        Is told of each object that gives none; there is no second try.
    progress
        Is called with the number of objects that are done.
    """
    summary = EmitSummary()
    exposures: dict[Exposure, set[int]] = {}
    for source, header in _read(limits, listed):
        summary.objects += 1
        try:
            if isinstance(header, SourceError):
                raise header
            record = translator.translate(header, public_uri(source.uri))
            if by_exposure:
                _add(exposures, record)
            else:
                send(record.raw(now_us()))
                summary.events += 1
        except SourceError as error:
            summary.rejected += 1
            reject(error)
        progress(summary.objects)
    for exposure, detectors in exposures.items():
        send(exposure_event(exposure, detectors=detectors or None, ingested_at_us=now_us()))
        summary.events += 1
    return summary


def _add(exposures: dict[Exposure, set[int]], record: SourceRecord) -> None:
    detectors = exposures.setdefault(record.exposure, set())
    if record.detector is not None:
        detectors.add(record.detector)


def _read(limits: HeaderLimits, listed: Iterable[Listed]) -> Iterator[tuple[SourceObject, Header | SourceError]]:
    """Read headers in order, those of a store several at a time."""

    def read(each: Listed) -> tuple[SourceObject, Header | SourceError]:
        source, filesystem = each
        try:
            return source, read_header(source, filesystem, limits)
        except SourceError as error:
            return source, error

    remaining = iter(listed)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        while batch := list(islice(remaining, _BATCH)):
            local = all(isinstance(filesystem, LocalFileSystem) for _, filesystem in batch)
            yield from map(read, batch) if local else pool.map(read, batch)
