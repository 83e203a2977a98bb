"""Exposures from JSON (an array, or one object a line) or CSV, with the event's field names."""

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, get_type_hints

from consumer.errors import BadMessageError
from consumer.events import exposure_from_json, raw_from_fields
from consumer.model import Exposure, RawIngested
from consumer.task.define import DefineError

_COLUMN_TYPES = {"exposure": "int", "detector": "int"} | {
    name: getattr(kind, "__name__", str(kind)) for name, kind in get_type_hints(Exposure).items()
}
"""Of the columns of CSV, where they are not texts: ``int``, ``float | None``, ..."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposureList:
    """What a file of exposures holds."""

    exposures: tuple[Exposure, ...]
    """In the file's order, copies included."""
    raws: tuple[RawIngested, ...]
    """Of the entries that are raws with a WCS of their own."""
    names: frozenset[str] = frozenset()
    """Names of the values that an entry has; what no entry has is unknown rather than null."""


def parse_exposures(text: str, *, instrument: str, source: str) -> ExposureList:
    """Read exposures.

    Parameters
    ----------
    text
        A JSON array of objects, JSON lines, or CSV with a header line, in which an empty value is null. An object has
        the event's fields, ``id`` or ``exposure`` for the id. Whole events may stand there too, one for each raw.
    instrument
        Of all of them; an object need not repeat it.
    source
        Name of the file, for errors.

    Raises
    ------
    DefineError
        When the text is none of these, or an object is no exposure of this instrument; names its place.
    """
    return exposures_of(_documents(text, source), instrument=instrument)


def exposures_of(documents: Iterable[tuple[str, Any]], *, instrument: str) -> ExposureList:  # JSON
    """Make exposures of entries, each with its place; as `parse_exposures`."""
    exposures: list[Exposure] = []
    raws: list[RawIngested] = []
    names: set[str] = set()
    for place, document in documents:
        if not isinstance(document, dict):
            raise DefineError(f"{place}: an exposure is a JSON object, not {type(document).__name__}")
        try:
            exposure = exposure_from_json({"instrument": instrument} | document)
            if document.get("wcs") is not None and document.get("detector") is not None:
                raws.append(raw_from_fields(exposure, document))
        except BadMessageError as error:
            raise DefineError(f"{place}: {error.detail}") from error
        if exposure.instrument != instrument:
            raise DefineError(f"{place}: the exposure is of {exposure.instrument}; all must be of {instrument}")
        exposures.append(exposure)
        names |= document.keys()
    return ExposureList(exposures=tuple(exposures), raws=tuple(raws), names=frozenset(names))


def _documents(text: str, source: str) -> Iterator[tuple[str, Any]]:  # JSON
    """Yield each entry with its place."""
    if text.lstrip().startswith("["):
        entries = _parsed(text, source)
        yield from ((f"{source}, entry {number}", entry) for number, entry in enumerate(entries, start=1))
        return
    if text.lstrip()[:1] not in ("{", ""):
        yield from _csv_documents(text, source)
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            place = f"{source}, line {number}"
            yield place, _parsed(line, place)


def _csv_documents(text: str, source: str) -> Iterator[tuple[str, dict[str, Any]]]:  # JSON
    """Yield each line of CSV with its place, values as the event's types."""
    reader = csv.DictReader(text.splitlines())
    names = set(reader.fieldnames or ())
    if not names & {"id", "exposure"}:
        raise DefineError(f"{source}: neither JSON nor CSV with a column id or exposure")
    for row in reader:
        place = f"{source}, line {reader.line_num}"
        if None in row or None in row.values():
            raise DefineError(f"{place}: not as many values as the header has columns")
        try:
            yield place, {name: _csv_value(name, value) for name, value in row.items() if value}
        except ValueError as error:
            raise DefineError(f"{place}: {error}") from error


def _csv_value(name: str, value: str) -> object:
    """Read one value of CSV; raises ValueError where it is not of its column's type."""
    kind = _COLUMN_TYPES.get(name, "str")
    try:
        if "bool" in kind:
            return {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}[value.lower()]
        if "int" in kind:
            return int(value)
        return float(value) if "float" in kind else value
    except (ValueError, KeyError) as error:
        raise ValueError(f"{name}: {value[:80]!r} is no {kind.partition(' ')[0]}") from error


def typed_value(name: str, value: object) -> object:
    """Return a value of a typed table. A whole number among floats, as some of the column are null, is an int.

    Raises
    ------
    ValueError
        When it is not of its column's type.
    """
    if isinstance(value, float) and "int" in _COLUMN_TYPES.get(name, "str"):
        if not value.is_integer():
            raise ValueError(f"{name}: {value} is no int")
        return int(value)
    return value


def _parsed(text: str, place: str) -> Any:  # JSON
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DefineError(f"{place}: not JSON: {error}") from error
