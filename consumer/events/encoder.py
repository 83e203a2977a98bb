"""Events to bytes, for what produces them: the simulator, the outbox and the tests."""

from collections.abc import Mapping
from dataclasses import asdict
from io import BytesIO
from typing import Any

from fastavro import schemaless_writer

from consumer.events.writer_schemas import RAW_INGESTED, WriterSchema, section
from consumer.model import Exposure, RawIngested


def encode(raw: RawIngested) -> bytes:
    """Encode one event in Avro single-object encoding.

    Raises
    ------
    ValueError, TypeError
        A field has a value that its Avro type does not hold.
    """
    return encode_record(record_of(raw), RAW_INGESTED)


def encode_confluent(raw: RawIngested, schema_id: int) -> bytes:
    """Encode one event in Confluent framing, under the id that the registry gave our schema."""
    return confluent_header(schema_id) + encode_body(record_of(raw), RAW_INGESTED)


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


def record_of(raw: RawIngested) -> dict[str, Any]:
    """Return the event's fields by their names in the schema."""
    own = asdict(raw)
    exposure = own.pop("exposure")
    return {"exposure": exposure.pop("id"), **exposure, **own}


class RepeatEncoder:
    """Encodes the raws of an exposure one after the other, its own fields only once. Not thread-safe.

    Parameters
    ----------
    schema_id
        For Confluent framing, the id of our schema in the registry; None is Avro single-object encoding.
    """

    def __init__(self, schema_id: int | None = None) -> None:
        self._header = RAW_INGESTED.single_object_header if schema_id is None else confluent_header(schema_id)
        self._exposure: Exposure | None = None
        self._prefix = self._record = b""
        self._rests: dict[tuple[int | None, int | None], bytes] = {}

    def encode(self, raw: RawIngested) -> bytes:
        """Encode one event: the same bytes as `encode` or `encode_confluent` gives."""
        if raw.exposure is not self._exposure:
            self._begin(raw.exposure)
        if raw.uri is None or raw.ingested_at is None or raw.wcs is not None:
            own = encode_fields({name: getattr(raw, name) for name in _RAW_FIELDS}, _RAW_SECTION)
            return b"".join((self._prefix, varint(raw.detector), self._record, own))
        rest = self._rests.get((raw.naxis1, raw.naxis2))
        if rest is None:
            nothing = {"uri": None, "ingested_at": None, "wcs": None, "naxis1": raw.naxis1, "naxis2": raw.naxis2}
            # Without the two bytes that say that address and time are null.
            rest = self._rests[raw.naxis1, raw.naxis2] = encode_fields(nothing, _RAW_SECTION)[2:]
        uri = raw.uri.encode()
        time = varint(raw.ingested_at)
        return b"".join(
            (self._prefix, varint(raw.detector), self._record, b"\x02", varint(len(uri)), uri, b"\x02", time, rest)
        )

    def _begin(self, exposure: Exposure) -> None:
        record = record_of(RawIngested(exposure=exposure, detector=0))
        self._prefix = self._header + encode_fields(record, _PREFIX_SECTION)
        self._record = encode_fields(record, _RECORD_SECTION)
        self._exposure = exposure


def varint(number: int) -> bytes:
    """Encode an Avro ``int`` or ``long``: zigzag, then 7 bits a byte, lowest first."""
    number = (number << 1) ^ (number >> 63)
    out = bytearray()
    while number > _SEVEN_BITS:
        out.append(number & _SEVEN_BITS | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_SEVEN_BITS = 0x7F
_RAW_FIELDS = ("uri", "ingested_at", "wcs", "naxis1", "naxis2")
_PREFIX_SECTION = section(RAW_INGESTED, "instrument", "exposure")
_RECORD_SECTION = section(RAW_INGESTED, "obs_id", "record_version")
_RAW_SECTION = section(RAW_INGESTED, "uri", "naxis2")
