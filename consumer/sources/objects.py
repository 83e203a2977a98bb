"""Lists objects: files, folders, globs and URLs of every file system that fsspec knows."""

from collections.abc import Iterable, Iterator
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from aiohttp import ClientError
from botocore.exceptions import BotoCoreError
from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from consumer.errors import ConfigurationError, TransientError
from consumer.sources.model import SourceObject

FITS_ENDINGS: Final = (".fits", ".fits.fz", ".fits.gz", ".fit", ".fit.gz", ".fts", ".fz")
SIDECAR_ENDINGS: Final = (".json", ".yaml", ".yml", ".json.gz")
STORE_ERRORS: Final = (OSError, BotoCoreError, ClientError)
"""What file systems raise; those of S3 and HTTP pass some of their libraries' own errors on."""
_GLOB: Final = frozenset("*?[")


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


def list_objects(uris: Iterable[str]) -> Iterator[tuple[SourceObject, AbstractFileSystem]]:
    """Yield the objects that paths and URLs name, each with its file system.

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
        except STORE_ERRORS as error:
            fault = str(error).replace(path, public_uri(uri))
            detail = f"{public_uri(uri)} cannot be listed: {type(error).__name__}: {fault}"
            raise TransientError(f"{detail}; check the address and the credentials") from error
        if found is None:
            yield SourceObject(uri=_uri(filesystem, path), path=path), filesystem
            continue
        yield from ((each, filesystem) for each in _raws(filesystem, found))


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


def _raws(filesystem: AbstractFileSystem, found: dict[str, dict[str, Any]]) -> Iterator[SourceObject]:
    names = {name for name, info in found.items() if info.get("type") == "file"}
    stems = {stem for name in names if (stem := _stem(name, FITS_ENDINGS)) is not None}
    for name in sorted(names):
        if name.lower().endswith(FITS_ENDINGS) or _stem(name, SIDECAR_ENDINGS) not in {None, *stems}:
            yield SourceObject(uri=_uri(filesystem, name), path=name, size=found[name].get("size"))


def _stem(name: str, endings: tuple[str, ...]) -> str | None:
    """Return a name without its ending; None if it has none of these."""
    ending = next((each for each in sorted(endings, key=len, reverse=True) if name.lower().endswith(each)), None)
    return None if ending is None else name[: -len(ending)]


def _uri(filesystem: AbstractFileSystem, path: str) -> str:
    return public_uri(str(filesystem.unstrip_protocol(path)))


def public_uri(uri: str) -> str:
    """Return a URI without the user, the password and, for HTTP, the signed query that it may carry."""
    if "://" not in uri or uri.startswith(("file:", "s3:", "s3a:", "gs:", "gcs:", "memory:")):
        return uri
    parts = urlsplit(uri)
    query = "" if parts.scheme in {"http", "https"} else parts.query
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=query, fragment=""))
