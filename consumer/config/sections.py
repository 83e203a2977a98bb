"""What every section of the settings shares: the base model, types with units, and how a secret is read.

A secret never stands in the YAML file: it comes from an environment variable, or from a file that a ``..._file`` key
names (a mounted Kubernetes secret), and is kept as a ``SecretStr``, which prints as stars.
"""

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, FilePath, SecretStr

from consumer.errors import ConfigurationError

TOPIC_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,249}")
"""What Kafka accepts as a topic's name."""


class Section(BaseModel):
    """Base of every section: frozen, unknown keys refused, values never repeated in pydantic's own errors."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        validate_default=True,
    )


class AllowedInFile:
    """Marks a ``SecretStr`` that is secret only when a password is embedded in it."""


def _not_empty(path: Path) -> Path:
    """Refuse a secret's file that cannot be read or that holds nothing."""
    read_secret_file(path)
    return path


def _topic(name: str) -> str:
    """Refuse what Kafka would refuse, and regular expressions, which it would take."""
    if not TOPIC_PATTERN.fullmatch(name) or name in {".", ".."}:
        raise ValueError(f"{name!r} is no topic name: use 1 to 249 of the characters A-Z a-z 0-9 . _ -")
    return name


def _url_without_credentials(url: str) -> str:
    """Refuse a URL that is none, or that carries a password, which would be printed with it."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be a URL that starts with http:// or https:// and names a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not carry a user name or password; use the keys username and password_file")
    return url


def _scalar(value: object) -> object:
    """Refuse lists and mappings before pydantic tries each member of the union, with an error for each."""
    if not isinstance(value, bool | int | float | str):
        raise ValueError("must be a number, text, true or false")  # noqa: TRY004  # pydantic reports ValueError only
    return value


Scalar = Annotated[bool | int | float | str, BeforeValidator(_scalar)]
Seconds = Annotated[float, Field(gt=0, le=7 * 86400)]
Count = Annotated[int, Field(gt=0)]
SecretFile = Annotated[FilePath, AfterValidator(_not_empty)]
"""A file that holds one secret; a newline at its end is not part of it."""
TopicName = Annotated[str, AfterValidator(_topic)]
HttpUrlText = Annotated[str, AfterValidator(_url_without_credentials)]


def read_secret_file(path: Path) -> str:
    """Read a secret from its file, without the newline at its end.

    Raises
    ------
    ValueError
        If the file cannot be read, is not text or is empty; pydantic makes it an error of the key.
    """
    try:
        secret = path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); make it readable to this process") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text") from error
    if not secret:
        raise ValueError(f"{path} is empty; write the secret into it")
    return secret


def current_secret(value: SecretStr | None, file: Path | None) -> SecretStr | None:
    """Return a secret as it is now: its file is read again, so that a rotated secret needs no restart.

    Raises
    ------
    ConfigurationError
        If the file, which was good at start, is no longer.
    """
    if file is None:
        return value
    try:
        return SecretStr(read_secret_file(file))
    except ValueError as error:
        raise ConfigurationError(f"secret file: {error}") from error


def one_source(section: str, value: SecretStr | None, file: Path | None, *, name: str = "password") -> None:
    """Refuse a secret that is given twice.

    Raises
    ------
    ValueError
        If both the value and the file are given.
    """
    if value is not None and file is not None:
        raise ValueError(f"{section}.{name} and {section}.{name}_file are both given; keep one")
