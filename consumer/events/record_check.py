"""Checks the bytes of a record against its writer's schema, and refuses what a strict Avro reader refuses.

fastavro was not made for hostile input: an integer of more than 64 bits wraps (exposure 2^70 becomes exposure 64), a
text of 2^60 bytes is skipped as if it were there, and nested records overflow its stack. So each record is checked
before fastavro reads it: integers fit their type, everything ends within the message, nothing is nested deeper than
`MAX_DEPTH`.

Source: https://avro.apache.org/docs/1.12.0/specification/#binary-encoding
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

MAX_DEPTH = 32
"""Levels of nesting, of a schema and of a record that contains itself."""

Check = Callable[[bytes, int, int], int]
"""Takes a message, the start of a value and its depth; returns where the value ends, or raises ValueError."""

_LAST_BYTE = 0x7F
_MOST_AT_ONCE = 4096
_NAMED_RECORDS = ("record", "error")


class RecordCheck:
    """Knows the fields of one writer's schema.

    Parameters
    ----------
    parsed
        A record as `fastavro.schema.parse_schema` returns it.
    """

    def __init__(self, parsed: Any) -> None:
        self._named: dict[str, Check] = {}
        self._named[parsed["name"]] = self._record
        self._fields = [(field["name"], self._check_of(field["type"])) for field in parsed["fields"]]

    def field_ends(self, value: bytes, start: int) -> list[int]:
        """Return where each field ends.

        Raises
        ------
        ValueError
            If the bytes are no record of the schema; the text names the field.
        """
        ends, at = [], start
        for name, check in self._fields:
            try:
                at = check(value, at, 1)
            except IndexError:
                raise ValueError(f"field {name}: the message ends within it") from None
            except ValueError as error:
                raise ValueError(f"field {name}: {error}") from None
            if at > len(value):
                raise ValueError(f"field {name}: the message ends within it")
            ends.append(at)
        return ends

    def _record(self, value: bytes, at: int, depth: int) -> int:
        for _, check in self._fields:
            at = check(value, at, _deeper(depth))
        return at

    def _check_of(self, schema: Any) -> Check:  # noqa: PLR0911 - one for each kind of type
        if isinstance(schema, list):
            return self._union([self._check_of(branch) for branch in schema])
        if isinstance(schema, str):
            # A record that is named within itself is not complete yet.
            return _PRIMITIVE.get(schema) or (lambda *place: self._named[schema](*place))  # noqa: PLW0108 - later
        kind = schema["type"]
        if kind in _NAMED_RECORDS:
            return self._nested(schema)
        if kind == "array":
            return _blocks(self._check_of(schema["items"]))
        if kind == "map":
            item = self._check_of(schema["values"])
            return _blocks(lambda value, at, depth: item(value, _text(value, at, depth), depth))
        if kind == "fixed":
            size = schema["size"]
            self._named[schema["name"]] = lambda value, at, depth: at + size  # noqa: ARG005 - a Check
        elif kind == "enum":
            self._named[schema["name"]] = _index(len(schema["symbols"]))
        else:
            return self._check_of(kind)
        return self._named[schema["name"]]

    def _nested(self, schema: Any) -> Check:
        fields: list[Check] = []

        def check(value: bytes, at: int, depth: int) -> int:
            deeper = _deeper(depth)
            for field in fields:
                at = field(value, at, deeper)
            return at

        self._named[schema["name"]] = check
        fields.extend(self._check_of(field["type"]) for field in schema["fields"])
        return check

    @staticmethod
    def _union(branches: list[Check]) -> Check:
        def check(value: bytes, at: int, depth: int) -> int:
            number, at = _integer(value, at, 32)
            if not 0 <= number < len(branches):
                raise ValueError(f"branch {number} of a union of {len(branches)}")
            return branches[number](value, at, depth)

        return check


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


def _text(value: bytes, at: int, depth: int) -> int:  # noqa: ARG001 - a Check
    length, at = _integer(value, at, 64)
    if not 0 <= length <= len(value) - at:
        raise ValueError(f"{length} bytes of text in a message that has {len(value) - at} left")
    return at + length


def _index(limit: int) -> Check:
    def check(value: bytes, at: int, depth: int) -> int:  # noqa: ARG001 - a Check
        number, at = _integer(value, at, 32)
        if not 0 <= number < limit:
            raise ValueError(f"symbol {number} of an enumeration of {limit}")
        return at

    return check


def _boolean(value: bytes, at: int, depth: int) -> int:  # noqa: ARG001 - a Check
    if value[at] > 1:
        raise ValueError(f"byte {value[at]} for true or false")
    return at + 1


@lru_cache(maxsize=1024)
def _short_integers(count: int) -> re.Pattern[bytes]:
    """Match so many integers of at most four bytes, which fit an int: the ids of an exposure's detectors, at once."""
    return re.compile(rb"(?:[\x80-\xff]{0,3}[\x00-\x7f]){%d}" % count)


def _blocks(item: Check) -> Check:
    """Check the blocks of an array or a map; a negative count comes with the block's length in bytes."""

    def check(value: bytes, at: int, depth: int) -> int:
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
            few = item in _INTEGERS and abs(count) <= _MOST_AT_ONCE
            short = _short_integers(abs(count)).match(value, at) if few else None
            if short is not None:
                at = short.end()
            else:
                for _ in range(abs(count)):
                    at = item(value, at, deeper)
            if end is not None and at != end:
                raise ValueError("a block of items ends elsewhere than it says")

    return check


_PRIMITIVE: dict[str, Check] = {
    "null": lambda value, at, depth: at,  # noqa: ARG005 - a Check
    "boolean": _boolean,
    "int": lambda value, at, depth: _integer(value, at, 32)[1],  # noqa: ARG005 - a Check
    "long": lambda value, at, depth: _integer(value, at, 64)[1],  # noqa: ARG005 - a Check
    "float": lambda value, at, depth: at + 4,  # noqa: ARG005 - a Check
    "double": lambda value, at, depth: at + 8,  # noqa: ARG005 - a Check
    "bytes": _text,
    "string": _text,
}
_INTEGERS = (_PRIMITIVE["int"], _PRIMITIVE["long"])
