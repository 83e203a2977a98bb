"""Which raws a folder or a bucket has, by the names of its objects alone."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from consumer.config import Settings
from consumer.errors import ConfigurationError
from consumer.sources.configured import camera_detectors, configured_places
from consumer.sources.object_stores import ObjectStores
from consumer.sources.places import ObjectRole, Places


@dataclass(frozen=True, slots=True, kw_only=True)
class RawNames:
    """What the keys of a place say."""

    raws: Mapping[str, frozenset[int]]
    """Ids of detectors by the observatory's name of the exposure."""
    unnamed: int
    """Raws whose keys name no exposure or no detector."""


def place_of(settings: Settings, url: str) -> Places:
    """Return the folder, or the bucket of the settings, that a URL names.

    Raises
    ------
    ConfigurationError
        When there is no such folder, or the settings have no such bucket.
    """
    if "://" not in url:
        folders = configured_places(settings.source, [Path(url)])
        require_folders(folders)
        return folders
    place = configured_places(settings.source).bucket(url.removeprefix("s3://").rstrip("/"))
    if place is None or not url.startswith("s3://"):
        raise ConfigurationError(
            f"{url} is no bucket of the settings (source.buckets), written s3://NAME, and no folder"
        )
    return Places([place])


def require_folders(places: Places) -> None:
    """Raise `ConfigurationError` where a folder is not there."""
    for each in places.places:
        try:
            found = Path(each.url).is_dir()
        except (OSError, ValueError):  # a name that no file could have
            found = False
        if not found:
            raise ConfigurationError(f"{each.url}: is no folder; create it first")


def list_raw_names(settings: Settings, url: str, *, instrument: str, day_obs: int) -> RawNames:
    """List the raws of a night.

    Parameters
    ----------
    settings
        Patterns of keys, and the camera, which knows the detectors' names.
    url
        A folder, or ``s3://NAME`` of a bucket of the settings.
    instrument
        Raws whose detector is none of its camera are another's, and left out.
    day_obs
        Raws whose keys have another observing day are left out; those whose keys have none are not.

    Raises
    ------
    ConfigurationError
        When there is no such place.
    TransientError
        When a store does not answer.
    """
    detectors = camera_detectors(settings, instrument)
    stores = ObjectStores(settings.source.endpoint_url)
    raws: defaultdict[str, set[int]] = defaultdict(set)
    unnamed = 0
    for place in place_of(settings, url).places:
        for found in stores.list_objects(place, [day_obs]):
            identity = place.patterns.identify(found.key) if place.holds(found.key) else None
            if identity is None or identity.role is ObjectRole.EXPECTED_SENSORS:
                continue
            if identity.day_obs not in (None, day_obs):
                continue
            if identity.obs_id is None or identity.detector is None:
                unnamed += 1
            elif identity.detector in detectors:
                raws[identity.obs_id].add(detectors[identity.detector])
    return RawNames(raws={name: frozenset(found) for name, found in raws.items()}, unnamed=unnamed)
