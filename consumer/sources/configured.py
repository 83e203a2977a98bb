"""From the settings to what an emitter needs: places that may be read, a translator, bounds, pauses."""

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

from consumer.config import Settings
from consumer.config.instruments import KNOWN_INSTRUMENTS, InstrumentSettings
from consumer.config.source import SourceSettings
from consumer.config.source_places import FolderSettings, PatternSettings, PlaceSettings, RetrySettings
from consumer.regions import camera_set
from consumer.sources.corrections import Corrections
from consumer.sources.header_map import load_header_maps
from consumer.sources.header_reader import HeaderLimits
from consumer.sources.places import Patterns, Place, Places
from consumer.sources.retries import RetryPolicy
from consumer.sources.translate import Translator


def configured_places(source: SourceSettings, folders: Iterable[Path] | None = None) -> Places:
    """Return the places of the settings.

    Parameters
    ----------
    source
        The settings.
    folders
        Only these folders and no bucket, each with the settings that it has there, or with the default ones.
    """
    by_path = {each.path.resolve(): each for each in source.folders}
    if folders is not None:
        wanted = [path.resolve() for path in folders]
        return Places(_folder(by_path.get(path) or FolderSettings(path=path)) for path in dict.fromkeys(wanted))
    buckets = [_place(f"s3://{name}", each) for name, each in source.buckets.items()]
    return Places([*buckets, *map(_folder, source.folders)])


def configured_translator(settings: Settings) -> Translator:
    """Make the translator of all instruments.

    Raises
    ------
    ConfigurationError
        A header map, a file of corrections or a camera is wrong.
    """
    source = settings.source
    instruments = _instruments(settings)

    def needs_wcs(name: str) -> bool:
        regions = instruments[name].regions if name in instruments else None
        return regions is not None and (regions.algorithm != "single-raw-wcs" or regions.wcs_source == "header")

    return Translator(
        corrections=Corrections(source.corrections),
        detector_ids=partial(camera_detectors, settings),
        header_maps=load_header_maps(source.header_maps),
        search_path=[str(folder) for folder in source.header_corrections],
        needs_wcs=needs_wcs,
    )


def camera_detectors(settings: Settings, instrument: str) -> Mapping[str, int]:
    """Return ids of detectors by their names in the instrument's camera; empty where it has none."""
    found = _instruments(settings).get(instrument)
    if found is None or not found.camera:
        return {}
    return {d.name: d.id for camera in camera_set(found.camera).cameras for d in camera.detectors}


def header_limits(source: SourceSettings) -> HeaderLimits:
    """Return the bounds on one header."""
    return HeaderLimits(header_bytes=source.max_header_bytes)


def events_topic(settings: Settings) -> str:
    """Return where events go: ``source.topic``, else the first topic that the service reads."""
    return settings.source.topic or settings.kafka.topics[0]


def retry_policy(retry: RetrySettings, *, give_up_s: float | None = None) -> RetryPolicy:
    """Return the pauses of the settings; ``give_up_s``: for a command that must end."""
    limit_s = retry.give_up_s if give_up_s is None else min(give_up_s, retry.give_up_s)
    return RetryPolicy(first_s=retry.first_s, max_s=retry.max_s, give_up_s=limit_s)


def compiled(patterns: PatternSettings) -> Patterns:
    """Return patterns, ready for use."""
    return Patterns(
        ignored=patterns.ignored,
        expected_sensors=patterns.expected_sensors,
        sidecar=patterns.sidecar,
        raw=patterns.raw,
    )


def _instruments(settings: Settings) -> dict[str, InstrumentSettings]:
    known = {name: InstrumentSettings(**values) for name, values in KNOWN_INSTRUMENTS.items()}
    return {**known, **settings.instruments}


def _folder(folder: FolderSettings) -> Place:
    # Links that lead to the folder are the operator's; those within it must not lead out.
    return _place(str(folder.path.resolve()), folder)


def _place(url: str, place: PlaceSettings) -> Place:
    return Place(url=url, prefixes=place.prefixes, patterns=compiled(place.patterns))
