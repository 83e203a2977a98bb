"""Bytes of one Kafka message to one of `~consumer.model.Ingested`, or a typed refusal.

Two wire forms, told apart by their first byte: Confluent framing (0x00, a 4-byte big-endian schema id, the record),
whose writer schema comes from a registry, and Avro single-object encoding (0xC3 0x01, the 8-byte little-endian
CRC-64-AVRO fingerprint of the writer's schema, the record), whose writer schema must be known here. Events written with
another schema than ours are resolved against ours by Avro's rules: added, removed and aliased fields keep working.
That is slower: 10,000 events a second on a core that does 300,000 of ours. The name of the writer's record says which
of our two schemas is meant, so both kinds of event may share a topic.

Whatever the bytes are, the answer is an event or a `~consumer.errors.BadMessageError`. Messages are bounded and
checked (`consumer.events.record_check`) before fastavro reads them, writer schemas before they are used
(`consumer.events.writer_schemas`), and a record must end exactly where its message does.
"""

import struct
from collections.abc import Iterable
from io import BytesIO
from typing import Any, Protocol

from fastavro import schemaless_reader
from fastavro.read import SchemaResolutionError
from fastavro.schema import SchemaParseException, UnknownType, parse_schema

from consumer.errors import BadMessageError, ConfigurationError, DeadLetterReason
from consumer.events.repeats import Repeats
from consumer.events.validation import (
    INT32_MAX,
    exposure_event_from_fields,
    exposure_from_fields,
    raw_from_fields,
    shown,
)
from consumer.events.writer_schemas import (
    EXPOSURE_INGESTED,
    RAW_INGESTED,
    WriterSchema,
    parse_writer_schema,
    section,
)
from consumer.model import Exposure, Ingested

MAX_MESSAGE_BYTES = 1_048_576
"""Kafka's own default bound for a message."""
MAX_EXPOSURES_REMEMBERED = 4096
"""Exposures whose bytes the fast path knows, by default: a night of LSSTCam has about 1,000."""

_CONFLUENT, _SINGLE_OBJECT = 0x00, b"\xc3\x01"
_CONFLUENT_BYTES, _SINGLE_OBJECT_BYTES = 5, 10
_MAX_SCHEMAS = 1000

# What fastavro was seen to raise on random, truncated and resolved bytes, and what its C code may raise besides.
_DECODING_FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RecursionError,
    struct.error,
    TypeError,
    ValueError,
)


class SchemaSource(Protocol):
    """Where the writer schemas of Confluent framing come from."""

    def fetch(self, schema_id: int) -> str:
        """Return the text of a schema.

        Raises
        ------
        LookupError
            The registry is well, and has no such schema.
        TransientError
            The registry cannot be asked now.
        """
        ...


