import json
from typing import Any

import pytest

from consumer.errors import BadMessageError, ConfigurationError, DeadLetterReason, TransientError
from consumer.events import (
    RAW_INGESTED,
    Decoder,
    encode,
    encode_confluent,
    encode_record,
    parse_writer_schema,
    record_of,
    schema_text,
)
from consumer.model import RawIngested
from tests.support.exposures import exposure
from tests.support.raws import encode_with, own_schema, raw_of, refusal

MINIMAL = raw_of(
    exposure(
        **dict.fromkeys(
            ("physical_filter", "exposure_time", "dark_time", "observation_type", "observation_reason", "seq_num")
        ),
        **dict.fromkeys(("seq_start", "seq_end", "target_name", "science_program", "tracking_ra", "tracking_dec")),
        **dict.fromkeys(("sky_angle", "azimuth", "zenith_angle", "has_simulated", "can_see_sky")),
        **dict.fromkeys(("timespan_begin", "timespan_end")),
    ),
    0,
    uri=None,
    ingested_at=None,
    naxis1=None,
    naxis2=None,
)
FULL = raw_of(exposure(group_size=2, record_version=3), 204, wcs="CTYPE1  = 'RA---TAN'".ljust(80) * 40)


class Registry:
    """A schema source out of a dict; counts what it is asked."""

    def __init__(self, schemas: dict[int, str]) -> None:
        self.schemas = schemas
        self.asked: list[int] = []
        self.ill = False

    def fetch(self, schema_id: int) -> str:
        self.asked.append(schema_id)
        if self.ill:
            raise TransientError("the registry is out")
        return self.schemas[schema_id]


@pytest.mark.parametrize("raw", [raw_of(), MINIMAL, FULL], ids=["usual", "minimal", "full"])
@pytest.mark.parametrize("exposures_remembered", [0, 10])
def test_both_wire_forms_decode_to_what_was_encoded(raw: RawIngested, exposures_remembered: int) -> None:
    decoder = Decoder(registry=Registry({7: schema_text("raw_ingested")}), exposures_remembered=exposures_remembered)
    for _ in range(2):  # the second time over the fast path
        assert decoder.decode(encode(raw)) == raw
        assert decoder.decode(encode_confluent(raw, 7)) == raw


def test_the_wire_forms_are_the_published_ones() -> None:
    # Avro's specification gives this fingerprint for the schema "null"; fastavro must have it in the wire's byte order.
    from fastavro.schema import fingerprint  # noqa: PLC0415 - only this test looks at fastavro itself

    assert fingerprint('"null"', "CRC-64-AVRO") == 0x63DD24E7CC258F8A.to_bytes(8, "little").hex()
    assert encode(raw_of())[:10] == b"\xc3\x01" + RAW_INGESTED.fingerprint
    assert encode_confluent(raw_of(), 0x01020304)[:5] == b"\x00\x01\x02\x03\x04"
    assert encode(raw_of())[10:] == encode_confluent(raw_of(), 1)[5:]


def test_identity_stands_first_and_what_is_the_raws_own_last() -> None:
    names = [field["name"] for field in own_schema()["fields"]]
    assert names[:3] == ["instrument", "exposure", "detector"]
    assert names[-5:] == ["uri", "ingested_at", "wcs", "naxis1", "naxis2"]
    assert names[3] == "obs_id"
    assert names[-6] == "record_version"


def test_every_field_of_both_schemas_is_documented() -> None:
    for name in ("raw_ingested", "visit_defined"):
        for field in json.loads(schema_text(name))["fields"]:
            assert field["doc"].strip(), field["name"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, DeadLetterReason.EMPTY),
        (b"", DeadLetterReason.EMPTY),
        (b"\x01\x02\x03", DeadLetterReason.UNKNOWN_FRAMING),
        (b"\xc3\x02" + bytes(20), DeadLetterReason.UNKNOWN_FRAMING),
        (b"\xc3", DeadLetterReason.UNKNOWN_FRAMING),
        (b"\xc3\x01\x00", DeadLetterReason.UNDECODABLE),
        (b"\x00\x00", DeadLetterReason.UNDECODABLE),
        (b"\xc3\x01" + bytes(8), DeadLetterReason.UNKNOWN_FINGERPRINT),
        (encode_confluent(raw_of(), 7), DeadLetterReason.UNKNOWN_SCHEMA_ID),
        (b"\x00\xff\xff\xff\xff" + encode(raw_of())[10:], DeadLetterReason.UNKNOWN_SCHEMA_ID),
        (encode(raw_of())[:-1], DeadLetterReason.UNDECODABLE),
        (encode(raw_of()) + b"\x00", DeadLetterReason.UNDECODABLE),
        (encode(raw_of())[:10], DeadLetterReason.UNDECODABLE),
    ],
)
@pytest.mark.parametrize("warm", [False, True])
def test_broken_framing_is_refused_with_its_reason(
    value: bytes | None, reason: DeadLetterReason, *, warm: bool
) -> None:
    decoder = Decoder()
    if warm:
        decoder.decode(encode(raw_of()))
    assert refusal(decoder, value).reason is reason


