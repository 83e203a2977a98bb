"""The named SQL blocks of ``consumer/postgres/sql``: one file for each use, one block for each statement.

A block starts with ``-- name: the_name``; the comment lines under it say what the statement is for.
``{exposure_columns}`` stands for the columns of a stored exposure, so that the next column is added in one place.
"""

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from consumer.domain.obscore import COLUMNS, WRITTEN
from consumer.model import EXPOSURE_FIELDS

EXPOSURE_COLUMNS = (
    *EXPOSURE_FIELDS,
    "group_key",
    "detectors",
    "announced",
    "expected_detectors",
    "expected_version",
)
"""Columns of ``exposure`` that hold a record and what has arrived of it, in the order of their row."""

_AS_TEXT = ("detectors", "expected_detectors")

_FRAGMENTS = {
    "{exposure_columns}": ", ".join(f'"{name}"' for name in EXPOSURE_COLUMNS),
    "{exposure}": ", ".join(f'exposure."{name}"' + "::text" * (name in _AS_TEXT) for name in EXPOSURE_COLUMNS),
    "{obscore}": ", ".join(column.name for column in WRITTEN),
    "{obscore_all}": ", ".join(column.name for column in COLUMNS),
    # Texts and numbers go as they are: writing and reading an array of them as text would double the insert's time.
    "{obscore_arrays}": ", ".join(
        f"%({c.name}){'b' if c.sql_type in {'text', 'double precision'} else 's'}::{c.sql_type}[]" for c in WRITTEN
    ),
    "{obscore_excluded}": ", ".join(f"{column.name} = excluded.{column.name}" for column in WRITTEN),
    "{merged}": ", ".join(f'merged."{name}"' for name in EXPOSURE_COLUMNS),
}
_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def statements(file: str) -> Mapping[str, bytes]:
    """Read the named blocks of one SQL file.

    Parameters
    ----------
    file
        Name of the file without its ending, such as ``batch``.

    Returns
    -------
    statements
        By name. Bytes, because psycopg takes a string only where a type checker can prove that it is a literal.

    Raises
    ------
    ValueError
        When two blocks have one name.
    """
    text = files("consumer.postgres").joinpath("sql", f"{file}.sql").read_text(encoding="utf-8")
    for mark, columns in _FRAGMENTS.items():
        text = text.replace(mark, columns)
    parts = _NAME.split(text)
    names, bodies = parts[1::2], parts[2::2]
    if len(set(names)) != len(names):
        raise ValueError(f"{file}.sql: a name stands twice")
    return {name: body.strip().encode() for name, body in zip(names, bodies, strict=True)}
