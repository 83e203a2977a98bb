"""Avro schemas that events were written with: read from text, bounded, and compared with ours.

The name of its record says which of our events a schema is a version of: ``ExposureIngested``, in any namespace, or
else ``RawIngested``.

A schema from a registry is input like any other, and an Avro reader does what a schema says. So a schema is refused
here, before any event is read with it, when a short event could make its reader work or recurse without end:

* arrays and maps of items that need not take a byte (2^60 nulls are ten bytes long);
* more fields than `MAX_NODES` once names are expanded (ten records, each holding the next one ten times, are few
  bytes of schema and 10^10 fields), more than `MAX_ITEM_NODES` in an array's or map's item, or too deep a nesting.

With these bounds a reader's work is bounded by the size of the event, which `~consumer.events.Decoder` limits. A record
that contains itself is bounded by `consumer.events.record_check`.

A logical type that contradicts ours is refused too: microseconds for our nanoseconds would be visits in 1970.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from fastavro.schema import SchemaParseException, UnknownType, fingerprint, parse_schema, to_parsing_canonical_form

from consumer.errors import BadMessageError, DeadLetterReason
from consumer.events.record_check import MAX_DEPTH, RecordCheck
from consumer.events.schema_files import schema_text
from consumer.events.validation import shown
from consumer.model import EXPOSURE_FIELDS

MAX_SCHEMA_TEXT = 262_144
"""Characters of a schema; ours has 5,000."""
MAX_NODES = 2_000
"""Fields, union branches and items of a schema with its names expanded; ours has 60."""
MAX_ITEM_NODES = 100
"""The same, of one item of an array or map."""
_NAMED_RECORDS = ("record", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterSchema:
    """One schema that events are written with."""

    parsed: Any
    """As fastavro takes it, without logical types."""
    canonical: str
    """Avro's Parsing Canonical Form: equal form, equal bytes."""
    fingerprint: bytes
    """CRC-64-AVRO of the canonical form, 8 bytes, in the byte order of single-object encoding (little-endian)."""
    check: RecordCheck = field(compare=False, repr=False)
    """Checks a record's bytes before fastavro reads them."""

    @property
    def name(self) -> str:
        """Name of its record, without a namespace."""
        return str(self.parsed["name"]).rpartition(".")[2]

    @property
    def of_exposures(self) -> bool:
        """Whether its events are of whole exposures, and not of single raws."""
        return self.name == "ExposureIngested"

    @property
    def single_object_header(self) -> bytes:
        """The first 10 bytes of an event in Avro single-object encoding."""
        return b"\xc3\x01" + self.fingerprint


