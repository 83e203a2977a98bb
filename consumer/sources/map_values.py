"""Named conversions of header maps: from what a card holds to what a field is."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final
from zoneinfo import ZoneInfo

import astropy.units as u
from astropy.coordinates import Angle
from astropy.time import Time

from consumer.events.validation import shown
from consumer.sources.header_map import UNITS, Kind, MappedField
from consumer.sources.observation import quiet_astropy, tai_ns

_BOOLEANS: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("t", "true", "yes", "1"), True),
    **dict.fromkeys(("f", "false", "no", "0"), False),
}
_DAY: Final = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)(?:T.*)?")
_LEAST_AIRMASS: Final = 0.99
"""Formulas for the airmass give a little less than 1 at the zenith."""


def to_kind(value: Any, source: MappedField, kind: Kind, name: str) -> Any:
    """Convert a card's value to a field's kind and unit.

    Raises
    ------
    ValueError
        The value cannot be converted; says what to write in the map.
    """
    match kind:
        case "text":
            return _text(value)
        case "integer":
            return _day(_dated(_text(value), source)) if name == "day_obs" else _whole(_linear(value, source))
        case "boolean":
            return _boolean(value)
        case "number" | "seconds":
            factor = 1.0 if source.unit is None else float(u.Unit(source.unit).to(UNITS[kind]))
            return _number(value) * factor * source.scale + source.offset
        case "angle":
            return _angle(value, source, name)
        case "time":
            raise TypeError("times are read by read_time")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(
            f"{shown(value)} is no number: take a part of it with pattern, or a number for it with map"
        ) from None
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError(f"{shown(value)} is no number")
    return number


def _linear(value: Any, source: MappedField) -> Any:
    if source.scale == 1.0 and source.offset == 0.0:
        return value
    return _number(value) * source.scale + source.offset


def _whole(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"\s*[-+]?\d{1,19}\s*", value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise ValueError(f"{shown(value)} is no whole number: take digits (digits: true), a part (pattern), or use map")


def _day(value: str) -> int:
    found = _DAY.fullmatch(value)
    if found is None:
        advice = "write its date_format, or take a part with pattern"
        raise ValueError(f"{shown(value)} is no day: it must be YYYYMMDD or YYYY-MM-DD; {advice}")
    return int("".join(found.groups()))


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    try:
        return _BOOLEANS[_text(value).casefold()]
    except KeyError:
        raise ValueError(f"{shown(value)} is neither true nor false: say with map which it means") from None


def _angle(value: Any, source: MappedField, name: str) -> float:
    unit = u.Unit(source.unit or "deg")
    if isinstance(value, str):
        if name == "tracking_ra" and source.unit is None and ":" in value:
            raise ValueError(f"{shown(value)} has colons: write unit: hourangle (or unit: deg, if it is in degrees)")
        try:
            degrees = float(Angle(value.strip(), unit=unit).to_value(u.deg))
        except ValueError as error:
            raise ValueError(f"{shown(value)} is no angle: {error}") from error
    elif source.convert == "airmass":
        degrees = _number(value)
    else:
        degrees = _number(value) * float(unit.to(u.deg))
    if source.convert == "airmass":
        if degrees < _LEAST_AIRMASS:
            raise ValueError(f"{shown(value)} is no airmass: it must be at least 1")
        degrees = math.degrees(math.acos(min(1.0 / degrees, 1.0)))
    elif source.convert == "elevation":
        degrees = 90.0 - min(degrees, 90.0)
    degrees = degrees * source.scale + source.offset
    if source.wrap is not None:
        degrees = (degrees + source.wrap) % 360.0 - source.wrap % 360
    return degrees


def read_time(value: Any, source: MappedField, clock: Any, scale: str) -> int:
    """Convert a date, with its time of day in ``clock`` where that is not None, to TAI nanoseconds.

    Raises
    ------
    ValueError
        The value is no time; says what to write in the map.
    """
    form = source.format or ("iso" if isinstance(value, str) else None)
    if form is None:
        raise ValueError(f"{shown(value)} is a number: write format: mjd, jd or unix")
    with quiet_astropy():
        if form == "iso":
            time = _iso_time(value, source, clock, scale)
        else:
            time = Time(_number(value), format=form, scale="utc" if form == "unix" else scale)
        if source.time_zone is not None:
            offset = time.to_datetime().replace(tzinfo=ZoneInfo(source.time_zone)).utcoffset() or timedelta()
            time = time - offset.total_seconds() * u.s
        return tai_ns(time - source.utc_offset_h * u.hour)


def _iso_time(value: Any, source: MappedField, clock: Any, scale: str) -> Time:
    text = _dated(_text(value), source).removesuffix("Z").replace(" ", "T").replace("/", "-")
    text = text if clock is None else f"{text[:10]}T{_text(clock).removesuffix('Z')}"
    if "T" not in text:
        raise ValueError(f"{shown(value)} has no time of day: name the keyword that has it as time_keyword")
    try:
        return Time(text, format="isot", scale=scale)
    except ValueError as error:
        raise ValueError(f"{shown(text)} is no time such as 2025-11-22T03:26:01.475") from error


def _dated(text: str, source: MappedField) -> str:
    """Return a date in ISO's form."""
    if source.date_format is None:
        return text
    try:
        return datetime.strptime(text, source.date_format).isoformat()  # noqa: DTZ007  # the map says which clock
    except ValueError as error:
        raise ValueError(f"{shown(text)} is no date of the form date_format, {source.date_format}") from error


def day_of(begin_ns: int, source: MappedField) -> int:
    """Return the observing day, YYYYMMDD, that a time (TAI nanoseconds) belongs to.

    The day begins at ``day_begins_h`` of the clock of ``time_zone``, or of UTC with ``utc_offset_h``.
    """
    with quiet_astropy():
        utc = Time(begin_ns / 1e9, format="unix_tai").utc.to_datetime(timezone=UTC)
    zone = timezone(timedelta(hours=source.utc_offset_h)) if source.time_zone is None else ZoneInfo(source.time_zone)
    local: datetime = utc.astimezone(zone) - timedelta(hours=source.day_begins_h)
    return int(local.strftime("%Y%m%d"))
