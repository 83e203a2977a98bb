"""Keys of the settings: their variables, which hold secrets, and how an error about them reads."""

import difflib
from collections.abc import Iterable
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


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean X?`` when a known key looks alike."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def settings_error(path: Path | None, problems: list[str]) -> ConfigurationError:
    """Join the lines into one error."""
    head = "the settings are wrong" if path is None else f"the settings are wrong ({path})"
    return ConfigurationError("\n  ".join([f"{head}:", *problems]))
