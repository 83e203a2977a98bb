"""Bytes to events and back: Avro in two wire forms, validated. The only file it reads is its own schema."""

from consumer.events.decoder import MAX_EXPOSURES_REMEMBERED, MAX_MESSAGE_BYTES, Decoder, SchemaSource
from consumer.events.encoder import (
    RawEncoder,
    confluent_header,
    encode,
    encode_body,
    encode_confluent,
    encode_record,
    record_of,
)
from consumer.events.schema_files import schema_text
from consumer.events.validation import exposure_from_json, raw_from_fields
from consumer.events.writer_schemas import (
    EXPOSURE_INGESTED,
    RAW_INGESTED,
    RAW_REJECTED,
    VISIT_DEFINED,
    WriterSchema,
    parse_writer_schema,
)

__all__ = [
    "EXPOSURE_INGESTED",
    "MAX_EXPOSURES_REMEMBERED",
    "MAX_MESSAGE_BYTES",
    "RAW_INGESTED",
    "RAW_REJECTED",
    "VISIT_DEFINED",
    "Decoder",
    "RawEncoder",
    "SchemaSource",
    "WriterSchema",
    "confluent_header",
    "encode",
    "encode_body",
    "encode_confluent",
    "encode_record",
    "exposure_from_json",
    "parse_writer_schema",
    "raw_from_fields",
    "record_of",
    "schema_text",
]
