"""Objects that a person names: files, folders, globs and URLs of every file system that fsspec knows."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Final, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from consumer.errors import ConfigurationError, TransientError
from consumer.sources.expected_sensors import ExpectedSensors, read_sensors
from consumer.sources.header_reader import SIDECAR_ENDINGS, HeaderLimits, read_header
from consumer.sources.interfaces import EmitCommand, FoundObject
from consumer.sources.model import Header
from consumer.sources.object_stores import RegularFile
from consumer.sources.places import Patterns, Place
from consumer.sources.store_faults import is_store_fault, store_faults

_FITS_ENDINGS: Final = (".fits", ".fits.fz", ".fits.gz", ".fit", ".fit.gz", ".fts", ".fz")
_EXPECTED_SENSORS: Final = "_expectedSensors.json"
_GLOB: Final = frozenset("*?[")
_READ_AHEAD: Final = 128 * 1024
"""Bytes that one request to a store brings: most primary headers, and all sidecars."""
_ANY_NAME: Final = Patterns(
    ignored=None, expected_sensors=r"(?s:.*)_expectedSensors\.json", sidecar=None, raw=r"(?s:.*)"
)


class NamedObject(NamedTuple):
    """One file or object of a store."""

    uri: str
    """A path, or a URL that fsspec knows, without credentials."""
    path: str
    """Where the file system has it, with the secrets that a signed URL carries."""
    filesystem: AbstractFileSystem

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open it for reading; see `ObjectStores.open`."""
        local = isinstance(self.filesystem, LocalFileSystem)
        with (
            store_faults(self.uri, self.path),
            RegularFile(self.path) if local else self.filesystem.open(self.path, block_size=_READ_AHEAD) as stream,
        ):
            yield stream


class NamedObjects:
    """Lists what paths and URLs name, and reads that; see `consumer.sources.interfaces.ObjectReader`.

    Parameters
    ----------
    uris
        Paths and URLs; see `list_objects`, also for what is raised.
    limits
        On one header.
    """

    def __init__(self, uris: Iterable[str], limits: HeaderLimits) -> None:
        self._limits = limits
        self._listed = {each.uri: each for each in list_objects(uris)}

    def __len__(self) -> int:
        return len(self._listed)

    def found(self, done: Callable[[], None]) -> list[FoundObject]:
        """Return all of them, files of expected sensors last: each needs a header of its exposure.

        Parameters
        ----------
        done
            Is called once for each, when the brokers have what came of it.
        """
        places: dict[str, Place] = {}
        found = []
        for uri in sorted(self._listed, key=lambda uri: uri.endswith(_EXPECTED_SENSORS)):
            folder, _, name = uri.rpartition("/")
            place = places.setdefault(folder, Place(url=folder, prefixes=("",), patterns=_ANY_NAME))
            found.append(FoundObject(place=place, key=name, tag="", command=EmitCommand.FILES, done=done))
        return found

    def read_raw(self, place: Place, key: str) -> Header:
        """Read the header of a raw or of its sidecar."""
        uri = place.uri(key)
        with self._listed[uri].open() as stream:
            return read_header(stream, uri, self._limits)

    def read_expected_sensors(self, place: Place, key: str) -> ExpectedSensors:
        """Read a file of expected sensors."""
        uri = place.uri(key)
        with self._listed[uri].open() as stream:
            return read_sensors(stream, uri)

    def read_raw_beside(self, *_: object) -> None:
        """Read nothing beside: only what was named is read."""


def file_system_of(uri: str) -> tuple[AbstractFileSystem, str]:
    """Return the file system of a path or a URL, and its path there.

    Raises
    ------
    ConfigurationError
        fsspec knows no such file system, or what it needs is not installed.
    """
    try:
        filesystem, path = url_to_fs(uri)
    except (ValueError, ImportError) as error:
        raise ConfigurationError(
            f"{public_uri(uri)}: {error}; give a path, or a URL such as s3://bucket/key"
        ) from error
    return filesystem, str(path)


def list_objects(uris: Iterable[str]) -> Iterator[NamedObject]:
    """Yield the objects that paths and URLs name.

    A folder stands for the raws and sidecars below it, by name; where a raw and its sidecar are both there, for the
    raw. What is named itself is yielded whatever its name is, also where it does not exist.

    Raises
    ------
    ConfigurationError
        A URL cannot be understood.
    TransientError
        A store does not answer, or not to these credentials.
    """
    for uri in uris:
        filesystem, path = file_system_of(uri)
        try:
            found = _found(filesystem, path)
        except Exception as error:
            if not is_store_fault(error):
                raise
            fault = str(error).replace(path, public_uri(uri))
            detail = f"{public_uri(uri)} cannot be listed: {type(error).__name__}: {fault}"
            raise TransientError(f"{detail}; check the address and the credentials") from error
        if found is None:
            names: Iterable[str] = (path,)
        else:
            names = _raws(name for name, info in found.items() if info.get("type") == "file")
        yield from (NamedObject(_uri(filesystem, name), name, filesystem) for name in names)


def _found(filesystem: AbstractFileSystem, path: str) -> dict[str, dict[str, Any]] | None:
    """Return what a glob or a folder stands for; None where the path is an object's own."""
    # The question mark of an HTTP address begins its query; other file systems take the scheme off.
    glob = _GLOB - {"?"} if "://" in path else _GLOB
    if glob & set(path) and not filesystem.exists(path):
        globbed: dict[str, dict[str, Any]] = filesystem.glob(path, detail=True)
        return globbed
    if filesystem.isdir(path):
        below: dict[str, dict[str, Any]] = filesystem.find(path, detail=True)
        return below
    return None


def _raws(names: Iterable[str]) -> Iterator[str]:
    names = sorted(names)
    stems = {stem for name in names if (stem := _stem(name, _FITS_ENDINGS)) is not None}
    for name in names:
        if name.lower().endswith(_FITS_ENDINGS) or _stem(name, SIDECAR_ENDINGS) not in {None, *stems}:
            yield name


def _stem(name: str, endings: tuple[str, ...]) -> str | None:
    """Return a name without its ending; None if it has none of these."""
    ending = next((each for each in sorted(endings, key=len, reverse=True) if name.lower().endswith(each)), None)
    return None if ending is None else name[: -len(ending)]


def _uri(filesystem: AbstractFileSystem, path: str) -> str:
    return path if isinstance(filesystem, LocalFileSystem) else public_uri(str(filesystem.unstrip_protocol(path)))


def public_uri(uri: str) -> str:
    """Return a URI without the user, the password and, for HTTP, the signed query that it may carry."""
    if "://" not in uri or uri.startswith(("file:", "s3:", "s3a:", "gs:", "gcs:", "memory:")):
        return uri
    parts = urlsplit(uri)
    query = "" if parts.scheme in {"http", "https"} else parts.query
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=query, fragment=""))
