"""Opens and lists the objects of configured places, and nothing else: no other host, no link out of a folder.

What cannot be read now raises `NotReadableYetError`, whatever the store's library raises.
"""

import os
import re
import stat
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache, cached_property
from io import FileIO
from typing import Any, BinaryIO, Final, NamedTuple, cast

from consumer.errors import TransientError
from consumer.sources.model import NotReadableYetError, RejectedError, RejectReason
from consumer.sources.places import Place

_DAY = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})")
_CONNECT_TIMEOUT_S: Final = 5
_READ_TIMEOUT_S: Final = 20
_BLOCK_BYTES: Final = 65_536
"""Read at once from a bucket: most headers are shorter."""


class StoredObject(NamedTuple):
    """An object as its store lists it."""

    key: str
    tag: str
    """Changes with its content: the entity tag, or a file's time and size."""


class ObjectStores:
    """Reaches buckets and folders. `open` may be called by several threads at once.

    Parameters
    ----------
    endpoint_url
        Of the buckets' store; None: Amazon's. Credentials are found as Amazon's own tools find them.
    """

    def __init__(self, endpoint_url: str | None = None) -> None:
        self._endpoint_url = endpoint_url

    def open_raw(self, place: Place, key: str) -> AbstractContextManager[BinaryIO]:
        """Open an object as `open` does, but raise what the store's library raises."""
        opened: AbstractContextManager[BinaryIO] = (
            _open_file(place, key) if place.is_folder else self._open_in_bucket(place, key)
        )
        return opened

    @contextmanager
    def open(self, place: Place, key: str) -> Iterator[BinaryIO]:
        """Open an object for reading; it can be sought in.

        Raises
        ------
        NotReadableYetError
            If it is not there, forbidden or out of reach; also while the caller reads it.
        RejectedError
            If it is no file, or lies outside of its folder.
        """
        try:
            with self.open_raw(place, key) as stream:
                yield stream
        except FileNotFoundError as error:
            raise NotReadableYetError(RejectReason.MISSING, "it is not there", uri=place.uri(key)) from error
        except PermissionError as error:
            raise NotReadableYetError(RejectReason.NO_ACCESS, "it may not be read", uri=place.uri(key)) from error
        except _store_errors() as error:
            raise NotReadableYetError(
                RejectReason.UNREACHABLE, f"its store fails ({type(error).__name__}: {error})", uri=place.uri(key)
            ) from error

    def list_folder(self, place: Place, folder: str) -> list[StoredObject]:
        """List the objects of one folder of a place, without those of its folders.

        Raises
        ------
        NotReadableYetError
            When the store does not answer.
        """
        try:
            return (_list_folder if place.is_folder else self._list_in_bucket)(place, folder)[1]
        except _store_errors() as error:
            detail = f"its folder cannot be listed ({type(error).__name__}: {error})"
            raise NotReadableYetError(RejectReason.UNREACHABLE, detail, uri=place.uri(folder)) from error

    def list_objects(self, place: Place, days: Collection[int] | None = None) -> Iterator[StoredObject]:
        """List the objects of a place.

        Parameters
        ----------
        place
            Which.
        days
            Folders that are named by another observing day than these are not entered; None: all are.

        Raises
        ------
        TransientError
            When the store does not answer.
        """
        folders = sorted({prefix.rpartition("/")[0] for prefix in place.prefixes})
        list_one = _list_folder if place.is_folder else self._list_in_bucket
        try:
            while folders:
                folder = folders.pop()
                try:
                    inner, objects = list_one(place, folder)
                except FileNotFoundError:
                    if not folder:
                        raise
                    continue  # a prefix below which nothing is yet
                folders += [each for each in inner if _may_hold(place, each) and _is_of(days, each)]
                yield from objects
        except _store_errors() as error:
            raise TransientError(f"{place.url} cannot be listed ({type(error).__name__}: {error})") from error

    @cached_property
    def _bucket_store(self) -> Any:  # fsspec has no types
        import s3fs  # noqa: PLC0415 -- loading it takes half a second, and folders need none of it

        return s3fs.S3FileSystem(
            endpoint_url=self._endpoint_url,
            use_listings_cache=False,
            default_block_size=_BLOCK_BYTES,
            config_kwargs={
                "connect_timeout": _CONNECT_TIMEOUT_S,
                "read_timeout": _READ_TIMEOUT_S,
                "retries": {"max_attempts": 1},
                "request_checksum_calculation": "when_required",
            },
        )

    def _open_in_bucket(self, place: Place, key: str) -> Any:  # as above
        return self._bucket_store.open(_path(place, key), "rb", cache_type="readahead", fill_cache=False)

    def _list_in_bucket(self, place: Place, folder: str) -> tuple[list[str], list[StoredObject]]:
        folders, objects = [], []
        root = _path(place, "")
        for each in self._bucket_store.ls(_path(place, folder), detail=True, refresh=True):
            key = each["name"].removeprefix(root)
            if each["type"] == "directory":
                folders.append(key)
            elif each["name"].rstrip("/") != _path(place, folder).rstrip("/"):  # a folder's own marker
                objects.append(StoredObject(key, str(each.get("ETag", "")).strip('"')))
        return folders, objects


