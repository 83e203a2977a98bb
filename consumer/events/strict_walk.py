"""Walks over the bytes of a record by its writer's schema, and refuses what a strict Avro reader refuses.

fastavro was not made for hostile input: an integer of more than 64 bits wraps (exposure 2^70 becomes exposure 64), a
text of 2^60 bytes is skipped as if it were there, and nested records overflow its stack. So each record is walked over
before fastavro reads it: integers fit their type, everything ends within the message, nothing is nested deeper than
`MAX_DEPTH`.

Source: https://avro.apache.org/docs/1.12.0/specification/#binary-encoding
"""

from collections.abc import Callable
from typing import Any

MAX_DEPTH = 32
"""Levels of nesting, of a schema and of a record that contains itself."""

Walk = Callable[[bytes, int, int], int]
"""Message, start of a value and depth to the end of the value; raises ValueError."""

_LAST_BYTE = 0x7F
_NAMED_RECORDS = ("record", "error")


class StrictWalk:
    """Knows the fields of one writer's schema.

    Parameters
    ----------
    parsed
        A record as `fastavro.schema.parse_schema` returns it.
    """

    def __init__(self, parsed: Any) -> None:
        self._named: dict[str, Walk] = {}
        self._named[parsed["name"]] = self._record
        self._fields = [(field["name"], self._walk(field["type"])) for field in parsed["fields"]]

    def ends(self, value: bytes, start: int) -> list[int]:
        """Return where each field ends.

        Raises
        ------
        ValueError
            If the bytes are no record of the schema; the text names the field.
        """
        ends, at = [], start
        for name, walk in self._fields:
            try:
                at = walk(value, at, 1)
            except IndexError:
                raise ValueError(f"field {name}: the message ends within it") from None
            except ValueError as error:
                raise ValueError(f"field {name}: {error}") from None
            if at > len(value):
                raise ValueError(f"field {name}: the message ends within it")
            ends.append(at)
        return ends

    def _record(self, value: bytes, at: int, depth: int) -> int:
        for _, walk in self._fields:
            at = walk(value, at, _deeper(depth))
        return at

    def _walk(self, schema: Any) -> Walk:  # noqa: PLR0911 - one for each kind of type
        if isinstance(schema, list):
            return self._union([self._walk(branch) for branch in schema])
        if isinstance(schema, str):
            # A record that is named within itself is not complete yet.
            return _PRIMITIVE.get(schema) or (lambda *place: self._named[schema](*place))  # noqa: PLW0108 - later
        kind = schema["type"]
        if kind in _NAMED_RECORDS:
            return self._nested(schema)
        if kind == "array":
            return _blocks(self._walk(schema["items"]))
        if kind == "map":
            item = self._walk(schema["values"])
            return _blocks(lambda value, at, depth: item(value, _text(value, at, depth), depth))
        if kind == "fixed":
            size = schema["size"]
            self._named[schema["name"]] = lambda value, at, depth: at + size  # noqa: ARG005 - a Walk
        elif kind == "enum":
            self._named[schema["name"]] = _index(len(schema["symbols"]))
        else:
            return self._walk(kind)
        return self._named[schema["name"]]

    def _nested(self, schema: Any) -> Walk:
        fields: list[Walk] = []

        def walk(value: bytes, at: int, depth: int) -> int:
            deeper = _deeper(depth)
            for field in fields:
                at = field(value, at, deeper)
            return at

        self._named[schema["name"]] = walk
        fields.extend(self._walk(field["type"]) for field in schema["fields"])
        return walk

    @staticmethod
    def _union(branches: list[Walk]) -> Walk:
        def walk(value: bytes, at: int, depth: int) -> int:
            number, at = _integer(value, at, 32)
            if not 0 <= number < len(branches):
                raise ValueError(f"branch {number} of a union of {len(branches)}")
            return branches[number](value, at, depth)

        return walk


def _deeper(depth: int) -> int:
    if depth >= MAX_DEPTH:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")
    return depth + 1


def _integer(value: bytes, at: int, bits: int) -> tuple[int, int]:
    """Read a variable-length integer of so many bits, and where it ends."""
    byte = value[at]
    at += 1
    number, shift = byte & _LAST_BYTE, 7
    while byte > _LAST_BYTE:
        if shift >= bits:
            raise ValueError(f"an integer of more than {bits} bits")
        byte = value[at]
        at += 1
        number |= (byte & _LAST_BYTE) << shift
        shift += 7
    if number >> bits:
        raise ValueError(f"an integer of more than {bits} bits")
    return number >> 1 ^ -(number & 1), at


def _text(value: bytes, at: int, depth: int) -> int:  # noqa: ARG001 - a Walk
    length, at = _integer(value, at, 64)
    if not 0 <= length <= len(value) - at:
        raise ValueError(f"{length} bytes of text in a message that has {len(value) - at} left")
    return at + length


def _index(limit: int) -> Walk:
    def walk(value: bytes, at: int, depth: int) -> int:  # noqa: ARG001 - a Walk
        number, at = _integer(value, at, 32)
        if not 0 <= number < limit:
            raise ValueError(f"symbol {number} of an enumeration of {limit}")
        return at

    return walk


def _boolean(value: bytes, at: int, depth: int) -> int:  # noqa: ARG001 - a Walk
    if value[at] > 1:
        raise ValueError(f"byte {value[at]} for true or false")
    return at + 1


def _blocks(item: Walk) -> Walk:
    """Walk over the blocks of an array or a map; a negative count comes with the block's length in bytes."""

    def walk(value: bytes, at: int, depth: int) -> int:
        deeper = _deeper(depth)
        while True:
            count, at = _integer(value, at, 64)
            if count == 0:
                return at
            end = None
            if count < 0:
                length, at = _integer(value, at, 64)
                end = at + length
            if abs(count) > len(value) - at:
                raise ValueError(f"{abs(count)} items in a message that has {len(value) - at} bytes left")
            for _ in range(abs(count)):
                at = item(value, at, deeper)
            if end is not None and at != end:
                raise ValueError("a block of items ends elsewhere than it says")

    return walk


_PRIMITIVE: dict[str, Walk] = {
    "null": lambda value, at, depth: at,  # noqa: ARG005 - a Walk
    "boolean": _boolean,
    "int": lambda value, at, depth: _integer(value, at, 32)[1],  # noqa: ARG005 - a Walk
    "long": lambda value, at, depth: _integer(value, at, 64)[1],  # noqa: ARG005 - a Walk
    "float": lambda value, at, depth: at + 4,  # noqa: ARG005 - a Walk
    "double": lambda value, at, depth: at + 8,  # noqa: ARG005 - a Walk
    "bytes": _text,
    "string": _text,
}
