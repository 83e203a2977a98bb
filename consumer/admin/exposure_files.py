"""Exposures from JSON: an array, or one object a line, with the event's field names."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from consumer.errors import BadMessageError
from consumer.events import exposure_from_json, raw_from_fields
from consumer.model import Exposure, RawIngested
from consumer.task.define import DefineError


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposureList:
    """What a file of exposures holds."""

    exposures: tuple[Exposure, ...]
    """In the file's order, copies included."""
    raws: tuple[RawIngested, ...]
    """Of the entries that are raws with a WCS of their own."""


def parse_exposures(text: str, *, instrument: str, source: str) -> ExposureList:
    """Read exposures.

    Parameters
    ----------
    text
        A JSON array of objects, or JSON lines. An object has the event's fields, ``id`` or ``exposure`` for the id.
        Whole events may stand there too, one for each raw.
    instrument
        Of all of them; an object need not repeat it.
    source
        Name of the file, for errors.

    Raises
    ------
    DefineError
        When the text is not JSON, or an object is no exposure of this instrument; names its place.
    """
    exposures: list[Exposure] = []
    raws: list[RawIngested] = []
    for place, document in _documents(text, source):
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
    return ExposureList(exposures=tuple(exposures), raws=tuple(raws))


def _documents(text: str, source: str) -> Iterator[tuple[str, Any]]:  # JSON
    """Yield each entry with its place."""
    if text.lstrip().startswith("["):
        entries = _parsed(text, source)
        yield from ((f"{source}, entry {number}", entry) for number, entry in enumerate(entries, start=1))
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            place = f"{source}, line {number}"
            yield place, _parsed(line, place)


def _parsed(text: str, place: str) -> Any:  # JSON
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DefineError(f"{place}: not JSON: {error}") from error
