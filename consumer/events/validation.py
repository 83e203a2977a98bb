"""What a decoded exposure or raw must satisfy; refuses to repair anything.

A check gets the name and the value of a field, and returns the value in its final type or raises a
`~consumer.errors.BadMessageError` that names both. The bounds are wide: they keep out what no telescope can mean
and what no column can hold, not what is merely unusual.
"""

import math
from calendar import monthrange, timegm
from collections.abc import Callable, Mapping
from typing import Any

from consumer.errors import BadMessageError, DeadLetterReason
from consumer.model import EXPOSURE_FIELDS, Exposure, ExposureIngested, RawIngested

MAX_KEY_TEXT = 256
"""Characters of a text that becomes part of a primary key: PostgreSQL's B-tree takes keys of 2,704 bytes at most."""
MAX_TEXT = 1024
"""Characters of any other text of the exposure."""
MAX_URI = 4096
"""Characters of a raw's address."""
MAX_WCS = 65536
"""Characters of a raw's WCS cards: 800 cards, where a distorted WCS has about a hundred."""
MAX_DETECTOR = 32767
"""The largest detector id that PostgreSQL's smallint holds; the largest camera has 205 detectors."""
INT64_MAX = 2**63 - 1
INT32_MAX = 2**31 - 1

_SHOWN = 80
_MIN_YEAR = 1900
"""No digital detector is older; smaller numbers are a sign of another date format."""

Check = Callable[[str, Any], Any]
"""Field name and value to checked value; ``Any``, because this is where bytes and JSON become events."""


