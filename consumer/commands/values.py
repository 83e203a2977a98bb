"""Types of the values that commands take: each is checked at its edges before anything is asked of a server."""

import math
import os
import re
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import click

from consumer.errors import BadMessageError
from consumer.events.validation import INT32_MAX, INT64_MAX, observing_day, shown

ID = click.IntRange(0, INT64_MAX)
"""Of an exposure, a visit or a row."""
PARTITION = click.IntRange(0, INT32_MAX)
_LONGEST_S = 7 * 86400.0
_NOON_UTC = timedelta(hours=12)
COUNT = click.IntRange(1, INT64_MAX)


class Finite(click.FloatRange):
    """A number in a range; click takes NaN for one in any range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # click's type
        """Return the number."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{number} is no number to search or to count with", param, ctx)
        return number


class ObservingDay(click.ParamType):  # type: ignore[type-arg] # generic in later releases only
    """A day, YYYYMMDD."""

    name = "YYYYMMDD"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the day as an integer."""
        try:
            return cast("int", observing_day("day_obs", int(str(value))))
        except (ValueError, BadMessageError):
            self.fail(f"{shown(value)} is no date: write YYYYMMDD", param, ctx)


def last_observing_days(number: int) -> list[int]:
    """Return the last observing days, the present one first. At Rubin a day begins at 12:00 UTC (SITCOMTN-032)."""
    today = datetime.now(UTC) - _NOON_UTC
    return [int(f"{today - timedelta(days=each):%Y%m%d}") for each in range(number)]


class Duration(click.ParamType):  # type: ignore[type-arg] # as above
    """A time, written with its unit: 30s, 10m, 1.5h; seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the time in seconds."""
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smh])", str(value), re.ASCII)
        duration_s = float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]] if found else 0.0
        if not 0 < duration_s <= _LONGEST_S:
            self.fail(f"{shown(value)} is no time: write 30s, 10m or 1.5h, up to a week", param, ctx)
        return duration_s


class Name(click.ParamType):  # type: ignore[type-arg] # as above
    """A text that can be a name in a table, of a topic or of a file: none of them takes NUL, and no text is endless.

    Parameters
    ----------
    limit
        Of characters.
    """

    name = "text"

    def __init__(self, limit: int) -> None:
        self._limit = limit

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text."""
        text = str(value)
        if not text or len(text) > self._limit or "\x00" in text or any("\ud800" <= c <= "\udfff" for c in text):
            self.fail(f"{shown(text)} is no name: 1 to {self._limit} characters, none of them NUL", param, ctx)
        return text


def _refuse_no_file_name(kind: Any, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> None:
    try:
        good = b"\x00" not in os.fsencode(str(value))
    except UnicodeEncodeError:
        good = False
    if not good:
        kind.fail(f"{shown(value)} is no file name", param, ctx)


class FilePath(click.Path):
    """The path of a file; the operating system takes no NUL, and click does not ask before it looks."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # click's types
        """Return the path."""
        _refuse_no_file_name(self, value, param, ctx)
        return super().convert(value, param, ctx)


class TextFile(click.File):
    """A text to read, or - for standard input; see `FilePath`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # click's types
        """Open the file."""
        _refuse_no_file_name(self, value, param, ctx)
        return super().convert(value, param, ctx)


DURATION = Duration()
DAY_OBS = ObservingDay()
NAME = Name(256)
FILE_NAME = Name(4096)


def printable(text: str) -> str:
    """Make text of any origin harmless to a terminal: what does not print, but for line ends, is escaped."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
