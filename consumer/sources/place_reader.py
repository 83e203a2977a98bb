"""Reads headers and side files of configured places: `ObjectStores` says what may be opened, `read_header` reads it."""

from contextlib import AbstractContextManager
from typing import BinaryIO, Final

from consumer.sources.expected_sensors import ExpectedSensors, parse_expected_sensors
from consumer.sources.header_reader import HeaderLimits, read_header
from consumer.sources.model import Header, NotReadableYetError, RejectedError, RejectReason, SourceObject
from consumer.sources.object_stores import ObjectStores
from consumer.sources.places import ObjectRole, Place

_MAX_SIDE_FILE_BYTES: Final = 1_048_576


class PlaceFiles:
    """What reading a header asks of one of fsspec's file systems, bound to a place.

    Parameters
    ----------
    stores
        Open objects.
    place
        The only one whose objects are opened.
    """

    def __init__(self, stores: ObjectStores, place: Place) -> None:
        self._stores = stores
        self._place = place

    def _strip_protocol(self, uri: str) -> str:
        """Return the key of an address; fsspec's own name."""
        return uri.removeprefix(f"{self._place.url}/")

    def open(self, key: str, _mode: str, **_: object) -> AbstractContextManager[BinaryIO]:
        """Open an object of the place; raises what its store does."""
        return self._stores.open_raw(self._place, key)


class PlaceReader:
    """See `consumer.sources.interfaces.ObjectReader`.

    Parameters
    ----------
    stores
        Open and list.
    limits
        On one header.
    """

    def __init__(self, stores: ObjectStores, limits: HeaderLimits) -> None:
        self._stores = stores
        self._limits = limits

    def read_raw(self, place: Place, key: str) -> Header:
        """Read the header of a raw or of its sidecar."""
        return read_header(SourceObject(uri=place.uri(key)), PlaceFiles(self._stores, place), self._limits)

    def read_expected_sensors(self, place: Place, key: str) -> ExpectedSensors:
        """Read a file of expected sensors."""
        with self._stores.open(place, key) as stream:
            content = stream.read(_MAX_SIDE_FILE_BYTES + 1)
        if len(content) > _MAX_SIDE_FILE_BYTES:
            raise RejectedError(
                RejectReason.TOO_LARGE,
                f"a file of expected sensors may have {_MAX_SIDE_FILE_BYTES} bytes",
                uri=place.uri(key),
            )
        return parse_expected_sensors(content, place.uri(key))

    def read_raw_beside(self, place: Place, key: str, obs_id: str) -> Header | None:
        """Read the header of any raw of an exposure, in the folder of its file of expected sensors."""
        for each in self._stores.list_folder(place, key.rpartition("/")[0]):
            identity = place.patterns.identify(each.key)
            if identity is None or identity.role is ObjectRole.EXPECTED_SENSORS:
                continue
            if identity.obs_id == obs_id or each.key.rpartition("/")[2].startswith(obs_id):
                try:
                    return self.read_raw(place, each.key)
                except (NotReadableYetError, RejectedError):
                    continue  # it has its own way through the pipeline
        return None
