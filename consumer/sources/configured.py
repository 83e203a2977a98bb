"""From the settings to the places that may be read, and when what is unreadable is tried again."""

from collections.abc import Iterable
from pathlib import Path

from consumer.config.source import SourceSettings
from consumer.config.source_places import FolderSettings, PatternSettings, PlaceSettings, RetrySettings
from consumer.sources.places import Patterns, Place, Places
from consumer.sources.retries import RetryPolicy


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


def _folder(folder: FolderSettings) -> Place:
    # Links that lead to the folder are the operator's; those within it must not lead out.
    return _place(str(folder.path.resolve()), folder)


def _place(url: str, place: PlaceSettings) -> Place:
    return Place(url=url, prefixes=place.prefixes, patterns=compiled(place.patterns))
