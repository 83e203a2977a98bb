"""Events to bytes, where most of them repeat an exposure: its fields are encoded once for all of its raws. Pure."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, NamedTuple

from consumer.events import EXPOSURE_INGESTED, RAW_INGESTED, encode_record
from consumer.events.encoder import encode_fields, record_of
from consumer.events.writer_schemas import section
from consumer.model import EXPOSURE_FIELDS, Exposure, RawIngested

_IDENTITY: Final = section(RAW_INGESTED, "instrument", "exposure")
_DETECTOR: Final = section(RAW_INGESTED, "detector", "detector")
_RECORD: Final = section(RAW_INGESTED, "obs_id", "record_version")
_OWN: Final = section(RAW_INGESTED, "uri", "naxis2")
_REMEMBERED = 100


class _Encoded(NamedTuple):
    exposure: Exposure
    identity: bytes
    record: bytes


class EventEncoder:
    """Encodes in Avro single-object encoding."""

    def __init__(self) -> None:
        self._encoded: OrderedDict[int, _Encoded] = OrderedDict()
        """By the object's id: one exposure object serves all raws of an exposure."""

    def encode_raw(self, raw: RawIngested) -> bytes:
        """Encode the event of a raw."""
        known = self._encoded.get(id(raw.exposure))
        if known is None or known.exposure is not raw.exposure:
            known = self._encode(raw)
        own = {
            "uri": raw.uri,
            "ingested_at": raw.ingested_at,
            "wcs": raw.wcs,
            "naxis1": raw.naxis1,
            "naxis2": raw.naxis2,
        }
        detector = encode_fields({"detector": raw.detector}, _DETECTOR)
        return known.identity + detector + known.record + encode_fields(own, _OWN)

    def encode_exposure(
        self, exposure: Exposure, *, detectors: Sequence[int] | None = None, expected: Sequence[int] | None = None
    ) -> bytes:
        """Encode the event of an exposure: the detectors that have come, and those that will."""
        record = {name: getattr(exposure, name) for name in EXPOSURE_FIELDS if name != "id"}
        # Lists: fastavro takes a tuple for the name of a type and a value.
        own = {
            "exposure": exposure.id,
            "detectors": None if detectors is None else list(detectors),
            "expected_detectors": None if expected is None else list(expected),
        }
        return encode_record(record | own, EXPOSURE_INGESTED)

    def _encode(self, raw: RawIngested) -> _Encoded:
        fields = record_of(raw)
        identity = RAW_INGESTED.single_object_header + encode_fields(fields, _IDENTITY)
        encoded = _Encoded(raw.exposure, identity, encode_fields(fields, _RECORD))
        self._encoded[id(raw.exposure)] = encoded
        if len(self._encoded) > _REMEMBERED:
            self._encoded.popitem(last=False)
        return encoded
