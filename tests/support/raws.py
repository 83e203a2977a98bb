"""Raw-ingested events for tests, as objects and as bytes."""

import json
from typing import Any

from consumer.errors import BadMessageError
from consumer.events import RAW_INGESTED, Decoder, encode_record, parse_writer_schema, record_of, schema_text
from consumer.model import Exposure, RawIngested
from tests.support.exposures import exposure

INGESTED_AT_US = 1_793_577_700_123_456
"""2026-11-02T00:01:40.123456 UTC."""


def raw_of(one: Exposure | None = None, detector: int = 94, /, **changes: Any) -> RawIngested:
    """Make one raw of an exposure."""
    one = one or exposure()
    values: dict[str, Any] = {
        "uri": f"s3://raws/{one.instrument}/{one.day_obs}/{one.obs_id}_{detector:03d}.fits",
        "ingested_at": INGESTED_AT_US + detector,
        "naxis1": 4072,
        "naxis2": 4000,
    }
    return RawIngested(exposure=one, detector=detector, **(values | changes))


def encode_changed(raw: RawIngested, /, **changes: Any) -> bytes:
    """Encode an event with some of its fields, by their names in the schema, changed to what no `Exposure` may be."""
    return encode_record(record_of(raw) | changes, RAW_INGESTED)


def own_schema() -> dict[str, Any]:
    """Load the schema of raw-ingested events, to derive other versions from."""
    schema: dict[str, Any] = json.loads(schema_text("raw_ingested"))
    return schema


def encode_with(schema: dict[str, Any], record: dict[str, Any]) -> bytes:
    """Encode an event with another writer schema, single-object."""
    return encode_record(record, parse_writer_schema(json.dumps(schema)))


def outcome(decoder: Decoder, value: bytes | None) -> RawIngested | tuple[str, str | None]:
    """Decode, and give the event, or the reason and the instrument of its refusal."""
    try:
        return decoder.decode(value)
    except BadMessageError as error:
        return error.reason.value, error.instrument


def refusal(decoder: Decoder, value: bytes | None) -> BadMessageError:
    """Decode what must be refused, and give the error."""
    try:
        raw = decoder.decode(value)
    except BadMessageError as error:
        return error
    raise AssertionError(f"accepted: {raw}")
