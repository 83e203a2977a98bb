"""Keys of the settings: their variables, which hold secrets, and how an error about them reads."""

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from consumer.config.settings import ENV_DELIMITER, ENV_PREFIX
from consumer.errors import ConfigurationError

Key = tuple[str, ...]
"""Parts of a dotted key."""


def variable(key: Key) -> str:
    """Return the environment variable of a key."""
    return ENV_PREFIX + ENV_DELIMITER.join(key).upper()


def is_secret(field: FieldInfo) -> bool:
    """Whether a field holds a secret itself."""
    return field.annotation is SecretStr or SecretStr in get_args(field.annotation)


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """Return the section that a field holds, or None for a plain value."""
    annotation = field.annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def required_keys(model: type[BaseModel], at: Key) -> Iterator[Key]:
    """Yield the keys that have no default, below a section."""
    for name, field in model.model_fields.items():
        inner = section_of(field)
        key = (*at, field.alias or name)
        if inner is not None and field.is_required():
            yield from required_keys(inner, key)
        elif field.is_required():
            yield key


def all_keys(model: type[BaseModel], at: Key = ()) -> Iterator[Key]:
    """Yield the keys of all values below a section, in the order of their declaration."""
    for name, field in model.model_fields.items():
        inner = section_of(field)
        key = (*at, field.alias or name)
        if inner is None:
            yield key
        else:
            yield from all_keys(inner, key)


def section_at(model: type[BaseModel], at: Key) -> type[BaseModel] | None:
    """Return the section at a key, or None where a value stands, or nothing."""
    for part in at:
        field = next((f for name, f in model.model_fields.items() if part == (f.alias or name)), None)
        inner = None if field is None else section_of(field)
        if inner is None:
            return None
        model = inner
    return model


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean X?`` when a known key looks alike."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def settings_error(path: Path | None, problems: list[str]) -> ConfigurationError:
    """Join the lines into one error."""
    head = "the settings are wrong" if path is None else f"the settings are wrong ({path})"
    return ConfigurationError("\n  ".join([f"{head}:", *problems]))
