"""Events of whole exposures: decoded beside those of raws, by either wire form, with the same checks."""

import json
from io import BytesIO
from typing import Any
from unittest import mock

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.errors import DeadLetterReason
from consumer.events import (
    EXPOSURE_INGESTED,
    RAW_INGESTED,
    Decoder,
    encode,
    encode_body,
    encode_confluent,
    parse_writer_schema,
    record_check,
    record_of,
    schema_text,
)
from consumer.events.record_check import RecordCheck
from consumer.model import ExposureIngested
from tests.support.exposures import exposure
from tests.support.raws import encode_changed, encode_with, exposure_event, own_schema, raw_of, refusal

FULL = exposure_event(exposure(record_version=3), range(0, 205, 2), range(205), uri="s3://raws/", ingested_at=5)
ITEMS = {"type": "array", "items": "int"}


class Registry:
    """Two schemas under one subject, as a topic of two kinds of events has them."""

    def fetch(self, schema_id: int) -> str:
        return schema_text({7: "raw_ingested", 8: "exposure_ingested"}[schema_id])


def test_the_exposures_fields_are_those_of_a_raw_in_the_same_order_with_the_same_words() -> None:
    raw, whole = own_schema()["fields"], own_schema("exposure_ingested")["fields"]
    own_of_raw = {"detector", "uri", "ingested_at", "wcs", "naxis1", "naxis2"}
    own_of_exposure = ["detectors", "expected_detectors", "uri", "ingested_at"]
    shared = [each for each in raw if each["name"] not in own_of_raw]
    assert whole[: len(shared)] == shared
    assert [each["name"] for each in whole[len(shared) :]] == own_of_exposure


@pytest.mark.parametrize("event", [exposure_event(), exposure_event(None, [], []), FULL], ids=["bare", "empty", "full"])
@pytest.mark.parametrize("exposures_remembered", [0, 10])
def test_both_kinds_share_a_topic_in_both_wire_forms(event: ExposureIngested, exposures_remembered: int) -> None:
    decoder = Decoder(registry=Registry(), exposures_remembered=exposures_remembered)
    raw = raw_of(event.exposure)
    for _ in range(2):
        for value in (encode(event), encode_confluent(event, 8)):
            assert decoder.decode(encode(raw)) == raw
            assert decoder.decode(encode_confluent(raw, 7)) == raw
            assert decoder.decode(value) == event


def test_a_detector_that_stands_twice_counts_once() -> None:
    value = encode_changed(FULL, detectors=[3, 3, 1])
    event = Decoder().decode(value)
    assert isinstance(event, ExposureIngested)
    assert event.detectors == frozenset({1, 3})


@pytest.mark.parametrize(
    ("name", "value", "field"),
    [
        ("detectors", [0, 32768], "detectors[1]"),
        ("detectors", [-1], "detectors[0]"),
        ("expected_detectors", [5, 2**31 - 1], "expected_detectors[1]"),
        ("uri", "s3://\x00", "uri"),
        ("ingested_at", -1, "ingested_at"),
        ("tracking_dec", 91.0, "tracking_dec"),
        ("timespan_begin", 1_793_577_671_000, "timespan_begin"),
    ],
)
def test_the_same_is_refused_as_of_a_raw_by_the_name_of_its_field(name: str, value: Any, field: str) -> None:
    error = refusal(Decoder(), encode_changed(FULL, **{name: value}))
    assert (error.reason, error.instrument) == (DeadLetterReason.INVALID_FIELD, "LSSTComCam")
    assert field in error.detail


def test_an_integer_beyond_its_type_is_refused_within_a_list() -> None:
    value = encode(exposure_event(exposure(), [5]))
    # detectors: branch 1, a block of one item (10 as a varint), the end of the blocks
    at = value.rindex(b"\x02\x02\x0a\x00")
    wide = value[: at + 2] + b"\x8a\x80\x80\x80\x80\x01" + value[at + 3 :]
    error = refusal(Decoder(), wide)
    assert error.reason is DeadLetterReason.UNDECODABLE
    assert "field detectors: an integer of more than 32 bits" in error.detail