def shown(value: object) -> str:
    """Make any value fit for an error text: quoted, without control characters, at most 80 characters."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}... ({len(text)} characters)"


def invalid(field: str, value: object, rule: str) -> BadMessageError:
    """Build the error for a field whose value breaks a rule."""
    return BadMessageError(DeadLetterReason.INVALID_FIELD, f"{field} is {shown(value)}: {rule}")


def text(limit: int, *, required: bool = False) -> Check:
    """Check a text: no NUL (PostgreSQL has none), no lone surrogate (UTF-8 has none), not too long."""

    def check(field: str, value: Any) -> Any:
        if value is None and not required:
            return None
        if not isinstance(value, str):
            raise invalid(field, value, "it must be a text")
        if required and not value:
            raise invalid(field, value, "it must not be empty")
        if len(value) > limit:
            raise BadMessageError(
                DeadLetterReason.TOO_LARGE,
                f"{field} is {shown(value)}: {len(value)} characters, the limit is {limit}",
            )
        if "\x00" in value:
            raise invalid(field, value, "it must not hold NUL characters")
        if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
            raise invalid(field, value, "it must not hold lone surrogates")
        return value

    return check


def integer(low: int, high: int, *, required: bool = False) -> Check:
    """Check an integer in ``[low, high]``."""

    def check(field: str, value: Any) -> Any:
        if value is None and not required:
            return None
        # A bool is an int to Python, but not to Avro.
        if not isinstance(value, int) or isinstance(value, bool):
            raise invalid(field, value, "it must be an integer")
        if not low <= value <= high:
            raise invalid(field, value, f"it must be from {low} to {high}")
        return value

    return check


def real(low: float, high: float, unit: str) -> Check:
    """Check a finite number in ``[low, high]``, or None."""

    def check(field: str, value: Any) -> Any:
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise invalid(field, value, "it must be a number")
        try:
            number = float(value)
        except OverflowError:
            raise invalid(field, value, "it does not fit a double") from None
        # NaN compares as false with everything, and so fails here.
        if not low <= number <= high or math.isinf(number):
            bounds = f"from {low:g} to {high:g}" if math.isfinite(high) else f"at least {low:g}"
            raise invalid(field, value, f"it must be finite and {bounds} {unit}")
        return number

    return check


def boolean(field: str, value: Any) -> Any:
    """Check a boolean, or None."""
    if value is not None and not isinstance(value, bool):
        raise invalid(field, value, "it must be true, false or null")
    return value


def observing_day(field: str, value: Any) -> Any:
    """Check a date written as the integer YYYYMMDD."""
    integer(0, 99991231, required=True)(field, value)
    year, month, day = value // 10000, value // 100 % 100, value % 100
    if not (year >= _MIN_YEAR and 1 <= month <= 12 and 1 <= day <= monthrange(year, month)[1]):  # noqa: PLR2004 - months
        raise invalid(field, value, "it must be a date, YYYYMMDD")
    return value


_DETECTOR = integer(0, MAX_DETECTOR, required=True)


def detector_set(field: str, value: Any) -> Any:
    """Check a list of detector ids, or None; one may stand there twice."""
    if value is None:
        return None
    if not isinstance(value, list):
        raise invalid(field, value, "it must be a list of detector ids")
    if not value:
        return frozenset()
    if set(map(type, value)) == {int} and min(value) >= 0 and max(value) <= MAX_DETECTOR:
        return frozenset(value)
    # One of them is wrong: which?
    return frozenset(_DETECTOR(f"{field}[{place}]", each) for place, each in enumerate(value))


_KEY_TEXT = text(MAX_KEY_TEXT, required=True)
_TEXT = text(MAX_TEXT)
_COUNTER = integer(0, INT64_MAX)
_SECONDS = real(0.0, 1e9, "seconds")  # 30 years: sums of them stay finite
# Position angles and azimuths come in [0, 360), in [-180, 180], or as the angle of a mount whose cables allow more
# than a turn (Rubin's turns through +-270, others to 450): two turns to either side hold them all.
_TURN = real(-720.0, 720.0, "degrees")

_EXPOSURE_CHECKS: dict[str, Check] = {
    "instrument": _KEY_TEXT,
    "id": integer(0, INT64_MAX, required=True),
    "obs_id": _KEY_TEXT,
    "day_obs": observing_day,
    "group": _KEY_TEXT,
    "physical_filter": _TEXT,
    "exposure_time": _SECONDS,
    "dark_time": _SECONDS,
    "observation_type": _TEXT,
    "observation_reason": _TEXT,
    "seq_num": _COUNTER,
    "seq_start": _COUNTER,
    "seq_end": _COUNTER,
    "target_name": _TEXT,
    "science_program": _TEXT,
    # 360 itself is a rounding of 359.999..., not an error.
    "tracking_ra": real(0.0, 360.0, "degrees"),
    "tracking_dec": real(-90.0, 90.0, "degrees"),
    "sky_angle": _TURN,
    "azimuth": _TURN,
    "zenith_angle": real(0.0, 180.0, "degrees"),
    "has_simulated": boolean,
    "can_see_sky": boolean,
    "timespan_begin": _COUNTER,
    "timespan_end": _COUNTER,
    "group_size": integer(1, INT32_MAX),
    "record_version": integer(0, INT32_MAX, required=True),
}

RAW_CHECKS: dict[str, Check] = {
    "detector": _DETECTOR,
    "uri": text(MAX_URI),
    "ingested_at": _COUNTER,
    "wcs": text(MAX_WCS),
    "naxis1": integer(1, INT32_MAX),
    "naxis2": integer(1, INT32_MAX),
}
"""Checks of the fields that are the raw's own."""

EXPOSURE_EVENT_CHECKS: dict[str, Check] = {
    "detectors": detector_set,
    "expected_detectors": detector_set,
    "uri": RAW_CHECKS["uri"],
    "ingested_at": RAW_CHECKS["ingested_at"],
}
"""Checks of the fields that an event of a whole exposure has besides its record."""


def exposure_from_fields(record: Mapping[str, Any], *, most_days: int = 2) -> Exposure:
    """Check the fields of one exposure and build it.

    Parameters
    ----------
    record
        Every field of `~consumer.model.Exposure` by name; further entries are not looked at.
    most_days
        How far its timespan may be from its observing day.

    Raises
    ------
    BadMessageError
        ``INVALID_FIELD`` or ``TOO_LARGE``, naming the field and its value; with the instrument where that is valid.
    """
    instrument = _EXPOSURE_CHECKS["instrument"]("instrument", record["instrument"])
    try:
        values = {
            name: _EXPOSURE_CHECKS[name](_NAMES_IN_EVENT.get(name, name), record[name]) for name in EXPOSURE_FIELDS
        }
        begin, end = values["timespan_begin"], values["timespan_end"]
        if begin is not None and end is not None and end < begin:
            raise invalid("timespan_end", end, f"it must not be before timespan_begin, {begin}")
        _refuse_slipped_units(values, most_days)
    except BadMessageError as error:
        error.instrument = instrument
        raise
    return Exposure(**values)


