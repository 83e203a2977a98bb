"""What the fuzzer tries and a test repeats over the kept corpus: any bytes end as an event or as a typed refusal."""

import json
from typing import Any

from consumer.errors import BadMessageError
from consumer.events import (
    EXPOSURE_INGESTED,
    RAW_INGESTED,
    Decoder,
    WriterSchema,
    encode,
    parse_writer_schema,
    schema_text,
)
from consumer.model import Exposure, ExposureIngested, RawIngested

MAX_DETAIL = 400
MAX_MESSAGE_BYTES = 65_536
"""Smaller than the product's bound, so that the fuzzer finds it."""


def _schema_with(*added: dict[str, Any], of: str = "raw_ingested") -> WriterSchema:
    schema = json.loads(schema_text(of))
    schema["fields"] = [*added, *reversed(schema["fields"])]
    return parse_writer_schema(json.dumps(schema))


_INNER = {
    "type": "record",
    "name": "Inner",
    "fields": [
        {"name": "n", "type": ["null", "long", "string"]},
        {"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["A", "B"]}},
        {"name": "f", "type": {"type": "fixed", "name": "F", "size": 3}},
    ],
}
OTHER_SCHEMAS = (
    _schema_with({"name": "extra", "type": {"type": "array", "items": _INNER}}),
    _schema_with({"name": "extra", "type": {"type": "map", "values": ["null", "bytes", "double"]}}),
    _schema_with(),
    EXPOSURE_INGESTED,
    _schema_with({"name": "extra", "type": {"type": "array", "items": _INNER}}, of="exposure_ingested"),
)
"""Writer schemas besides that of raws: their fields must be skipped, reordered and resolved."""
HEADERS = (RAW_INGESTED.single_object_header, *(schema.single_object_header for schema in OTHER_SCHEMAS))

KNOWN = RawIngested(
    exposure=Exposure(
        instrument="LATISS", id=2022040500347, obs_id="AT_O_20220405_000347", day_obs=20220405,
        group="2022-04-06T02:56:53.255", physical_filter="dummy_u", exposure_time=30.0, dark_time=30.6,
        observation_type="science", observation_reason="object", seq_num=347, seq_start=347, seq_end=347,
        target_name="LATISS_E6A_00000027", science_program="LATISS_E6A", tracking_ra=221.5, tracking_dec=-44.9,
        sky_angle=358.5, azimuth=125.1, zenith_angle=44.1, has_simulated=False, can_see_sky=True,
        timespan_begin=1649213928006500400, timespan_end=1649213958233000000, group_size=1,
    ),
    detector=0, uri="s3://raws/a.fits", ingested_at=1649213960000000, naxis1=4072, naxis2=4000,
)  # fmt: skip  # a line a field would be a page
KNOWN_VALUE = encode(KNOWN)
KNOWN_EXPOSURE_VALUE = encode(
    ExposureIngested(
        exposure=KNOWN.exposure,
        detectors=frozenset({0, 1, 2, 94}),
        expected_detectors=frozenset(range(205)),
        uri="s3://raws/",
        ingested_at=1649213960000000,
    )
)


class _Registry:
    def fetch(self, schema_id: int) -> str:
        if schema_id >= len(HEADERS):
            raise LookupError(schema_id)
        return (schema_text("raw_ingested"), *(json.dumps(s.parsed) for s in OTHER_SCHEMAS))[schema_id]


def _decoder(exposures_remembered: int) -> Decoder:
    return Decoder(
        writer_schemas=[json.dumps(schema.parsed) for schema in OTHER_SCHEMAS],
        registry=_Registry(),
        max_message_bytes=MAX_MESSAGE_BYTES,
        exposures_remembered=exposures_remembered,
    )


FAST, PLAIN = _decoder(8), _decoder(0)


def check(data: bytes) -> None:
    """Try bytes as a message, as the record of each known schema, and as a schema.

    Raises
    ------
    AssertionError
        The fast path and the plain one differ, or a refusal is not fit to be stored.
    Exception
        Whatever the decoder let through: a defect.
    """
    for value in (data, *(header + data for header in HEADERS)):
        FAST.decode(KNOWN_VALUE)
        fast, plain = _outcome(FAST, value), _outcome(PLAIN, value)
        assert fast == plain, (fast, plain)
        if isinstance(plain, RawIngested | ExposureIngested):
            assert PLAIN.decode(encode(plain)) == plain
    try:
        parse_writer_schema(data.decode("latin-1"))
    except BadMessageError as error:
        _check_refusal(error)


def _outcome(decoder: Decoder, value: bytes) -> object:
    try:
        return decoder.decode(value)
    except BadMessageError as error:
        _check_refusal(error)
        return error.reason, error.instrument


def _check_refusal(error: BadMessageError) -> None:
    assert error.detail
    assert len(error.detail) < MAX_DETAIL, len(error.detail)
    assert "\x00" not in error.detail
    error.detail.encode()
