"""Which objects may be read, and what each is: configured buckets and folders with their patterns. Pure.

Whatever a notification names, only an object of a configured place is read, below one of its prefixes.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

_DAY = re.compile(r"\d{8}")
_EXTENSIONS = re.compile(r"(?:\.(?:fits?|fz|gz|json|ya?ml))+$", re.IGNORECASE)


class ObjectRole(StrEnum):
    """What an object is."""

    RAW = "raw"
    """A FITS file of one detector."""
    SIDECAR = "sidecar"
    """The header of such a file, as JSON or YAML."""
    EXPECTED_SENSORS = "expected_sensors"
    """Which detectors will bring a raw of an exposure."""


class ObjectIdentity(NamedTuple):
    """What is known of an object by its name."""

    role: ObjectRole
    name: str
    """What sidecar and FITS file of one raw share: the key without its extensions, or the pattern's group ``raw``."""
    obs_id: str | None = None
    """The exposure, by the pattern's group of this name."""
    day_obs: int | None = None
    """The observing day, by the pattern's group of this name: eight digits."""
    detector: str | None = None
    """The detector's name in its camera, by the pattern's group of this name."""


class Patterns:
    """Regular expressions over keys; each has to match the whole key.

    Parameters
    ----------
    ignored, expected_sensors, sidecar, raw
        Tried in this order; the first that matches decides, and a key that none matches is ignored. Groups named
        ``raw``, ``obs_id``, ``day_obs`` and ``detector`` are read.
    """

    def __init__(self, *, ignored: str | None, expected_sensors: str | None, sidecar: str | None, raw: str) -> None:
        patterns: Mapping[ObjectRole | None, str | None] = {
            None: ignored,
            ObjectRole.EXPECTED_SENSORS: expected_sensors,
            ObjectRole.SIDECAR: sidecar,
            ObjectRole.RAW: raw,
        }
        self._patterns = [(role, re.compile(text)) for role, text in patterns.items() if text is not None]

    def identify(self, key: str) -> ObjectIdentity | None:
        """Return what a key names, or None when it is ignored."""
        for role, pattern in self._patterns:
            if (found := pattern.fullmatch(key)) is not None:
                if role is None:
                    return None
                groups = found.groupdict()
                name = groups.get("raw") or _EXTENSIONS.sub("", key)
                day = groups.get("day_obs")
                return ObjectIdentity(
                    role=role,
                    name=name,
                    obs_id=groups.get("obs_id"),
                    day_obs=int(day) if day is not None and _DAY.fullmatch(day) else None,
                    detector=groups.get("detector"),
                )
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One configured bucket or folder."""

    url: str
    """``s3://bucket`` or the folder's absolute path, without a slash at its end."""
    prefixes: tuple[str, ...]
    """Only keys that begin with one of these are read."""
    patterns: Patterns

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder of this machine."""
        return self.url.startswith("/")

    def holds(self, key: str) -> bool:
        """Return whether a key is one of this place."""
        if "//" in key or key.startswith("/") or (".." in key and ".." in key.split("/")):
            return False  # a file system would take it for another path; a store's key may have it, and a raw's has not
        return key.startswith(self.prefixes)

    def uri(self, key: str) -> str:
        """Return the address of an object."""
        return f"{self.url}/{key}"


class Places:
    """All configured places.

    Parameters
    ----------
    places
        No two of one address.
    """

    def __init__(self, places: Iterable[Place]) -> None:
        self.places = tuple(places)
        self._by_url = {each.url: each for each in self.places}

    def bucket(self, name: str) -> Place | None:
        """Return a bucket, or None when it is not configured."""
        return self._by_url.get(f"s3://{name}")

    def locate(self, uri: str) -> tuple[Place, str] | None:
        """Return the place of an address and the key there, or None when no configured place has it."""
        for place in self.places:
            key = uri.removeprefix(f"{place.url}/")
            if key != uri and place.holds(key):
                return place, key
        return None
