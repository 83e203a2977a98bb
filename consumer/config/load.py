"""From a YAML file and environment variables to `Settings`, or one error that names every wrong key and what to do."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from consumer.config.database import embedded_secrets, has_password
from consumer.config.keys import (
    Key,
    is_secret,
    required_keys,
    section_at,
    section_of,
    settings_error,
    suggestion,
    variable,
)
from consumer.config.sections import AllowedInFile
from consumer.config.settings import Settings
from consumer.config.sources import read_environment, read_file


def load_settings(
    path: Path | None,
    environ: Mapping[str, str],
    *,
    below: Mapping[str, Any] | None = None,
    above: Mapping[str, Any] | None = None,
) -> Settings:
    """Read the settings: the file's, overridden by the environment's.

    Parameters
    ----------
    path
        A YAML file; None: environment and defaults only.
    environ
        Environment variables; ``VISIT_CONSUMER_KAFKA__TOPICS`` is the key ``kafka.topics``. Lists and
        mappings are JSON.
    below, above
        What a command lays under the file and over the environment: stand-ins for settings that it does not need, and
        its own options.

    Raises
    ------
    ConfigurationError
        If a key or variable is unknown, missing or wrong, or a secret stands in the file. It has one line for each,
        with key, origin and what to do.
    """
    from_file = {} if path is None else read_file(path)
    problems = list(_secrets_in(Settings, from_file, (), path))
    from_environment = read_environment(environ)
    if problems:
        raise settings_error(path, problems)
    try:
        return Settings(**_over(_over(below or {}, _over(from_file, from_environment)), above or {}))
    except ValidationError as error:
        raise settings_error(
            path, [line for detail in error.errors() for line in _lines(detail, path, from_environment)]
        ) from None


def secret_values(settings: BaseModel) -> tuple[str, ...]:
    """Return every secret of the settings in clear, for the log's redaction and nothing else."""
    found: list[str] = []
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            found.extend(secret_values(value))
        elif isinstance(value, SecretStr):
            text = value.get_secret_value()
            found.extend(embedded_secrets(text) if name == "conninfo" else (text,))
        elif name.endswith("_file") and value is not None and name.removesuffix("_file") in type(settings).model_fields:
            current = getattr(settings, f"current_{name.removesuffix('_file')}")()
            found.append(current.get_secret_value())
    return tuple(dict.fromkeys(secret for secret in found if secret))


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one nested mapping over another."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _over(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _secrets_in(model: type[BaseModel], content: Any, at: Key, path: Path | None) -> Iterator[str]:
    """Yield a line for each secret that stands in the file."""
    if not isinstance(content, Mapping):
        return
    for name, field in model.model_fields.items():
        key = field.alias or name
        value = content.get(key)
        if value is None:
            continue
        inner = section_of(field)
        if inner is not None:
            yield from _secrets_in(inner, value, (*at, key), path)
        elif is_secret(field):
            dotted = ".".join((*at, key))
            if any(isinstance(mark, AllowedInFile) for mark in field.metadata):
                if has_password(str(value)):
                    yield (
                        f"{dotted}: a password stands in {path}; remove it there, and give it as the variable "
                        f"{variable((*at, 'password'))} or name a file with {'.'.join((*at, 'password_file'))}"
                    )
            else:
                yield (
                    f"{dotted}: a secret stands in {path}; remove it there, and give it as the variable "
                    f"{variable((*at, key))} or name a file with {dotted}_file"
                )


def _lines(detail: ErrorDetails, path: Path | None, from_environment: Mapping[str, Any]) -> Iterator[str]:
    """Format one of pydantic's errors as key, fault, origin and what to do."""
    key = tuple(str(part) for part in detail["loc"])
    dotted = ".".join(key) or "settings"
    origin = _origin(key, path, from_environment)
    if detail["type"] == "missing":
        inner = section_at(Settings, key)
        for missing in [key] if inner is None else required_keys(inner, key):
            where = f"in {path} or " if path else ""
            yield f"{'.'.join(missing)}: is required; set it {where}as the variable {variable(missing)}"
    elif detail["type"] == "extra_forbidden":
        section = section_at(Settings, key[:-1])
        known = [] if section is None else [field.alias or name for name, field in section.model_fields.items()]
        yield f"{dotted}: no such setting ({origin}){suggestion(key[-1], known)}; remove it"
    else:
        yield f"{dotted}: {detail['msg'].removeprefix('Value error, ')} ({origin})"


def _origin(key: Key, path: Path | None, from_environment: Mapping[str, Any]) -> str:
    """Return where the value of a key came from, as a file or a variable."""
    file = "defaults" if path is None else str(path)
    inner: Any = from_environment
    for depth, part in enumerate(key):
        if not isinstance(inner, Mapping) or part not in inner:
            return file
        inner = inner[part]
        if part == "instruments" and depth == 0:
            return variable(key[:1])
    if not isinstance(inner, Mapping):
        return variable(key)
    given = ", ".join(variable((*key, name)) for name in inner)
    return given if path is None else f"{file}, {given}"