def test_other_versions_of_its_schema_are_resolved_against_it() -> None:
    schema = own_schema("exposure_ingested")
    schema["namespace"] = "elsewhere"
    dropped = [each for each in schema["fields"] if each["name"] not in {"uri", "target_name"}]
    schema["fields"] = [{"name": "extra", "type": ITEMS}, *reversed(dropped)]
    record = record_of(FULL) | {"extra": [1, 2]}
    event = Decoder(writer_schemas=[json.dumps(schema)]).decode(encode_with(schema, record))
    assert event == exposure_event(
        exposure(record_version=3, target_name=None), range(0, 205, 2), range(205), uri=None, ingested_at=5
    )


def test_a_field_of_another_type_is_named_in_the_refusal() -> None:
    schema = own_schema("exposure_ingested")
    (place,) = (n for n, each in enumerate(schema["fields"]) if each["name"] == "expected_detectors")
    schema["fields"][place] = {"name": "expected_detectors", "type": {"type": "array", "items": "string"}}
    value = encode_with(schema, record_of(FULL) | {"expected_detectors": ["R22_S11"]})
    error = refusal(Decoder(writer_schemas=[json.dumps(schema)]), value)
    assert error.reason is DeadLetterReason.INCOMPATIBLE_SCHEMA
    assert "field expected_detectors: " in error.detail


def test_a_record_of_one_kind_is_none_of_the_other() -> None:
    body = encode_body(record_of(FULL), EXPOSURE_INGESTED)
    assert refusal(Decoder(), RAW_INGESTED.single_object_header + body).reason in {
        DeadLetterReason.UNDECODABLE,
        DeadLetterReason.INVALID_FIELD,
    }
    renamed = own_schema("exposure_ingested") | {"name": "SomethingElse"}
    error = refusal(Decoder(writer_schemas=[json.dumps(renamed)]), encode_with(renamed, record_of(FULL)))
    assert error.reason is DeadLetterReason.INCOMPATIBLE_SCHEMA
    assert "its record is SomethingElse, ours are RawIngested and ExposureIngested" in error.detail


def test_the_fields_of_a_dead_letter_are_shown() -> None:
    fields = Decoder().fields(encode_changed(FULL, tracking_dec=91.0))
    assert (fields["tracking_dec"], fields["expected_detectors"]) == (91.0, list(range(205)))


def test_the_name_says_the_kind_in_any_namespace() -> None:
    for name, of_exposures in (
        ("ExposureIngested", True),
        ("a.b.ExposureIngested", True),
        ("RawIngested", False),
        ("NoExposureIngested", False),
    ):
        schema = {"type": "record", "name": name, "fields": [{"name": "exposure", "type": "long"}]}
        assert parse_writer_schema(json.dumps(schema)).of_exposures is of_exposures


@given(
    ids=st.lists(st.integers(-(2**31), 2**31 - 1) | st.integers(0, 300), max_size=300),
    cut=st.integers(0, 12),
    spoilt=st.none() | st.tuples(st.integers(0, 2000), st.integers(0, 255)),
)
def test_ids_that_are_checked_at_once_are_checked_as_one_by_one(
    ids: list[int], cut: int, spoilt: tuple[int, int] | None
) -> None:
    schema = fastavro.parse_schema({"type": "record", "name": "One", "fields": [{"name": "ids", "type": ITEMS}]})
    stream = BytesIO()
    fastavro.schemaless_writer(stream, schema, {"ids": ids})
    value = bytearray(stream.getvalue())
    if spoilt is not None:
        value[spoilt[0] % len(value)] = spoilt[1]
    message = bytes(value[: len(value) - cut])
    check = RecordCheck(schema)
    with mock.patch.object(record_check, "_MOST_AT_ONCE", -1):
        expected = _ends(check, message)
    assert _ends(check, message) == expected


def _ends(check: RecordCheck, message: bytes) -> list[int] | type[Exception]:
    try:
        return list(check.field_ends(message, 0))
    except ValueError as error:
        return type(error)
