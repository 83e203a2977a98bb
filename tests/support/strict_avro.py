"""A strict reader of Avro's binary encoding, written from the specification alone: the oracle of the fuzzing."""

import json
import struct
from collections.abc import Callable
from typing import Any

from consumer.events import schema_text


def strict_fields(body: bytes, schema: str = "raw_ingested") -> dict[str, Any]:  # noqa: C901 - one page, from the specification
    """Read one event of a schema of ours without framing; raises ValueError for what a strict reader refuses."""
    rest = memoryview(body)

    def take(count: int) -> bytes:
        nonlocal rest
        if not 0 <= count <= len(rest):
            raise ValueError("the bytes end")
        taken, rest = bytes(rest[:count]), rest[count:]
        return taken

    def integer(bits: int) -> int:
        number = shift = 0
        while True:
            (byte,) = take(1)
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift >= bits:
                raise ValueError("too long")
        if number >= 1 << bits:
            raise ValueError("too large")
        return -((number + 1) // 2) if number % 2 else number // 2

    def value(kind: Any) -> Any:
        if isinstance(kind, list):
            branch = integer(32)
            if not 0 <= branch < len(kind):
                raise ValueError("no such branch")
            return value(kind[branch])
        if isinstance(kind, dict):
            return array(kind["items"]) if kind["type"] == "array" else value(kind["type"])
        if kind == "boolean":
            (byte,) = take(1)
            if byte > 1:
                raise ValueError("neither true nor false")
            return byte == 1
        readers: dict[str, Callable[[], Any]] = {
            "null": lambda: None,
            "int": lambda: integer(32),
            "long": lambda: integer(64),
            "float": lambda: struct.unpack("<f", take(4))[0],
            "double": lambda: struct.unpack("<d", take(8))[0],
            "string": lambda: take(integer(64)).decode(),
        }
        return readers[kind]()

    def array(items: Any) -> list[Any]:
        found: list[Any] = []
        while count := integer(64):
            length = integer(64) if count < 0 else None
            before = len(rest)
            found.extend(value(items) for _ in range(abs(count)))
            if length is not None and before - len(rest) != length:
                raise ValueError("a block of another length")
        return found

    fields = {each["name"]: value(each["type"]) for each in json.loads(schema_text(schema))["fields"]}
    if rest:
        raise ValueError("more bytes than the record has")
    return fields
