"""Events to bytes, for what produces them: the simulator, the outbox and the tests."""

from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from io import BytesIO
from typing import Any

from fastavro import schemaless_writer

from consumer.events.writer_schemas import EXPOSURE_INGESTED, RAW_INGESTED, WriterSchema, section
from consumer.model import EXPOSURE_FIELDS, Exposure, ExposureIngested, Ingested, RawIngested


def encode(event: Ingested) -> bytes:
    """Encode one event in Avro single-object encoding.

    Raises
    ------
    ValueError, TypeError
        A field has a value that its Avro type does not hold.
    """
    return encode_record(record_of(event), _schema_of(event))


class RawEncoder:
    """Encodes raws as `encode` does; the fields of an exposure once for all its raws that share one object."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Exposure, bytes, bytes]] = {}

    def encode(self, raw: RawIngested) -> bytes:
        """Encode one event in Avro single-object encoding.

        Raises
        ------
        ValueError, TypeError
            A field has a value that its Avro type does not hold.
        """
        exposure = raw.exposure
        known = self._known.get(id(exposure))
        if known is None:
            record = record_of(raw)
            head = RAW_INGESTED.single_object_header + encode_fields(record, _IDENTITY)
            known = exposure, head, encode_fields(record, _RECORD)  # it is kept, and so its id stays its own
            if len(self._known) >= _EXPOSURES_KEPT:
                del self._known[next(iter(self._known))]
            self._known[id(exposure)] = known
        _, head, record_bytes = known
        detector = _detector_bytes(raw.detector)
        own = {"uri": raw.uri, "ingested_at": raw.ingested_at, "wcs": raw.wcs, "naxis1": raw.naxis1}
        return head + detector + record_bytes + encode_fields(own | {"naxis2": raw.naxis2}, _OWN)


@lru_cache(maxsize=4096)
def _detector_bytes(detector: int) -> bytes:
    return encode_fields({"detector": detector}, _DETECTOR)


def encode_confluent(event: Ingested, schema_id: int) -> bytes:
    """Encode one event in Confluent framing, under the id that the registry gave our schema."""
    return confluent_header(schema_id) + encode_body(record_of(event), _schema_of(event))


def encode_record(record: Mapping[str, Any], schema: WriterSchema) -> bytes:
    """Encode any record in Avro single-object encoding."""
    return schema.single_object_header + encode_body(record, schema)


def encode_body(record: Mapping[str, Any], schema: WriterSchema) -> bytes:
    """Encode any record without framing."""
    return encode_fields(record, schema.parsed)


def encode_fields(record: Mapping[str, Any], parsed: Any) -> bytes:
    """Encode the fields of a record of a schema, or of a section of one, as fastavro has it parsed."""
    stream = BytesIO()
    schemaless_writer(stream, parsed, record)
    return stream.getvalue()


def confluent_header(schema_id: int) -> bytes:
    """Build the first 5 bytes of Confluent framing."""
    return b"\x00" + schema_id.to_bytes(4, "big")


def record_of(event: Ingested) -> dict[str, Any]:
    """Return the event's fields by their names in the schema."""
    exposure = {name: getattr(event.exposure, name) for name in EXPOSURE_FIELDS if name != "id"}
    own = {name: getattr(event, name) for name in _OWN_FIELDS[type(event)]}
    sets = {name: sorted(value) for name, value in own.items() if isinstance(value, frozenset)}
    return exposure | own | sets | {"exposure": event.exposure.id}


_OWN_FIELDS = {
    kind: tuple(each.name for each in fields(kind) if each.name != "exposure")
    for kind in (RawIngested, ExposureIngested)
}


_EXPOSURES_KEPT = 64
_IDENTITY = section(RAW_INGESTED, "instrument", "exposure")
_DETECTOR = section(RAW_INGESTED, "detector", "detector")
_RECORD = section(RAW_INGESTED, "obs_id", "record_version")
_OWN = section(RAW_INGESTED, "uri", "naxis2")


def _schema_of(event: Ingested) -> WriterSchema:
    return EXPOSURE_INGESTED if isinstance(event, ExposureIngested) else RAW_INGESTED
