"""Reads one object for the pipeline, in whatever thread; whatever it does to a library, the answer is a value."""

from typing import NamedTuple

from consumer.logs import get_logger
from consumer.sources.expected_sensors import ExpectedSensors
from consumer.sources.interfaces import FoundObject, ObjectReader
from consumer.sources.model import Header, NotReadableYetError, RejectedError, RejectReason, encodable
from consumer.sources.places import ObjectRole

_log = get_logger(__name__)


class SensorsRead(NamedTuple):
    """A file of expected sensors, and the header of a raw of its exposure where one was looked for and found."""

    sensors: ExpectedSensors
    beside: Header | None


ReadResult = Header | SensorsRead | NotReadableYetError | RejectedError


def read_object(reader: ObjectReader, found: FoundObject, role: ObjectRole, *, look_beside: bool) -> ReadResult:
    """Read one object.

    Parameters
    ----------
    reader
        Reads.
    found, role
        The object, and what it is.
    look_beside
        Whether to look for a raw beside a file of expected sensors: at first the header is on its way; later it may
        have come to a former process.
    """
    if encodable(found.uri) != found.uri:
        return RejectedError(RejectReason.NOT_ALLOWED, "its name is no UTF-8 text", uri=found.uri)
    try:
        if role is not ObjectRole.EXPECTED_SENSORS:
            return reader.read_raw(found.place, found.key)
        sensors = reader.read_expected_sensors(found.place, found.key)
        beside = reader.read_raw_beside(found.place, found.key, sensors.obs_id) if look_beside else None
    except (NotReadableYetError, RejectedError) as error:
        return error
    except Exception as error:  # noqa: BLE001 -- the top of this object: whatever it does to a library, others go on
        return failed(found, error)
    return SensorsRead(sensors, beside)


def failed(found: FoundObject, error: Exception) -> RejectedError:
    """Return the rejection of an object on which a library failed, within the handler of its error."""
    _log.exception("unexpected error while reading an object", uri=found.uri)
    return RejectedError(RejectReason.FAILED, f"{type(error).__name__}: {error}", uri=found.uri)
