"""Sidecars: headers as JSON or YAML, ``{"KEYWORD": value}`` or with such a mapping inside under ``header``."""

import json
from collections.abc import Mapping
from typing import Any, Final

from pydantic_core import from_json

from consumer.sources.model import Header
from consumer.sources.plain_yaml import PlainYamlError, parse_yaml

_MAX_YAML: Final = 512 * 1024
"""Characters: PyYAML needs a second for these."""
_INSIDE: Final = ("header", "metadata")
"""Keys under which a sidecar may have its header."""
_SCALARS: Final = frozenset({bool, int, float, str, type(None)})


class SidecarError(ValueError):
    """A sidecar cannot be read; says where.

    Attributes
    ----------
    at_end
        Whether the text stopped too early, as a file that is still being written does.
    """

    def __init__(self, problem: str, *, at_end: bool = False) -> None:
        super().__init__(problem)
        self.at_end = at_end


def parse_sidecar(content: bytes, *, is_yaml: bool) -> Header | None:
    """Make a header of a sidecar's bytes; None if it is none.

    Parameters
    ----------
    content
        UTF-8 text.
    is_yaml
        Whether its name says so; JSON is recognised by its first character.

    Raises
    ------
    SidecarError
        It is a sidecar and cannot be parsed.
    """
    stripped = content.removeprefix(b"\xef\xbb\xbf").lstrip()
    is_json = stripped.startswith(b"{")
    if not is_json and not is_yaml:
        return None
    document = _fast_json(stripped) if is_json else None
    if document is None:
        try:
            text = stripped.decode("utf-8")
        except UnicodeDecodeError as error:
            cut = error.end == len(stripped)  # within a character
            raise SidecarError(f"the sidecar is no UTF-8 text: {error.reason}", at_end=cut) from None
        document = _strict_json(text) if is_json else _from_yaml(text)
    if not isinstance(document, dict):
        raise SidecarError("the sidecar is no mapping of keywords to values", at_end=document is None)
    if document.get("__CONTENT__") == "translated":
        raise SidecarError("the sidecar holds translated properties: write one with the header (content: metadata)")
    if _SCALARS.issuperset(map(type, document.values())):
        header = document
    else:
        inside = next((document[key] for key in _INSIDE if isinstance(document.get(key), dict)), document)
        # Comments are lists, and no cards.
        header = {key: value for key, value in inside.items() if type(value) in _SCALARS}
    header.pop("__CONTENT__", None)  # what the writer says of the file itself
    if not header:
        raise SidecarError("the sidecar has no keyword with a value")
    return header


def _fast_json(content: bytes) -> dict[str, Any] | None:
    """Parse JSON in a third of the time; None where it is broken, or where a key may stand twice in it.

    A key that stands twice leaves more quotation marks in the text than the mapping needs; so does an escaped one.
    """
    try:
        document = from_json(content, allow_inf_nan=False, cache_strings="keys")
    except ValueError:
        return None
    if not isinstance(document, dict) or content.count(b'"') != _quotation_marks(document):
        return None
    return document


def _quotation_marks(value: dict[str, Any] | list[Any]) -> int:
    """Return how many of them stand around the keys and texts of a mapping or a list."""
    inner = value.values() if isinstance(value, dict) else value
    kinds = list(map(type, inner))
    marks = 2 * kinds.count(str) + (2 * len(value) if isinstance(value, dict) else 0)
    if not _SCALARS.issuperset(kinds):
        marks += sum(_quotation_marks(each) for each in inner if type(each) not in _SCALARS)
    return marks


def _strict_json(text: str) -> Any:
    try:
        return _JSON.decode(text)
    except json.JSONDecodeError as error:
        cut = error.pos >= len(text.rstrip()) or not text.rstrip().endswith("}")
        at_end = cut or error.msg.startswith("Unterminated string")
        raise SidecarError(f"line {error.lineno}, column {error.colno}: {error.msg}", at_end=at_end) from None
    except (RecursionError, ValueError) as error:
        raise SidecarError(str(error) or "it is nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise SidecarError(f"key {twice[:80]!r} stands twice")
    return mapping


_JSON: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=lambda _: None)
"""Takes NaN and infinities for no value."""


def _from_yaml(text: str) -> Any:
    if len(text) > _MAX_YAML:
        raise SidecarError(f"a YAML sidecar has at most {_MAX_YAML} characters; this one has {len(text)}: write JSON")
    try:
        document = parse_yaml(text)
    except PlainYamlError as error:
        raise SidecarError(str(error), at_end=error.at_end) from None
    if not text.endswith(("\n", "...")):
        # Any other beginning of one is YAML too, with the first digits of a number perhaps.
        raise SidecarError("the last line of the YAML sidecar has no end", at_end=True)
    return document