_NS = 1_000_000_000
_TEN_YEARS_IN_DAYS = 3650
"""In files that people write the day may be made up; a slipped unit is half a century."""
_SLIPPED = {"exposure_time": 100.0, "dark_time": 700.0}
"""How many times a timespan's length are another unit. A detector may integrate long before the shutter opens: Rubin's
MC_C_20250425_000031 was dark for 1469.57 s and open for 2.77 s."""
_DAY_S = 86400


def _refuse_slipped_units(values: Mapping[str, Any], most_days: int) -> None:
    """Refuse times that only another unit explains: each is right by itself, and wrong beside the others.

    What cannot be seen: degrees and radians (a small angle is a good one in both), UTC and TAI (37 s), a day_obs that
    turns over at another hour.
    """
    day, begin, end = values["day_obs"], values["timespan_begin"], values["timespan_end"]
    midnight_s = timegm((day // 10000, day // 100 % 100, day % 100, 0, 0, 0))
    for name in ("timespan_begin", "timespan_end"):
        if values[name] is not None and abs((values[name] // _NS - midnight_s) // _DAY_S) > most_days:
            rule = f"that is more than {most_days} days from day_obs {day}: is it in TAI nanoseconds since 1970?"
            raise invalid(name, values[name], rule)
    if begin is None or end is None:
        return
    for name, times in _SLIPPED.items():
        seconds = values[name]
        if seconds is not None and seconds > times * (1.0 + (end - begin) / _NS):
            raise invalid(name, seconds, f"its timespan has {(end - begin) / _NS:g} s: is it in seconds?")


_NAMES_IN_EVENT = {"id": "exposure"}


def raw_from_fields(exposure: Exposure, record: Mapping[str, Any]) -> RawIngested:
    """Check the fields that are a raw's own and build it; those that are absent are unknown.

    Raises
    ------
    BadMessageError
        ``INVALID_FIELD`` or ``TOO_LARGE``, naming the field and its value; with the instrument.
    """
    return RawIngested(exposure=exposure, **_checked(exposure, record, RAW_CHECKS))


def exposure_event_from_fields(exposure: Exposure, record: Mapping[str, Any]) -> ExposureIngested:
    """Check the fields that an event of a whole exposure has besides its record, and build it.

    Raises
    ------
    BadMessageError
        ``INVALID_FIELD`` or ``TOO_LARGE``, naming the field and its value; with the instrument.
    """
    return ExposureIngested(exposure=exposure, **_checked(exposure, record, EXPOSURE_EVENT_CHECKS))


def _checked(exposure: Exposure, record: Mapping[str, Any], checks: Mapping[str, Check]) -> dict[str, Any]:
    try:
        return {name: check(name, record.get(name)) for name, check in checks.items()}
    except BadMessageError as error:
        error.instrument = exposure.instrument
        raise


def exposure_from_json(document: Mapping[str, Any]) -> Exposure:
    """Check one exposure that was read from JSON and build it.

    Parameters
    ----------
    document
        Fields named as in the event, or ``id`` for ``exposure``. Optional fields may be absent. A raw's own fields
        (``detector``, ``uri``, ...) are allowed and not looked at; any other name is refused, because a misspelt
        ``sky_angle`` would silently take the exposure off the sky.

    Raises
    ------
    BadMessageError
        ``INVALID_FIELD`` or ``TOO_LARGE``, naming the field and its value.
    """
    record = dict(document)
    if "exposure" in record:
        exposure = record.pop("exposure")
        if record.setdefault("id", exposure) != exposure:
            raise invalid("exposure", exposure, f"the document also says id {shown(record['id'])}")
    if unknown := sorted(record.keys() - _EXPOSURE_CHECKS.keys() - RAW_CHECKS.keys()):
        raise invalid(unknown[0], record[unknown[0]], "no exposure has a field of this name")
    record.setdefault("record_version", 0)
    return exposure_from_fields({name: record.get(name) for name in EXPOSURE_FIELDS}, most_days=_TEN_YEARS_IN_DAYS)
