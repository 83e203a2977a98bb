"""Reads one header through a header map: each field's value, and where it came from."""

import re
from collections.abc import Mapping
from string import Formatter
from typing import Any, Final

import astropy.units as u
from astropy.coordinates import FK4, FK5, ICRS, BaseCoordinateFrame, Galactic, SkyCoord
from astropy.time import Time

from consumer.events.validation import shown
from consumer.model import EXPOSURE_FIELDS
from consumer.sources.header_map import KINDS, HeaderMap, Kind, MappedField, card_text, holds
from consumer.sources.map_values import day_of, read_time, to_kind
from consumer.sources.model import FILE_NAME, HeaderError, RejectReason
from consumer.sources.observation import quiet_astropy

_FROM_EVENT: Final = {"id": "exposure"}
"""Fields of the record that have another name in the event, and so in maps."""


class MapEvaluation:
    """The fields of one header.

    Parameters
    ----------
    header_map
        That matches it.
    header
        Keyword to value; `FILE_NAME` stands for the name of the file.
    """

    def __init__(self, header_map: HeaderMap, header: Mapping[str, Any]) -> None:
        self._map = header_map
        self._header = header
        self._values: dict[str, Any] = {}
        self._open: list[str] = []
        self._origins: dict[str, list[str]] = {}

    def exposure(self) -> dict[str, Any]:
        """Return the fields of the exposure's record; not checked.

        Raises
        ------
        HeaderError
            A field that every exposure has is missing, or a value cannot be converted.
        """
        names = {name: _FROM_EVENT.get(name, name) for name in EXPOSURE_FIELDS}
        record = {name: self.get(own) for name, own in names.items() if own in KINDS}
        record |= {"instrument": self._map.instrument, "record_version": 0}
        for name in ("exposure", "day_obs", "timespan_begin"):
            if self._values[name] is None:
                detail = ", ".join(self._origins.get(name, [])) or "its source has no value"
                raise HeaderError(RejectReason.MISSING_KEYWORD, f"{name}: {detail}")
        self._fill(record)
        if record["tracking_ra"] is not None and record["tracking_dec"] is not None:
            record["tracking_ra"], record["tracking_dec"] = self._icrs(record["tracking_ra"], record["tracking_dec"])
        return record

    def detector(self) -> int | str | None:
        """Return the detector's id, or its name in the camera; None where the map has neither."""
        name = "detector" if "detector" in self._map.fields else "detector_name"
        value: int | str | None = self.get(name)
        if value is None and name in self._map.fields:
            raise HeaderError(RejectReason.MISSING_KEYWORD, f"{name}: {self.origin(name)}")
        return value

    def origin(self, name: str) -> str:
        """Describe where a field of the record came from."""
        name = _FROM_EVENT.get(name, name)
        if name == "instrument":
            return "header map"
        if name == "detector" and name not in self._map.fields:
            name = "detector_name"
        self.get(name)
        if name in self._origins:
            return ", ".join(self._origins[name])
        return _DEFAULTS.get(name, "not in the header map")

    def get(self, name: str) -> Any:  # the field's type
        """Return a field's value, or None."""
        if name in self._values or name not in self._map.fields:
            return self._values.setdefault(name, None)
        if name in self._open:
            raise _wrong(f"{name}: fields refer to each other in a circle: {' -> '.join([*self._open, name])}")
        self._open.append(name)
        try:
            value = self._read(self._map.fields[name], KINDS[name], name)
        finally:
            self._open.pop()
        self._values[name] = value
        return value

    def _read(self, source: MappedField, kind: Kind, name: str) -> Any:
        """Return what a source gives, in the field's type, else its default."""
        found = self._found(source, kind, name) if holds(source.when, self._header) else None
        if found is None:
            if "default" not in source.model_fields_set:
                return None
            self._note(name, "default")
            found = source.default
            if found is None:
                return None
            source = MappedField(value=found)
        elif source.any_of is not None:
            return found
        elif source.field is not None and kind == "time":
            return self._shifted(found, source, name)
        try:
            if kind == "time" and source.day_of is None:
                return self._shifted(self._time(found, source, name), source, name)
            return to_kind(found, source, kind, name)
        except ValueError as error:
            raise _wrong(f"{name}: {', '.join(self._origins.get(name, []))}: {error}") from error

    def _found(self, source: MappedField, kind: Kind, name: str) -> Any:
        """Return the value before it is converted; None where there is none."""
        if source.any_of is not None:
            values = (self._read(each, kind, name) for each in source.any_of)
            return next((value for value in values if value is not None), None)
        value = self._raw(source, name)
        if value is None:
            return None
        if source.pattern is not None:
            value = self._part(source.pattern, value, name)
        if source.digits:
            value = re.sub(r"\D", "", str(value)) or None
        if value is not None and source.case is not None:
            value = str(value).lower() if source.case == "lower" else str(value).upper()
        return self._mapped(source, value, name)

    def _raw(self, source: MappedField, name: str) -> Any:  # noqa: PLR0911  # one for each way
        """Return what the one way of a source gives."""
        if source.keyword is not None:
            return self._card(source.keyword, name)
        if source.file_name is not None:
            self._note(name, "name of the file")
            return self._part(source.file_name, self._header.get(FILE_NAME, ""), name)
        if source.field is not None:
            self._note(name, f"field {source.field}")
            return self.get(source.field)
        if source.template is not None:
            return self._filled(source.template, name)
        if source.join is not None:
            texts = [self._read(each, "text", name) for each in source.join]
            skipped = {each.casefold() for each in source.skip}
            return source.separator.join(t for t in texts if t and t.casefold() not in skipped) or None
        if source.sum is not None:
            numbers = [
                self._read(each, "integer" if KINDS[name] == "integer" else "number", name) for each in source.sum
            ]
            return None if None in numbers else sum(numbers)
        if source.day_of is not None:
            begin = self.get(source.day_of)
            self._note(name, f"day of {source.day_of}")
            return None if begin is None else day_of(begin, source)
        if "value" in source.model_fields_set:
            self._note(name, "value of the header map")
        return source.value

    def _card(self, keywords: tuple[str, ...], name: str) -> Any:
        for place, keyword in enumerate(keywords):
            value = self._header.get(keyword)
            if value is not None and not (isinstance(value, str) and not value.strip()):
                self._note(name, keyword if place == 0 else f"{keyword} (fallback, {keywords[0]} is missing)")
                return value
        self._note(name, f"{', '.join(keywords)} is missing")
        return None

    def _part(self, pattern: str, value: Any, name: str) -> Any:
        found = re.search(pattern, str(value))
        if found is None:
            raise _wrong(f"{name}: {', '.join(self._origins[name])} is {shown(value)}, where {pattern!r} finds nothing")
        return found[1] if found.re.groups else found[0]

    def _mapped(self, source: MappedField, value: Any, name: str) -> Any:
        if source.map is None or value is None:
            return value
        by_text = {card_text(key): mapped for key, mapped in source.map.items()}
        if card_text(value) in by_text:
            return by_text[card_text(value)]
        if "otherwise" in source.model_fields_set:
            self._note(name, "otherwise")
            return source.otherwise
        known = ", ".join(source.map)
        raise _wrong(
            f"{name}: {', '.join(self._origins[name])} is {shown(value)}, which map does not list ({known}): add it, "
            "or write otherwise"
        )

    def _filled(self, template: str, name: str) -> str | None:
        parts = []
        for text, key, form, _ in Formatter().parse(template):
            parts.append(text)
            if key is None:
                continue
            value = self.get(key) if key in KINDS else self._card((key,), name)
            if key in KINDS:
                self._note(name, f"field {key}")
            if value is None:
                return None
            if form and isinstance(value, str) and value.strip().isdecimal():
                value = int(value)
            try:
                parts.append(format(value, form or ""))
            except ValueError as error:
                raise _wrong(f"{name}: template {template!r}: {key} is {shown(value)}: {error}") from error
        return "".join(parts)

    def _time(self, value: Any, source: MappedField, name: str) -> int:
        clock = None if source.time_keyword is None else self._card((source.time_keyword,), name)
        scale: str = source.time_scale
        if source.time_scale_keyword is not None:
            scale = str(self._header.get(source.time_scale_keyword) or scale).strip().lower()
            self._note(name, source.time_scale_keyword)
            if scale not in Time.SCALES or scale == "local":
                raise ValueError(f"{source.time_scale_keyword} is {scale!r}, and no time scale")
        return read_time(value, source, clock, scale)

    def _shifted(self, time_ns: int, source: MappedField, name: str) -> int | None:
        if source.plus is None:
            return time_ns
        seconds = self.get(source.plus)
        self._note(name, f"field {source.plus}")
        return None if seconds is None else time_ns + round(seconds * source.times * 1e9)

    def _fill(self, record: dict[str, Any]) -> None:
        """Derive what the map does not mention."""
        for name in ("obs_id", "group"):
            if record[name] is None:
                record[name] = str(record["id"])
        for name in ("seq_start", "seq_end"):
            if record[name] is None:
                record[name] = record["seq_num"]
        if record["timespan_end"] is None and record["exposure_time"] is not None:
            record["timespan_end"] = record["timespan_begin"] + round(record["exposure_time"] * 1e9)
        if record["timespan_end"] is not None:
            record["timespan_end"] = max(record["timespan_begin"], record["timespan_end"])

    def _icrs(self, ra_deg: float, dec_deg: float) -> tuple[float, float]:
        name = str(self.get("tracking_frame") or "ICRS").strip().upper()
        equinox = self.get("tracking_equinox")
        frames: dict[str, BaseCoordinateFrame] = {"ICRS": ICRS(), "GALACTIC": Galactic()}
        frames |= {"FK5": FK5(equinox=Time(equinox or 2000.0, format="jyear"))}
        frames |= {"FK4": FK4(equinox=Time(equinox or 1950.0, format="byear"))}
        if name not in frames:
            raise _wrong(
                f"tracking_frame: {self.origin('tracking_frame')} is {name!r}, and none of {', '.join(frames)}"
            )
        if name == "ICRS":
            return ra_deg % 360.0, dec_deg
        try:
            with quiet_astropy():
                icrs = SkyCoord(ra_deg * u.deg, dec_deg * u.deg, frame=frames[name]).icrs
        except ValueError as error:
            raise _wrong(f"tracking_dec: {', '.join(self._origins['tracking_dec'])}: {error}") from error
        return float(icrs.ra.deg), float(icrs.dec.deg)

    def _note(self, name: str, origin: str) -> None:
        notes = self._origins.setdefault(name, [])
        if origin not in notes:
            notes.append(origin)


_DEFAULTS: Final = {
    "obs_id": "default: the exposure's id",
    "group": "default: the exposure's id",
    "seq_start": "default: seq_num",
    "seq_end": "default: seq_num",
    "timespan_end": "default: timespan_begin and exposure_time",
    "record_version": "default",
}


def _wrong(detail: str) -> HeaderError:
    return HeaderError(RejectReason.INVALID_VALUE, detail)
