"""Hostile Avro: lengths of 2^60, a million nested items, schemas that explode. Refused fast and without memory."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from consumer.errors import BadMessageError, DeadLetterReason
from consumer.events import RAW_INGESTED, Decoder, encode, parse_writer_schema, record_of
from consumer.events.record_check import MAX_DEPTH
from tests.support.raws import encode_with, own_schema, raw_of, refusal

pytestmark = pytest.mark.timeout(60)


def varint(number: int) -> bytes:
    """Encode an Avro long."""
    number = number << 1 if number >= 0 else (-number << 1) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def schema_with(*added: dict[str, Any]) -> dict[str, Any]:
    schema = own_schema()
    schema["fields"] += added
    return schema


ARRAY = schema_with({"name": "items", "type": {"type": "array", "items": "long"}})
TEXT = schema_with({"name": "note", "type": "string"})
MAP = schema_with({"name": "notes", "type": {"type": "map", "values": "null"}})
FIXED = schema_with({"name": "blob", "type": {"type": "fixed", "name": "Blob", "size": 2**40}})
HEADER = RAW_INGESTED.single_object_header


def foreign(schema: dict[str, Any], tail: bytes) -> bytes:
    empty = {"items": [], "note": "", "notes": {}}
    name = schema["fields"][-1]["name"]
    if name == "blob":
        return parse_writer_schema(json.dumps(schema)).single_object_header + encode(raw_of())[10:] + tail
    return encode_with(schema, record_of(raw_of()) | {name: empty[name]})[:-1] + tail


def hostile_values() -> Iterator[bytes]:
    start = encode(raw_of())[: -len(encode(raw_of())) + 10]
    for length in (2**60, 2**62, -(2**60), -1, 2**31):
        yield start + varint(length)  # instrument
        yield start + varint(length) + b"x" * 1000
        for schema in (ARRAY, TEXT, MAP):
            yield foreign(schema, varint(length) + b"\x00" * 1000)
            yield foreign(schema, varint(length))
    yield foreign(ARRAY, varint(-(2**60)) + varint(2**60) + b"\x02" * 1000)
    yield foreign(FIXED, b"x" * 1000)
    yield start + b"\xff" * 1_000_000
    yield foreign(ARRAY, b"\xff" * 1_000_000)
    yield foreign(ARRAY, varint(1_000_000) + b"\x02" * 900_000)


def test_hostile_lengths_are_refused_in_bounded_memory() -> None:
    # In a process of its own, whose address space may grow by 64 MB at most after everything is loaded.
    program = """
import resource, sys, time
from tests.unit.events import test_hostile as t
values = list(t.hostile_values())
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 64 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
decoder = t.Decoder(writer_schemas=[t.json.dumps(s) for s in (t.ARRAY, t.TEXT, t.MAP, t.FIXED)])
began = time.monotonic()
for value in values:
    error = t.refusal(decoder, value)
    assert error.reason is t.DeadLetterReason.UNDECODABLE, (error.reason, error.detail, value[:40])
    assert "MemoryError" not in error.detail, error.detail
    assert len(error.detail) < 300, error.detail
assert time.monotonic() - began < 10
print(len(values))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(list(hostile_values()))


def test_a_million_items_within_the_message_are_skipped_without_being_kept() -> None:
    decoder = Decoder(writer_schemas=[json.dumps(ARRAY)])
    value = foreign(ARRAY, varint(900_000) + b"\x02" * 900_000 + b"\x00")
    assert decoder.decode(value) == raw_of()


RECURSIVE = schema_with({"name": "list", "type": ["null", {"type": "record", "name": "Link", "fields": []}]})
RECURSIVE["fields"][-1]["type"][1]["fields"].append({"name": "next", "type": ["null", "Link"]})


def test_an_extra_field_that_contains_itself_is_skipped_as_deep_as_is_reasonable() -> None:
    decoder = Decoder(writer_schemas=[json.dumps(RECURSIVE)])
    start = parse_writer_schema(json.dumps(RECURSIVE)).single_object_header + encode(raw_of())[10:]
    for links in (0, 1, MAX_DEPTH - 1):
        assert decoder.decode(start + b"\x02" * links + b"\x00") == raw_of()
    for links in (MAX_DEPTH, 1000, 900_000):
        error = refusal(decoder, start + b"\x02" * links + b"\x00")
        assert error.reason is DeadLetterReason.UNDECODABLE
        assert error.detail == f"the record cannot be read: field list: it is nested deeper than {MAX_DEPTH} levels"


