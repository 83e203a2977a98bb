"""Header maps: data files that describe how the headers of an instrument become exposure records.

A header map holds no code: keywords with fallbacks, units, defaults, enumerations and a few named conversions. The
format is documented in ``docs/how-to/bring-your-own-camera.md``.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Final, Literal, Self
from zoneinfo import ZoneInfo

import astropy.units as u
from pydantic import BeforeValidator, Field, model_validator

from consumer.config.keys import suggestion
from consumer.errors import ConfigurationError
from consumer.regions import find_or_load
from consumer.sources.data_files import DataPart, list_data_files, parse_data
from consumer.sources.model import Header

Kind = Literal["integer", "text", "seconds", "angle", "boolean", "time", "number"]

KINDS: Final[Mapping[str, Kind]] = {
    "exposure": "integer",
    "obs_id": "text",
    "day_obs": "integer",
    "group": "text",
    "physical_filter": "text",
    "exposure_time": "seconds",
    "dark_time": "seconds",
    "observation_type": "text",
    "observation_reason": "text",
    "seq_num": "integer",
    "seq_start": "integer",
    "seq_end": "integer",
    "target_name": "text",
    "science_program": "text",
    "tracking_ra": "angle",
    "tracking_dec": "angle",
    "tracking_frame": "text",
    "tracking_equinox": "number",
    "sky_angle": "angle",
    "azimuth": "angle",
    "zenith_angle": "angle",
    "has_simulated": "boolean",
    "can_see_sky": "boolean",
    "timespan_begin": "time",
    "timespan_end": "time",
    "group_size": "integer",
    "detector": "integer",
    "detector_name": "text",
}
"""What a map can describe, and of what kind each is."""
_REQUIRED: Final = ("exposure", "day_obs", "timespan_begin")
_WAYS: Final = ("keyword", "file_name", "value", "field", "template", "join", "sum", "any_of", "day_of")
_OF_KIND: Final[Mapping[str, tuple[Kind, ...]]] = {
    "unit": ("seconds", "angle"),
    "convert": ("angle",),
    "wrap": ("angle",),
    "format": ("time",),
    "time_scale": ("time",),
    "time_scale_keyword": ("time",),
    "time_keyword": ("time",),
    "plus": ("time",),
}
"""Keys that mean something for fields of some kinds only."""
UNITS: Final[Mapping[str, u.UnitBase]] = {"seconds": u.s, "angle": u.deg}
"""What fields of these kinds are in."""

Scalar = bool | int | float | str | None


def _as_source(value: object) -> object:
    """Take a keyword, or a list of keywords, for a source that reads it."""
    return {"keyword": value} if isinstance(value, str | list) else value


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str | bool | int | float) else value


def _pattern(value: object) -> object:
    if isinstance(value, str):
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from error
    return value


def _unit(value: object) -> object:
    try:
        u.Unit(value)
    except (ValueError, TypeError) as error:
        raise ValueError("is no unit: write for example s, ms, min, deg, hourangle, rad, arcsec") from error
    return value


def _zone(value: object) -> object:
    try:
        ZoneInfo(str(value))
    except (OSError, ValueError, KeyError) as error:
        raise ValueError("is no time zone: write one such as America/Santiago, or utc_offset_h") from error
    return value


_Pattern = Annotated[str, BeforeValidator(_pattern)]
_Texts = Annotated[tuple[str, ...], BeforeValidator(_as_list), Field(min_length=1)]
Conditions = Mapping[str, Annotated[tuple[Scalar, ...], BeforeValidator(_as_list)]]
"""Keyword to the values that it may have; upper and lower case are the same."""


class MappedField(DataPart):
    """Where the value of one field comes from (one of the first nine keys), and what becomes of it."""

    keyword: _Texts | None = None
    file_name: _Pattern | None = None
    value: Scalar = None
    field: str | None = None
    template: str | None = None
    join: tuple["Source", ...] | None = None
    sum: tuple["Source", ...] | None = None
    any_of: tuple["Source", ...] | None = None
    day_of: Literal["timespan_begin", "timespan_end"] | None = None

    when: Conditions = Field(default_factory=dict)
    pattern: _Pattern | None = None
    digits: bool = False
    case: Literal["lower", "upper"] | None = None
    map: Mapping[str, Scalar] | None = None
    otherwise: Scalar = None
    default: Scalar = None
    separator: str = "~"
    skip: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = ()
    unit: Annotated[str, BeforeValidator(_unit)] | None = None
    convert: Literal["elevation", "airmass"] | None = None
    scale: float = 1.0
    offset: float = 0.0
    wrap: Literal[180, 360] | None = None
    format: Literal["iso", "mjd", "jd", "unix"] | None = None
    date_format: str | None = None
    time_scale: Literal["utc", "tai", "tt", "tdb", "tcb", "tcg", "ut1"] = "utc"
    time_scale_keyword: str | None = None
    time_keyword: str | None = None
    time_zone: Annotated[str, BeforeValidator(_zone)] | None = None
    utc_offset_h: Annotated[float, Field(ge=-24, le=24)] = 0.0
    day_begins_h: Annotated[float, Field(ge=-24, le=24)] = 0.0
    plus: Literal["exposure_time", "dark_time"] | None = None
    times: float = 1.0

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        ways = [way for way in _WAYS if way in self.model_fields_set]
        if len(ways) != 1 and not (not ways and "default" in self.model_fields_set):
            got = " and ".join(ways) or "none"
            raise ValueError(f"write one of {', '.join(_WAYS)}; there is {got}")
        if "otherwise" in self.model_fields_set and self.map is None:
            raise ValueError("otherwise stands beside map: it is for values that map does not list")
        if self.template is not None:
            try:
                names = [name for _, name, _, _ in Formatter().parse(self.template) if name is not None]
            except ValueError as error:
                raise ValueError(f"template: {error}") from error
            if not all(re.fullmatch(r"[A-Za-z_][\w-]*", name) for name in names):
                raise ValueError("template: write names of fields or keywords between braces: {day_obs}{seq_num:05}")
        return self

    def check(self, name: str, kind: Kind) -> None:
        """Refuse keys that mean nothing for a field of this kind, and units of something else."""
        for key, kinds in _OF_KIND.items():
            if key in self.model_fields_set and kind not in kinds:
                raise ValueError(f"fields.{name}: {key} is for fields of the kind {' or '.join(kinds)}, not {kind}")
        if self.unit is not None and not u.Unit(self.unit).is_equivalent(UNITS[kind]):
            raise ValueError(f"fields.{name}: {self.unit} is no unit of {kind}")
        if self.day_of is not None and name != "day_obs":
            raise ValueError(f"fields.{name}: day_of is for day_obs")
        if self.convert is not None and name != "zenith_angle":
            raise ValueError(f"fields.{name}: convert is for zenith_angle")
        if self.field is not None and self.field not in KINDS:
            raise ValueError(f"fields.{name}: there is no field {self.field!r}{suggestion(self.field, KINDS)}")
        for each in (*(self.any_of or ()), *(self.sum or ())):
            each.check(name, kind)


Source = Annotated[MappedField, BeforeValidator(_as_source)]
"""A `MappedField`, a keyword, or a list of keywords of which the first that has a value counts."""


class _HeaderMapFile(DataPart):
    """A whole file."""

    format: Literal["visit-consumer-header-map/1"]
    instrument: Annotated[str, Field(min_length=1, max_length=64)]
    note: object = None
    camera: str | None = None
    match: Annotated[Conditions, Field(min_length=1)]
    fields: Mapping[str, Source]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name, source in self.fields.items():
            if name not in KINDS:
                raise ValueError(f"fields.{name}: no exposure has such a field{suggestion(name, KINDS)}")
            source.check(name, KINDS[name])
        if missing := [name for name in _REQUIRED if name not in self.fields]:
            raise ValueError(f"fields.{missing[0]} is missing: every exposure has one")
        if {"detector", "detector_name"} <= self.fields.keys():
            raise ValueError("fields has detector (an id) and detector_name (a name in the camera): keep one")
        if "detector_name" in self.fields and self.camera is None:
            raise ValueError("camera is missing: detector_name needs a camera file that has the names")
        if ("tracking_ra" in self.fields) != ("tracking_dec" in self.fields):
            raise ValueError("tracking_ra and tracking_dec go together")
        return self


class HeaderMap:
    """The header map of one instrument.

    Parameters
    ----------
    text
        Of the file.
    source
        The file's name, for messages.
    folder
        Where a relative path of a camera file starts.

    Raises
    ------
    ConfigurationError
        If the text is no header map, or its camera cannot be read; names the file and the key.
    """

    def __init__(self, text: str, source: str, folder: Path) -> None:
        file = parse_data(_HeaderMapFile, text, f"header map {source}")
        self.instrument = file.instrument
        self.fields: Mapping[str, MappedField] = file.fields
        self._match = file.match
        self.detector_ids: Mapping[str, int] = {}
        if file.camera is not None:
            beside = folder / file.camera
            camera = find_or_load(str(beside.absolute()) if file.camera.endswith(".json") else file.camera)
            self.detector_ids = {detector.name: detector.id for detector in camera.detectors}

    def matches(self, header: Header) -> bool:
        """Whether a header is of this instrument."""
        return holds(self._match, header)


def load_header_maps(paths: Iterable[Path]) -> tuple[HeaderMap, ...]:
    """Read header maps from files and folders.

    Raises
    ------
    ConfigurationError
        If one cannot be read or is wrong; names the file and the key.
    """
    maps = []
    for path in list_data_files(paths):
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"header map {path}: cannot be read: {error}") from error
        if "visit-consumer-camera/" not in text[:4096]:  # camera files may stand beside their maps
            maps.append(HeaderMap(text, str(path), path.parent))
    return tuple(maps)


def holds(conditions: Conditions, header: Mapping[str, Any]) -> bool:
    """Whether each keyword has one of its values."""
    return all(
        any(card_text(header.get(keyword)) == card_text(value) for value in values)
        for keyword, values in conditions.items()
    )


def card_text(value: object) -> str | None:
    """Return a value as it is compared: without case and blanks around, and whole numbers without a point."""
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip().casefold()