@cache
def _store_errors() -> tuple[type[Exception], ...]:
    """Return what reading from a file or a bucket may raise."""
    try:
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 -- as `s3fs`
    except ImportError:  # without the extra, folders can be read
        return (OSError,)
    return (OSError, BotoCoreError, ClientError)


def _path(place: Place, key: str) -> str:
    """Return a path as s3fs takes it: without the scheme, so that no part of it is read as an address."""
    return f"{place.url.removeprefix('s3://')}/{key}"


class _SizedFile(FileIO):
    """A file that knows its size, as those of fsspec do."""

    size = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Read so many bytes; no memory is taken for what the file does not have, as 4 MB would be for a header."""
        return super().read(size if size is None or size < 0 else min(size, self.size + 1))


@contextmanager
def _open_file(place: Place, key: str) -> Iterator[BinaryIO]:
    # Without O_NONBLOCK a pipe would be waited for. The path is looked at once the file is open: no link changes it
    # then; not by pathlib, which takes longer for it than reading a sidecar does.
    handle = os.open(f"{place.url}/{key}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with _SizedFile(handle) as stream:
        status = os.fstat(handle)
        stream.size = status.st_size
        if not stat.S_ISREG(status.st_mode):
            raise RejectedError(RejectReason.NOT_ALLOWED, "it is no regular file", uri=place.uri(key))
        path = os.readlink(f"/proc/self/fd/{handle}")  # noqa: PTH115 -- as above
        if not path.startswith(f"{place.url}/"):
            raise RejectedError(
                RejectReason.NOT_ALLOWED, f"it is a symbolic link out of {place.url}", uri=place.uri(key)
            )
        yield cast("BinaryIO", stream)


def _list_folder(place: Place, folder: str) -> tuple[list[str], list[StoredObject]]:
    folders, objects = [], []
    with os.scandir(f"{place.url}/{folder}") as entries:
        for each in entries:
            key = f"{folder}/{each.name}".removeprefix("/")
            if each.is_dir(follow_symlinks=False):
                folders.append(key)
            else:
                try:
                    status = each.stat()
                except OSError:  # gone meanwhile, or a link to nothing
                    continue
                objects.append(StoredObject(key, f"{status.st_mtime_ns}-{status.st_size}"))
    return folders, objects


def _may_hold(place: Place, folder: str) -> bool:
    """Whether keys below a folder can begin with one of the place's prefixes."""
    below = f"{folder}/"
    return any(below.startswith(prefix) or prefix.startswith(below) for prefix in place.prefixes)


def _is_of(days: Collection[int] | None, folder: str) -> bool:
    """Whether a folder is named by one of these days, or by none."""
    named = _DAY.fullmatch(folder.rpartition("/")[2])
    return days is None or named is None or int("".join(named.groups())) in days