def parse_writer_schema(text: str) -> WriterSchema:
    """Parse and bound a schema.

    Parameters
    ----------
    text
        Avro schema as JSON.

    Raises
    ------
    BadMessageError
        ``INCOMPATIBLE_SCHEMA``: it is no Avro schema of a record, or it is refused for the reasons above.
    """
    if len(text) > MAX_SCHEMA_TEXT:
        raise _refused(f"it has {len(text)} characters, the limit is {MAX_SCHEMA_TEXT}")
    try:
        # A logical type would turn a time into a datetime, which overflows and is slow; the form does not name them.
        document = json.loads(text)
        parsed = parse_schema(_without_logical_types(document, depth=0))
        if not isinstance(parsed, dict) or parsed.get("type") != "record":
            raise _refused("it is not a record")
        _refuse_other_units(document["fields"])
        _Bounds().check(parsed)
        canonical = to_parsing_canonical_form(parsed)
    except (
        SchemaParseException,
        UnknownType,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise _refused(f"{type(error).__name__}: {shown(str(error))}") from error
    # fastavro writes this fingerprint in the byte order of the wire.
    return WriterSchema(
        parsed=parsed,
        canonical=canonical,
        fingerprint=bytes.fromhex(fingerprint(canonical, "CRC-64-AVRO")),
        check=RecordCheck(parsed),
    )


def _refused(why: str) -> BadMessageError:
    return BadMessageError(DeadLetterReason.INCOMPATIBLE_SCHEMA, f"the writer's schema is refused: {why}")


_LOGICAL = {"ingested_at": "timestamp-micros", "timespan_begin": "timestamp-nanos", "timespan_end": "timestamp-nanos"}
"""What a field of ours may be called besides a plain number."""
_OF_TIME = ("date", "time", "timestamp", "local-timestamp", "duration", "decimal")
_OUR_FIELDS = frozenset(
    {*EXPOSURE_FIELDS, "exposure", "detector", "ingested_at", "naxis1", "naxis2", "detectors", "expected_detectors"}
)


def _refuse_other_units(fields: list[dict[str, Any]]) -> None:
    """Refuse a logical type that gives one of our fields another unit."""
    for each in fields:
        names = {each["name"], *each.get("aliases", ())} & _OUR_FIELDS
        # Avro ignores a logical type that stands beside the field's type, but its writer meant it.
        branches = [each, *(each["type"] if isinstance(each["type"], list) else [each["type"]])]
        given = {str(branch.get("logicalType", "")) for branch in branches if isinstance(branch, dict)}
        for logical in sorted(given):
            if names and logical.startswith(_OF_TIME) and logical != _LOGICAL.get(min(names)):
                ours = _LOGICAL.get(min(names), "a plain number")
                raise _refused(f"its field {each['name']} is {logical}, where ours is {ours}: the unit is another")


def _without_logical_types(node: Any, depth: int) -> Any:
    if depth > 2 * MAX_DEPTH:  # a level of schema is at most two levels of JSON
        raise _refused(f"it is nested deeper than {MAX_DEPTH} levels")
    if isinstance(node, dict):
        # Names with two underscores are fastavro's own marks: with them a schema would pass as parsed already.
        kept = ((k, v) for k, v in node.items() if k != "logicalType" and not k.startswith("__"))
        return {k: _without_logical_types(v, depth + 1) for k, v in kept}
    if isinstance(node, list):
        return [_without_logical_types(v, depth + 1) for v in node]
    return node


@dataclass(frozen=True, slots=True)
class _Extent:
    nodes: int
    """How many values a reader handles for one value of this type, items of arrays and maps counted once."""
    empty: bool
    """Whether a value of this type may take no byte at all."""


class _Bounds:
    """Measures a parsed schema; each named type once, so that expanding the names costs nothing."""

    def __init__(self) -> None:
        self._named: dict[str, _Extent | None] = {}

    def check(self, schema: Any) -> None:
        """Refuse a schema that is out of bounds."""
        if (nodes := self._extent(schema, 0).nodes) > MAX_NODES:
            raise _refused(f"it has {nodes} fields with its names expanded, the limit is {MAX_NODES}")

    def _extent(self, schema: Any, depth: int) -> _Extent:
        if depth > MAX_DEPTH:
            raise _refused(f"it is nested deeper than {MAX_DEPTH} levels")
        if isinstance(schema, list):
            branches = [self._extent(branch, depth + 1) for branch in schema]
            return _Extent(1 + max((b.nodes for b in branches), default=0), empty=False)
        if isinstance(schema, str):
            return self._by_name(schema)
        kind = schema["type"]
        if kind in ("array", "map"):
            return self._items(schema["items" if kind == "array" else "values"], kind, depth)
        if kind in _NAMED_RECORDS:
            return self._record(schema, depth)
        if kind == "fixed":
            extent = _Extent(1, empty=schema["size"] <= 0)
        elif kind == "enum":
            extent = _Extent(1, empty=False)
        else:
            return self._extent(kind, depth + 1)
        self._named[schema["name"]] = extent
        return extent

    def _by_name(self, name: str) -> _Extent:
        if name not in self._named:
            return _Extent(1, empty=name == "null")
        # None is a record that contains itself: how often is bounded by the message, and not by the schema.
        return self._named[name] or _Extent(1, empty=False)

    def _record(self, schema: Any, depth: int) -> _Extent:
        self._named[schema["name"]] = None  # being measured
        fields = [self._extent(field["type"], depth + 1) for field in schema["fields"]]
        extent = _Extent(1 + sum(f.nodes for f in fields), empty=all(f.empty for f in fields))
        self._named[schema["name"]] = extent
        return extent

    def _items(self, items: Any, kind: str, depth: int) -> _Extent:
        item = self._extent(items, depth + 1)
        # A map's item takes a byte at least, for its key.
        if item.empty and kind == "array":
            raise _refused("it has an array whose items may take no byte")
        if item.nodes > MAX_ITEM_NODES:
            raise _refused(f"an item of its {kind} has {item.nodes} fields, the limit is {MAX_ITEM_NODES}")
        return _Extent(1 + item.nodes, empty=False)


def section(schema: WriterSchema, first: str, last: str) -> Any:
    """Cut consecutive fields out of a schema: a record's encoding is that of its fields, one after the other.

    Returns
    -------
    parsed
        A record of these fields, as fastavro takes it.
    """
    names = [field["name"] for field in schema.parsed["fields"]]
    fields = schema.parsed["fields"][names.index(first) : names.index(last) + 1]
    return parse_schema({"type": "record", "name": f"From_{first}_to_{last}", "fields": fields})


RAW_INGESTED = parse_writer_schema(schema_text("raw_ingested"))
"""Our own schema of ``raw-ingested`` events."""
EXPOSURE_INGESTED = parse_writer_schema(schema_text("exposure_ingested"))
"""Our own schema of ``exposure-ingested`` events."""
VISIT_DEFINED = parse_writer_schema(schema_text("visit_defined"))
"""Our own schema of ``visit-defined`` events."""
RAW_REJECTED = parse_writer_schema(schema_text("raw_rejected"))
"""Our own schema of rejected objects."""