def test_long_messages_are_refused_unread() -> None:
    value = encode(raw_of())
    assert Decoder(max_message_bytes=len(value)).decode(value) == raw_of()
    error = refusal(Decoder(max_message_bytes=len(value) - 1), value)
    assert error.reason is DeadLetterReason.TOO_LARGE
    assert str(len(value)) in error.detail


def test_a_bad_message_among_good_ones_changes_nothing_for_them() -> None:
    decoder = Decoder()
    for detector in range(3):
        assert decoder.decode(encode(raw_of(None, detector))) == raw_of(None, detector)
        assert refusal(decoder, b"\xff").reason is DeadLetterReason.UNKNOWN_FRAMING


def test_raws_of_an_exposure_share_one_exposure_object() -> None:
    decoder = Decoder()
    raws = [decoder.decode(encode(raw_of(exposure(n), detector))) for detector in range(205) for n in (1, 2)]
    assert len({id(raw.exposure) for raw in raws}) == 2
    with_wcs = decoder.decode(encode(raw_of(exposure(1), 5, wcs="CRVAL1", uri=None)))
    assert with_wcs.exposure is raws[0].exposure


def test_a_changed_record_is_never_taken_for_the_known_one() -> None:
    decoder = Decoder()
    decoder.decode(encode(raw_of(exposure(1))))
    changed = raw_of(exposure(1, record_version=1), 95)
    assert decoder.decode(encode(changed)) == changed


def test_the_memory_of_exposures_is_bounded() -> None:
    decoder = Decoder(exposures_remembered=3)
    kept = [decoder.decode(encode(raw_of(exposure(n)))).exposure for n in range(5)]
    again = [decoder.decode(encode(raw_of(exposure(n)))).exposure for n in (4, 3, 2)]
    assert [one is other for one, other in zip(again, (kept[4], kept[3], kept[2]), strict=True)] == [True] * 3
    assert decoder.decode(encode(raw_of(exposure(0)))).exposure is not kept[0]


def test_integers_written_long_do_not_mislead_later_events() -> None:
    # An integer may be written in more bytes than it needs. The address's union index here takes two.
    value = encode(raw_of())
    at = value.index(b"s3://") - 2
    assert value[at] == 2
    long_form = value[:at] + b"\x82\x00" + value[at + 1 :]
    decoder = Decoder()
    for _ in range(2):
        assert decoder.decode(long_form) == raw_of()
        assert decoder.decode(value) == raw_of()


# Other writer schemas


def test_added_removed_reordered_and_aliased_fields_keep_working() -> None:
    schema = own_schema()
    fields = [f for f in schema["fields"] if f["name"] not in ("dark_time", "naxis1", "record_version")]
    for field in fields:
        if field["name"] == "group":
            field["name"] = "group_name"  # as the Butler called it before its dimension universe 6
            del field["aliases"]
        if field["name"] == "exposure":
            field["type"] = "int"  # promoted
        if field["name"] == "exposure_time":
            field["type"] = ["null", "float"]
    added = {"name": "extra", "type": {"type": "array", "items": "string"}}
    schema["fields"] = [added, *reversed(fields), {"name": "program_number", "type": "long"}]
    record = record_of(raw_of(exposure(id=77)))
    record |= {"group_name": record["group"], "extra": ["a", "b"], "program_number": 5}
    value = encode_with(schema, record)
    decoder = Decoder(writer_schemas=[json.dumps(schema)])
    for _ in range(2):
        assert decoder.decode(value) == raw_of(exposure(id=77, dark_time=None), naxis1=None)
    assert refusal(Decoder(), value).reason is DeadLetterReason.UNKNOWN_FINGERPRINT
    for end in range(10, len(value)):
        assert refusal(decoder, value[:end]).reason is DeadLetterReason.UNDECODABLE, end


def changed_type(name: str, new: Any) -> dict[str, Any]:
    schema = own_schema()
    for field in schema["fields"]:
        if field["name"] == name:
            field["type"] = new
            field.pop("default", None)
    return schema


@pytest.mark.parametrize(
    ("schema", "changes"),
    [
        (changed_type("exposure", "string"), {"exposure": "x"}),
        (changed_type("tracking_ra", ["null", "string"]), {"tracking_ra": "10h"}),
        (own_schema() | {"fields": own_schema()["fields"][1:]}, {}),
        (own_schema() | {"name": "SomethingElse"}, {}),
    ],
    ids=["other type", "other branch", "no instrument", "other record"],
)
def test_incompatible_writer_schemas_are_told_apart_from_broken_bytes(
    schema: dict[str, Any], changes: dict[str, Any]
) -> None:
    schema = schema | {"namespace": "other"}
    value = encode_with(schema, record_of(raw_of()) | changes)
    error = refusal(Decoder(writer_schemas=[json.dumps(schema)]), value)
    assert error.reason is DeadLetterReason.INCOMPATIBLE_SCHEMA
    for name in changes:
        assert f"field {name}: " in error.detail


