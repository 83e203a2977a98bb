"""Corrections of exposure records as data: which exposures, what is changed, and under which record version.

The format is documented in ``docs/how-to/bring-your-own-camera.md``.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from consumer.errors import ConfigurationError
from consumer.events.validation import INT32_MAX
from consumer.model import EXPOSURE_FIELDS
from consumer.sources.data_files import DataPart, list_data_files, parse_data

FORMAT: Final = "visit-consumer-corrections/1"
_IDENTITY: Final = frozenset({"instrument", "id", "record_version"})
_CORRECTABLE: Final = frozenset(EXPOSURE_FIELDS) - _IDENTITY


def _ranges(value: object) -> object:
    """Read ``5``, ``5-9`` or a list of such as inclusive ranges."""
    read = []
    for item in value if isinstance(value, list) else [value]:
        first, dash, last = str(item).partition("-")
        if not first.strip().isdecimal() or (dash and not last.strip().isdecimal()):
            raise ValueError(f"{item!r} is no range: write 5, 5-9 or a list of such")
        read.append((int(first), int(last or first)))
        if read[-1][0] > read[-1][1]:
            raise ValueError(f"{item!r} ends before it begins")
    return tuple(read)


_Ranges = Annotated[tuple[tuple[int, int], ...], BeforeValidator(_ranges)]
_Value = bool | int | float | str | None


class _Correction(DataPart):
    """One entry."""

    days: _Ranges | None = None
    sequences: _Ranges | None = None
    exposures: _Ranges | None = None
    where: Mapping[str, _Value] = {}
    set: Mapping[str, _Value] = {}
    add: Mapping[str, float] = {}
    wrap: Literal[180, 360] | None = None
    version: Annotated[int, Field(ge=1, le=INT32_MAX)] = 1
    reason: str | None = None

    @model_validator(mode="after")
    def _useful(self) -> Self:
        if self.days is None and self.exposures is None:
            raise ValueError("names no exposures: write days (with or without sequences), or exposures")
        if not self.set and not self.add:
            raise ValueError("changes nothing: write set or add")
        if unknown := sorted({*self.where, *self.set, *self.add} - _CORRECTABLE):
            raise ValueError(f"{unknown[0]} is no field that can be corrected: {', '.join(sorted(_CORRECTABLE))}")
        return self

    def applies(self, record: Mapping[str, Any]) -> bool:
        return (
            _within(record["day_obs"], self.days)
            and _within(record["seq_num"], self.sequences)
            and _within(record["id"], self.exposures)
            and all(record[field] == value for field, value in self.where.items())
        )

    def apply(self, record: dict[str, Any]) -> list[str]:
        """Change a record; return the fields that were changed."""
        changed = dict(self.set)
        for field, amount in self.add.items():
            if record[field] is not None:
                total = record[field] + amount
                changed[field] = total if self.wrap is None else (total + self.wrap) % 360.0 - self.wrap % 360
        record.update(changed)
        return list(changed)


class _CorrectionFile(DataPart):
    format: Literal["visit-consumer-corrections/1"]
    instrument: Annotated[str, Field(min_length=1)]
    note: object = None
    corrections: list[_Correction]


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrected:
    """A record after its corrections."""

    record: Mapping[str, Any]
    origins: Mapping[str, str]
    """Fields that were changed, and the entry that changed each last."""


class Corrections:
    """All corrections, by instrument, in the order in which they apply.

    Parameters
    ----------
    paths
        Files, or folders of files, after those that the package ships.

    Raises
    ------
    ConfigurationError
        If a file cannot be read or is no such file; names the file and the key.
    """

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        self._entries: dict[str, list[tuple[str, _Correction]]] = {}
        for name, file in (*_shipped(), *((path.name, _parsed(path)) for path in list_data_files(paths))):
            entries = self._entries.setdefault(file.instrument, [])
            entries += [(f"{name}[{number}]", entry) for number, entry in enumerate(file.corrections)]

    def apply(self, record: Mapping[str, Any]) -> Corrected:
        """Return a record as corrected: ``record_version`` becomes the highest version of the entries that apply."""
        result, origins = dict(record), dict[str, str]()
        for origin, entry in self._entries.get(record["instrument"], ()):
            if entry.applies(result):
                origins |= dict.fromkeys(entry.apply(result), f"correction {origin}")
                result["record_version"] = max(result["record_version"], entry.version)
        return Corrected(record=result, origins=origins)


def _within(value: int | None, ranges: Sequence[tuple[int, int]] | None) -> bool:
    return ranges is None or (value is not None and any(first <= value <= last for first, last in ranges))


def _parsed(path: Path) -> _CorrectionFile:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"corrections {path}: cannot be read: {error}") from error
    return parse_data(_CorrectionFile, text, f"corrections {path}")


@cache
def _shipped() -> tuple[tuple[str, _CorrectionFile], ...]:
    """Return the files of the package."""
    folder = resources.files("consumer.sources").joinpath("data", "corrections")
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".yaml")), key=lambda e: e.name)
    return tuple((e.name, parse_data(_CorrectionFile, e.read_text("utf-8"), f"corrections {e.name}")) for e in files)