@pytest.mark.parametrize("field", ["exposure", "detector", "seq_num", "group_size", "record_version", "timespan_begin"])
@pytest.mark.parametrize("extra", [ARRAY, None])
def test_integers_of_more_bits_than_their_type_are_refused_and_not_wrapped(
    field: str, extra: dict[str, Any] | None
) -> None:
    """2^70 + 64 wraps to 64; 2^31 fits a long, and no int."""
    narrow = field in {"detector", "group_size", "record_version"}
    schema = own_schema() if extra is None else extra
    decoder = Decoder(writer_schemas=[json.dumps(schema)])
    marker = 0x55555555 if narrow else 0x5555555555555555
    record = record_of(raw_of()) | {field: marker} | ({} if extra is None else {"items": []})
    value = encode_with(schema, record)
    assert value.count(varint(marker)) == 1
    for wide in (2**31, 2**40) if narrow else ():
        assert "bits" in refusal(decoder, value.replace(varint(marker), varint(wide))).detail
    for wide in (2**63, 2**70 + 64, 2**200):
        error = refusal(decoder, value.replace(varint(marker), varint(wide)))
        assert error.reason is DeadLetterReason.UNDECODABLE
        assert error.detail.startswith(f"the record cannot be read: field {field}: an integer of more than ")


def nested(levels: int) -> Any:
    node: Any = "long"
    for _ in range(levels):
        node = {"type": "array", "items": node}
    return node


def exploding(levels: int) -> dict[str, Any]:
    inner: Any = {"type": "record", "name": "R0", "fields": []}
    for level in range(1, levels + 1):
        fields = [{"name": "a", "type": inner}, *({"name": f"b{n}", "type": f"R{level - 1}"} for n in range(9))]
        inner = {"type": "record", "name": f"R{level}", "fields": fields}
    return {"name": "bomb", "type": inner}


WIDE = {
    "type": "record",
    "name": "Wide",
    "fields": [{"name": "n", "type": "long"}, *({"name": f"f{i}", "type": "null"} for i in range(200))],
}


@pytest.mark.parametrize(
    "added",
    [
        {"name": "nulls", "type": {"type": "array", "items": "null"}},
        {"name": "empties", "type": {"type": "array", "items": {"type": "record", "name": "E", "fields": []}}},
        {"name": "fixed", "type": {"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}}},
        {"name": "deep", "type": nested(MAX_DEPTH + 1)},
        {"name": "deeper", "type": nested(100_000 // 250)},
        exploding(12),
        {"name": "wide", "type": {"type": "array", "items": WIDE}},
        {"name": "wide", "type": {"type": "map", "values": WIDE}},
        {"name": "odd", "type": {"type": "array"}},
        {"name": "odd", "type": 5},
        {"name": "odd"},
        {"name": "odd", "type": "no.such.type"},
    ],
    ids=lambda added: added["name"],
)
def test_schemas_that_make_readers_work_without_end_are_refused(added: dict[str, Any]) -> None:
    with pytest.raises(BadMessageError) as caught:
        parse_writer_schema(json.dumps(schema_with(added)))
    assert caught.value.reason is DeadLetterReason.INCOMPATIBLE_SCHEMA
    assert len(caught.value.detail) < 250


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "5",
        '"string"',
        '["null", "string"]',
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"type": "record", "name": "R", "fields": 5, "__fastavro_parsed": true, "__named_schemas": {}}',
        '{"type": "enum", "name": "E", "symbols": ["A"]}',
        '{"type": "record", "name": "R", "fields": [], "doc": "' + "x" * 300_000 + '"}',
        '{"type": {"type": "record", "name": "R", "fields": []}}',
    ],
    ids=range(12),
)
def test_what_is_no_schema_of_a_record_is_refused(text: str) -> None:
    with pytest.raises(BadMessageError) as caught:
        parse_writer_schema(text)
    assert caught.value.reason is DeadLetterReason.INCOMPATIBLE_SCHEMA


def test_schemas_within_the_bounds_pass() -> None:
    for added in (
        {"name": "deep", "type": nested(MAX_DEPTH - 4)},
        {"name": "map", "type": {"type": "map", "values": "null"}},
        exploding(2),
    ):
        parse_writer_schema(json.dumps(schema_with(added)))
    assert refusal(Decoder(), HEADER).reason is DeadLetterReason.UNDECODABLE