class Decoder:
    """Decodes and validates events of raws and of exposures. Not thread-safe; knows nothing but what it was given.

    Parameters
    ----------
    writer_schemas
        Texts of further schemas that events in single-object encoding may have been written with (older or newer
        versions); ours are always known.
    registry
        Source of schemas for Confluent framing; without one, such events are refused as ``UNKNOWN_SCHEMA_ID``.
    max_message_bytes
        Longer messages are refused as ``TOO_LARGE``.
    exposures_remembered
        Exposures whose bytes the fast path knows (see `consumer.events.repeats`); 0 turns it off.

    Raises
    ------
    ConfigurationError
        One of ``writer_schemas`` is no usable schema.
    """

    def __init__(
        self,
        *,
        writer_schemas: Iterable[str] = (),
        registry: SchemaSource | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        exposures_remembered: int = MAX_EXPOSURES_REMEMBERED,
    ) -> None:
        self._registry = registry
        self._max_message_bytes = max_message_bytes
        self._repeats = Repeats(exposures_remembered) if exposures_remembered else None
        self._known = {schema.fingerprint: schema for schema in (RAW_INGESTED, EXPOSURE_INGESTED)}
        for text in writer_schemas:
            try:
                schema = parse_writer_schema(text)
            except BadMessageError as error:
                raise ConfigurationError(
                    f"a writer schema of raw-ingested or exposure-ingested events: {error.detail}"
                ) from error
            self._known.setdefault(schema.fingerprint, schema)
        self._registered: dict[int, WriterSchema | BadMessageError] = {}

    def decode(self, value: bytes | None) -> Ingested:
        """Decode and validate one message's value.

        Raises
        ------
        BadMessageError
            The message can never be used; its reason says why, its detail names the field and the value.
        TransientError
            The schema registry cannot be asked now; the same call may work later.
        """
        if not value:
            raise BadMessageError(DeadLetterReason.EMPTY, "the message has no value")
        start = _CONFLUENT_BYTES if value[0] == _CONFLUENT else _SINGLE_OBJECT_BYTES
        # Framing is part of what must be equal, so a repeat needs no look at the schema; nor at the length, which is
        # bounded by what the repeat accepts.
        if self._repeats is not None and len(value) <= self._max_message_bytes:
            raw = self._repeats.find(value, start)
            if raw is not None:
                return raw
        return self._decode_whole(value, start)

    def fields(self, value: bytes | None) -> dict[str, Any]:
        """Decode a message's fields without judging their values, for people who look at a dead letter.

        Raises
        ------
        BadMessageError
            The bytes do not hold a record of a known schema.
        TransientError
            The schema registry cannot be asked now.
        """
        if not value:
            raise BadMessageError(DeadLetterReason.EMPTY, "the message has no value")
        start = _CONFLUENT_BYTES if value[0] == _CONFLUENT else _SINGLE_OBJECT_BYTES
        return _read_resolved(value, start, self._writer_schema(value))

    def _decode_whole(self, value: bytes, start: int) -> Ingested:
        if len(value) > self._max_message_bytes:
            raise BadMessageError(
                DeadLetterReason.TOO_LARGE,
                f"the message has {len(value)} bytes, the limit is {self._max_message_bytes}",
            )
        schema = self._writer_schema(value)
        if schema.canonical != RAW_INGESTED.canonical:
            return _event_from_record(_read_resolved(value, start, schema), schema)
        record, record_end = _read_own(value, start, schema)
        raw = raw_from_fields(_exposure_from_record(record), record)
        return self._repeats.remember(value, start, record_end, raw) if self._repeats is not None else raw

    def _writer_schema(self, value: bytes) -> WriterSchema:
        if value[0] == _CONFLUENT:
            if len(value) < _CONFLUENT_BYTES:
                raise BadMessageError(DeadLetterReason.UNDECODABLE, f"the message ends within its framing: {value!r}")
            return self._registered_schema(int.from_bytes(value[1:_CONFLUENT_BYTES], "big"))
        if not value.startswith(_SINGLE_OBJECT):
            raise BadMessageError(
                DeadLetterReason.UNKNOWN_FRAMING,
                f"the message begins with {value[:2].hex(' ')}, not with 00 (Confluent framing) or c3 01 (Avro)",
            )
        if len(value) < _SINGLE_OBJECT_BYTES:
            raise BadMessageError(DeadLetterReason.UNDECODABLE, f"the message ends within its framing: {value!r}")
        fingerprint = value[2:_SINGLE_OBJECT_BYTES]
        schema = self._known.get(fingerprint)
        if schema is None:
            raise BadMessageError(
                DeadLetterReason.UNKNOWN_FINGERPRINT,
                f"no known schema has the CRC-64-AVRO fingerprint {fingerprint.hex()} (little-endian, as on the wire)",
            )
        return schema

    def _registered_schema(self, schema_id: int) -> WriterSchema:
        found = self._registered.get(schema_id)
        if found is None:
            found = self._fetch(schema_id)
            if len(self._registered) >= _MAX_SCHEMAS:
                del self._registered[next(iter(self._registered))]
            self._registered[schema_id] = found
        if isinstance(found, BadMessageError):
            raise BadMessageError(found.reason, found.detail)
        return found

    def _fetch(self, schema_id: int) -> WriterSchema | BadMessageError:
        if schema_id > INT32_MAX:
            raise BadMessageError(
                DeadLetterReason.UNKNOWN_SCHEMA_ID, f"schema id {schema_id - 2**32}: no registry gives a negative one"
            )
        if self._registry is None:
            raise BadMessageError(
                DeadLetterReason.UNKNOWN_SCHEMA_ID, f"schema id {schema_id}: no schema registry is configured"
            )
        try:
            text = self._registry.fetch(schema_id)
        except LookupError as error:
            # Not remembered: an id may be registered later, and the source decides how often to ask.
            raise BadMessageError(
                DeadLetterReason.UNKNOWN_SCHEMA_ID, f"schema id {schema_id}: the schema registry does not know it"
            ) from error
        try:
            return parse_writer_schema(text)
        except BadMessageError as error:
            return BadMessageError(error.reason, f"schema id {schema_id}: {error.detail}")


