"""Reads headers and side files of configured places: `ObjectStores` says what may be opened, `read_header` reads it."""

from consumer.sources.expected_sensors import ExpectedSensors, read_sensors
from consumer.sources.header_reader import HeaderLimits, read_header
from consumer.sources.model import Header, NotReadableYetError, RejectedError
from consumer.sources.object_stores import ObjectStores
from consumer.sources.places import ObjectRole, Place


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
        with self._stores.open(place, key) as stream:
            return read_header(stream, place.uri(key), self._limits)

    def read_expected_sensors(self, place: Place, key: str) -> ExpectedSensors:
        """Read a file of expected sensors."""
        with self._stores.open(place, key) as stream:
            return read_sensors(stream, place.uri(key))

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
