"""How the name of an exposure group becomes a visit id, by the instrument's ``group_id`` setting.

Each is a pure function of the name; `visit_id_of` finds one by its name.
"""

import calendar
import re
from collections.abc import Callable
from hashlib import blake2b

from consumer.errors import ConfigurationError, DeadLetterReason, GroupError
from consumer.grouping.rule import checked_visit_id

_MAX_DIGITS = 40
"""Far more than a bigint has; Python refuses to read integers of thousands of digits."""

_INTEGER = re.compile(r"[+-]?[0-9]+")
_DATED = re.compile(
    r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)T(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
    r"\.(?P<fraction>\d{3})(?:[+#](?P<number>\d+))?",
    re.ASCII,
)
_EPOCH_S = calendar.timegm((2015, 1, 1, 0, 0, 0))
_HASH_DIGITS = 14
_LAST_HOUR, _LAST_MINUTE, _LAST_SECOND, _LAST_MONTH = 23, 59, 59, 12

GroupIdFunction = Callable[[str], int]


def digits(group: str) -> int:
    """Drop everything but the digits of a group's name and read the rest as an integer.

    Different names can give one id (``A12`` and ``B12``): the store finds that out, not this.

    Raises
    ------
    GroupError
        When the name has no digit, or too many for 64 bits.
    """
    cleaned = re.sub(r"\D", "", group)
    if not cleaned:
        raise GroupError(DeadLetterReason.GROUP_FAILED, f"the group name {group!r} has no digit to make a visit id of")
    return _read(cleaned, group)


def lsst(group: str) -> int:
    """Make the number that Rubin's instruments (obs_lsst) give to a group.

    * an integer stays as it is;
    * ``YYYY-MM-DDTHH:MM:SS.fff``, optionally with ``+N`` or ``#N``: the digits of the whole seconds since
      2015-01-01T00:00:00 in the name's own time scale, then ``fff``, then N padded with zeros to 4 (0 when absent);
    * anything else: the first 14 hex digits of the BLAKE2b hash of the ASCII name as an integer, then the length of the
      name in at least 2 digits.

    Raises
    ------
    GroupError
        When the name is not ASCII, is shaped like a time that no calendar has, or gives more than 64 bits.
    """
    if not group.isascii():
        raise GroupError(DeadLetterReason.GROUP_FAILED, f"the group name {group!r} is not ASCII")
    if _INTEGER.fullmatch(group):
        return _read(group, group)
    if (dated := _DATED.fullmatch(group)) is not None:
        number = (dated["number"] or "").lstrip("0").rjust(4, "0")
        return _read(f"{_seconds_since_2015(dated, group)}{dated['fraction']}{number}", group)
    hashed = int(blake2b(group.encode("ascii")).hexdigest()[:_HASH_DIGITS], base=16)
    return _read(f"{hashed}{len(group):02d}", group)


_FUNCTIONS: dict[str, GroupIdFunction] = {"digits": digits, "lsst": lsst}


def group_id_names() -> tuple[str, ...]:
    """Return the names that ``group_id`` may have, sorted."""
    return tuple(sorted(_FUNCTIONS))


def visit_id_of(name: str) -> GroupIdFunction:
    """Find the function that turns a group's name into a visit id.

    Raises
    ------
    ConfigurationError
        When there is none of that name.
    """
    try:
        return _FUNCTIONS[name]
    except KeyError:
        raise ConfigurationError(f"group_id: unknown {name!r}; known: {', '.join(group_id_names())}") from None


def _read(text: str, group: str) -> int:
    if len(text.lstrip("+-0")) > _MAX_DIGITS:
        raise GroupError(
            DeadLetterReason.GROUP_FAILED, f"the visit id made from the group name {group[:80]!r} does not fit 64 bits"
        )
    sign = "-" if text.startswith("-") else ""
    return checked_visit_id(int(sign + (text.lstrip("+-0") or "0")), origin=f"the group name {group!r}")


def _seconds_since_2015(dated: re.Match[str], group: str) -> int:
    year, month, day = int(dated["year"]), int(dated["month"]), int(dated["day"])
    hour, minute, second = int(dated["hour"]), int(dated["minute"]), int(dated["second"])
    valid = (
        year > 0
        and 1 <= month <= _LAST_MONTH
        and 1 <= day <= calendar.monthrange(year, month)[1]
        and hour <= _LAST_HOUR
        and minute <= _LAST_MINUTE
        and second <= _LAST_SECOND
    )
    if not valid:
        raise GroupError(DeadLetterReason.GROUP_FAILED, f"the group name {group!r} is not a time that exists")
    return calendar.timegm((year, month, day, hour, minute, second)) - _EPOCH_S
