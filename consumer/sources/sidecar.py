"""Sidecars: headers as JSON or YAML, ``{"KEYWORD": value}`` or with such a mapping inside under ``header``."""

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from consumer.sources.model import Header
from consumer.sources.plain_yaml import PlainYamlError, parse_yaml

_MAX_YAML: Final = 512 * 1024
"""Characters: PyYAML needs a second for these."""
_PLAIN_TYPES: Final = frozenset({bool, int, float, str, type(None)})
_INSIDE: Final = ("header", "metadata")
"""Keys under which a sidecar may have its header."""


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
    if not stripped.startswith(b"{") and not is_yaml:
        return None
    try:
        text = stripped.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SidecarError(f"the sidecar is no UTF-8 text: {error.reason}") from None
    document = _from_yaml(text) if is_yaml and not text.startswith("{") else _from_json(text)
    if not isinstance(document, dict):
        raise SidecarError("the sidecar is no mapping of keywords to values", at_end=document is None)
    if document.get("__CONTENT__") == "translated":
        raise SidecarError("the sidecar holds translated properties: write one with the header (content: metadata)")
    inside = next((document[key] for key in _INSIDE if isinstance(document.get(key), dict)), document)
    if text.startswith("{") and _holds_only_cards(inside, text):
        return inside
    header = {str(key): _plain(value) for key, value in inside.items() if _is_card(key, value)}
    if not header:
        raise SidecarError("the sidecar has no keyword with a value")
    return header


def _holds_only_cards(inside: Mapping[str, Any], text: str) -> bool:
    """Whether a mapping of a JSON text is a header as it is: seen in a tenth of the time that going through it takes.

    What overflows a float is then infinite, and refused where a field is made of it.
    """
    return bool(inside) and '"__' not in text and {*map(type, inside.values())} <= _PLAIN_TYPES


def _is_card(key: object, value: object) -> bool:
    """Whether an entry is a card: comments, which are lists, and what the writer says of the file itself are none."""
    return isinstance(value, bool | int | float | str | None) and not str(key).startswith("__")


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _from_json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_none)
    except json.JSONDecodeError as error:
        at_end = error.pos >= len(text.rstrip()) or not text.rstrip().endswith("}")
        raise SidecarError(f"line {error.lineno}, column {error.colno}: {error.msg}", at_end=at_end) from None
    except (RecursionError, ValueError) as error:
        raise SidecarError(str(error) or "it is nested too deeply") from None


def _none(_: str) -> None:
    """Take NaN and the infinities for no value."""


def _unique(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise SidecarError(f"key {twice[:80]!r} stands twice")
    return mapping


def _from_yaml(text: str) -> Any:
    if len(text) > _MAX_YAML:
        raise SidecarError(f"a YAML sidecar has at most {_MAX_YAML} characters; this one has {len(text)}: write JSON")
    try:
        return parse_yaml(text)
    except PlainYamlError as error:
        raise SidecarError(str(error), at_end=error.at_end) from None