_EXPOSURE_SECTION = section(RAW_INGESTED, "instrument", "record_version")
_RAW_SECTION = section(RAW_INGESTED, "uri", "naxis2")
_LAST_OF_EXPOSURE = [each["name"] for each in RAW_INGESTED.parsed["fields"]].index("record_version")


def _read_own(value: bytes, start: int, schema: WriterSchema) -> tuple[dict[str, Any], int]:
    """Read an event written with our schema; also tell where its exposure's record ends."""
    ends = _field_ends(value, start, schema)
    stream = BytesIO(value)
    stream.seek(start)
    try:
        record: Any = schemaless_reader(stream, _EXPOSURE_SECTION, None)
        record |= schemaless_reader(stream, _RAW_SECTION, None)
    except _DECODING_FAULTS as error:
        raise _undecodable(value, stream, error) from error
    return record, ends[_LAST_OF_EXPOSURE]


def _read_resolved(value: bytes, start: int, schema: WriterSchema) -> dict[str, Any]:
    """Read an event of any schema as one of ours, by Avro's rules of schema resolution."""
    ours = EXPOSURE_INGESTED if schema.of_exposures else RAW_INGESTED
    ends = _field_ends(value, start, schema)
    stream = BytesIO(value)
    stream.seek(start)
    try:
        record: Any = schemaless_reader(stream, schema.parsed, ours.parsed)
    except SchemaResolutionError as error:
        raise BadMessageError(
            DeadLetterReason.INCOMPATIBLE_SCHEMA,
            f"the writer's schema {schema.fingerprint.hex()} does not fit ours: "
            f"{_misfit(value, start, schema, ends, ours)}{shown(str(error))}",
        ) from error
    except _DECODING_FAULTS as error:
        raise _undecodable(value, stream, error) from error
    return dict(record)


def _field_ends(value: bytes, start: int, schema: WriterSchema) -> list[int]:
    """Return where each field of a record ends; the last one must end with its message."""
    try:
        ends = schema.check.field_ends(value, start)
    except ValueError as error:
        raise BadMessageError(DeadLetterReason.UNDECODABLE, f"the record cannot be read: {error}") from error
    if ends[-1:] != [len(value)]:
        raise BadMessageError(
            DeadLetterReason.UNDECODABLE,
            f"the record ends at byte {ends[-1] if ends else start}, but its message has {len(value)} bytes",
        )
    return ends


def _misfit(value: bytes, start: int, schema: WriterSchema, ends: list[int], reader_schema: WriterSchema) -> str:
    """Name the record where it is none of ours, or the first field whose type does not fit, by reading each alone."""
    if schema.name not in (RAW_INGESTED.name, EXPOSURE_INGESTED.name):
        return f"its record is {schema.name}, ours are {RAW_INGESTED.name} and {EXPOSURE_INGESTED.name}: "
    ours = {each["name"]: each for each in reader_schema.parsed["fields"]}
    for theirs, begin, end in zip(schema.parsed["fields"], [start, *ends], ends, strict=False):
        if theirs["name"] in ours:
            try:
                writer, reader = (
                    parse_schema({"type": "record", "name": "One", "fields": [each]})
                    for each in (theirs, ours[theirs["name"]])
                )
                schemaless_reader(BytesIO(value[begin:end]), writer, reader)
            except (UnknownType, SchemaParseException):  # of a type that another field defines: it cannot be read alone
                continue
            except (SchemaResolutionError, *_DECODING_FAULTS):
                return f"field {theirs['name']}: "
    return ""


def _undecodable(value: bytes, stream: BytesIO, error: BaseException) -> BadMessageError:
    return BadMessageError(
        DeadLetterReason.UNDECODABLE,
        f"the record cannot be read near byte {min(stream.tell(), len(value))} of {len(value)}: "
        f"{type(error).__name__}: {shown(str(error))}",
    )


def _event_from_record(record: dict[str, Any], schema: WriterSchema) -> Ingested:
    exposure = _exposure_from_record(record)
    return exposure_event_from_fields(exposure, record) if schema.of_exposures else raw_from_fields(exposure, record)


def _exposure_from_record(record: dict[str, Any]) -> Exposure:
    record["id"] = record["exposure"]
    return exposure_from_fields(record)