@pytest.mark.parametrize("named", ["Angle", "One"])
def test_a_field_whose_type_another_field_defines_is_refused_like_others(named: str) -> None:
    angle = {"type": "record", "name": named, "fields": [{"name": "degrees", "type": "double"}]}
    schema = changed_type("tracking_ra", named) | {"namespace": "other"}
    schema["fields"].insert(0, {"name": "shape", "type": angle})
    record = record_of(raw_of()) | {"shape": {"degrees": 1.0}, "tracking_ra": {"degrees": 2.0}}
    error = refusal(Decoder(writer_schemas=[json.dumps(schema)]), encode_with(schema, record))
    assert error.reason is DeadLetterReason.INCOMPATIBLE_SCHEMA


@pytest.mark.parametrize(
    ("name", "logical"),
    [
        ("timespan_begin", "timestamp-micros"),
        ("timespan_end", "timestamp-millis"),
        ("timespan_end", "local-timestamp-nanos"),
        ("ingested_at", "timestamp-millis"),
        ("ingested_at", "timestamp-nanos"),
        ("day_obs", "date"),
        ("exposure", "timestamp-nanos"),
    ],
)
def test_a_logical_type_of_another_unit_is_refused(name: str, logical: str) -> None:
    kind = "int" if logical == "date" else "long"
    beside = changed_type(name, ["null", kind])
    (field,) = (each for each in beside["fields"] if each["name"] == name)
    field["logicalType"] = logical
    for schema in (changed_type(name, ["null", {"type": kind, "logicalType": logical}]), beside):
        with pytest.raises(
            BadMessageError, match=f"its field {name} is {logical}, where ours is .*: the unit is anoth"
        ):
            parse_writer_schema(json.dumps(schema))


@pytest.mark.parametrize(
    ("name", "new"),
    [
        ("timespan_begin", ["null", {"type": "long", "logicalType": "timestamp-nanos"}]),
        ("ingested_at", ["null", "long"]),
        ("obs_id", {"type": "string", "logicalType": "uuid"}),
    ],
)
def test_a_logical_type_of_our_unit_is_read(name: str, new: Any) -> None:
    schema = changed_type(name, new)
    value = encode_with(schema, record_of(raw_of()))
    assert Decoder(writer_schemas=[json.dumps(schema)]).decode(value) == raw_of()


def test_an_unusable_known_schema_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="raw-ingested"):
        Decoder(writer_schemas=['{"type": "record"}'])


# The registry


def test_the_registry_is_asked_once_for_each_schema() -> None:
    registry = Registry({7: schema_text("raw_ingested"), 8: json.dumps(changed_type("ingested_at", ["long", "null"]))})
    decoder = Decoder(registry=registry)
    for _ in range(2):
        decoder.decode(encode_confluent(raw_of(), 7))
        other = parse_writer_schema(registry.schemas[8])
        body = encode_record(record_of(raw_of()), other)[10:]
        assert decoder.decode(b"\x00\x00\x00\x00\x08" + body) == raw_of()
    assert registry.asked == [7, 8]


def test_an_id_unknown_to_the_registry_is_a_dead_letter_and_is_asked_again() -> None:
    registry = Registry({})
    decoder = Decoder(registry=registry)
    assert refusal(decoder, encode_confluent(raw_of(), 7)).reason is DeadLetterReason.UNKNOWN_SCHEMA_ID
    registry.schemas[7] = schema_text("raw_ingested")
    assert decoder.decode(encode_confluent(raw_of(), 7)) == raw_of()


def test_an_outage_of_the_registry_stalls_and_is_no_dead_letter() -> None:
    registry = Registry({7: schema_text("raw_ingested")})
    registry.ill = True
    decoder = Decoder(registry=registry)
    with pytest.raises(TransientError):
        decoder.decode(encode_confluent(raw_of(), 7))
    registry.ill = False
    assert decoder.decode(encode_confluent(raw_of(), 7)) == raw_of()


def test_a_registered_schema_that_is_no_avro_is_incompatible_each_time() -> None:
    registry = Registry({7: 'syntax = "proto3";', 8: '{"$schema": "http://json-schema.org/", "type": "object"}'})
    decoder = Decoder(registry=registry)
    for schema_id in (7, 8, 7, 8):
        error = refusal(decoder, encode_confluent(raw_of(), schema_id))
        assert error.reason is DeadLetterReason.INCOMPATIBLE_SCHEMA
        assert str(schema_id) in error.detail
    assert registry.asked == [7, 8]
