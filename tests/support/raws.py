"""Events of raws and of exposures for tests, as objects and as bytes."""

import json
from collections.abc import Collection
from typing import Any

from consumer.errors import BadMessageError
from consumer.events import (
    EXPOSURE_INGESTED,
    RAW_INGESTED,
    Decoder,
    encode_record,
    parse_writer_schema,
    record_of,
    schema_text,
)
from consumer.model import Exposure, ExposureIngested, Ingested, RawIngested
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


def exposure_event(
    one: Exposure | None = None,
    detectors: Collection[int] | None = None,
    expected: Collection[int] | None = None,
    /,
    **changes: Any,
) -> ExposureIngested:
    """Make the event of a whole exposure."""
    return ExposureIngested(
        exposure=one or exposure(),
        detectors=None if detectors is None else frozenset(detectors),
        expected_detectors=None if expected is None else frozenset(expected),
        **changes,
    )


def encode_changed(event: Ingested, /, **changes: Any) -> bytes:
    """Encode an event with some of its fields, by their names in the schema, changed to what no `Exposure` may be."""
    schema = RAW_INGESTED if isinstance(event, RawIngested) else EXPOSURE_INGESTED
    return encode_record(record_of(event) | changes, schema)


def own_schema(name: str = "raw_ingested") -> dict[str, Any]:
    """Load a schema of events, to derive other versions from."""
    schema: dict[str, Any] = json.loads(schema_text(name))
    return schema


def encode_with(schema: dict[str, Any], record: dict[str, Any]) -> bytes:
    """Encode an event with another writer schema, single-object."""
    return encode_record(record, parse_writer_schema(json.dumps(schema)))


def outcome(decoder: Decoder, value: bytes | None) -> Ingested | tuple[str, str | None]:
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
