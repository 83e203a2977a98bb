"""Opens and lists the objects of configured places, and nothing else: no other host, no link out of a folder.

What cannot be read now raises `NotReadableYetError`, whatever the store's library raises.
"""

import os
import re
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cached_property
from io import FileIO
from typing import Any, BinaryIO, Final, NamedTuple

from consumer.errors import TransientError
from consumer.logs import get_logger
from consumer.sources.model import RejectedError, RejectReason
from consumer.sources.places import Place
from consumer.sources.store_faults import is_store_fault, store_faults

_log = get_logger(__name__)
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
        with (
            store_faults(place.uri(key)),
            _open_within(place, key) if place.is_folder else self._open_in_bucket(place, key) as stream,
        ):
            yield stream

    def list_folder(self, place: Place, folder: str) -> list[StoredObject]:
        """List the objects of one folder of a place, without those of its folders.

        Raises
        ------
        NotReadableYetError
            When the store does not answer.
        """
        with store_faults(place.uri(folder)):
            return (_list_folder if place.is_folder else self._list_in_bucket)(place, folder)[1]

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
        begun = sorted({prefix.rpartition("/")[0] for prefix in place.prefixes})
        folders = list(begun)
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
                except PermissionError as error:
                    if folder in begun:
                        raise
                    _log.warning("folder cannot be listed", place=place.url, folder=folder, detail=str(error))
                    continue  # such as lost+found
                folders += [each for each in inner if _may_hold(place, each) and _is_of(days, each)]
                yield from objects
        except Exception as error:
            if not is_store_fault(error):
                raise
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


def _path(place: Place, key: str) -> str:
    """Return a path as s3fs takes it: without the scheme, so that no part of it is read as an address."""
    return f"{place.url.removeprefix('s3://')}/{key}"


class RegularFile(FileIO):
    """A file of this machine that knows its size, as those of fsspec do.

    Parameters
    ----------
    path
        Where it is.

    Raises
    ------
    RejectedError
        If it is a folder, a pipe or a device.
    OSError
        As `open`.
    """

    def __init__(self, path: str) -> None:
        # Without O_NONBLOCK a pipe would be waited for.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            os.close(handle)
            raise RejectedError(RejectReason.NOT_ALLOWED, "it is no regular file", uri=path)
        super().__init__(handle)
        self.size = status.st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """Read so many bytes; no memory is taken for what the file does not have, as 4 MB would be for a header."""
        return super().read(size if size is None or size < 0 else min(size, self.size + 1))


def _open_within(place: Place, key: str) -> RegularFile:
    """Open a file of a folder. The path is looked at once it is open: no link changes it then."""
    stream = RegularFile(place.uri(key))
    path = os.readlink(f"/proc/self/fd/{stream.fileno()}")  # noqa: PTH115 -- pathlib takes longer for it than reading
    if not path.startswith(f"{place.url}/"):
        stream.close()
        raise RejectedError(RejectReason.NOT_ALLOWED, f"it is a symbolic link out of {place.url}", uri=place.uri(key))
    return stream


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
