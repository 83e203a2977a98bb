"""From a YAML file and environment variables to `Settings`, or one error that names every wrong key and what to do."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from consumer.config.database import has_password
from consumer.config.keys import Key, is_secret, section_of, settings_error, suggestion, variable
from consumer.config.sections import MayStandInFile
from consumer.config.settings import Settings
from consumer.config.sources import read_environment, read_file


def load_settings(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Read the settings: the file's, overridden by the environment's.

    Parameters
    ----------
    path
        A YAML file; None: environment and defaults only.
    environ
        Environment variables; ``VISIT_CONSUMER_KAFKA__TOPICS`` is the key ``kafka.topics``. Lists and
        mappings are JSON.

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
        return Settings(**_over(from_file, from_environment))
    except ValidationError as error:
        raise settings_error(path, [_line(detail, path, from_environment) for detail in error.errors()]) from None


def secret_values(settings: BaseModel) -> tuple[str, ...]:
    """Return every secret of the settings in clear, for the log's redaction and nothing else."""
    found: list[str] = []
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            found.extend(secret_values(value))
        elif isinstance(value, SecretStr) and name != "conninfo":
            found.append(value.get_secret_value())
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
            if any(isinstance(mark, MayStandInFile) for mark in field.metadata):
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


def _line(detail: ErrorDetails, path: Path | None, from_environment: Mapping[str, Any]) -> str:
    """Say one of pydantic's errors as key, origin, fault and what to do."""
    # Union members and the like are pydantic's, not keys that somebody wrote.
    key = tuple(str(part) for part in detail["loc"])
    dotted = ".".join(key) or "settings"
    origin = variable(key) if _holds(from_environment, key) else str(path or "environment")
    match detail["type"]:
        case "missing":
            where = f"in {path} or " if path else ""
            return f"{dotted}: is required; set it {where}as the variable {variable(key)}"
        case "extra_forbidden":
            return f"{dotted}: no such setting ({origin}){suggestion(key[-1], _known_keys(key[:-1]))}; remove it"
        case "frozen_field" | "frozen_instance":
            return f"{dotted}: cannot be changed ({origin})"
    text = detail["msg"].removeprefix("Value error, ")
    return f"{dotted}: {text} ({origin})"


def _holds(content: Mapping[str, Any], key: Key) -> bool:
    """Whether a key, or what holds it, was given."""
    inner: Any = content
    for part in key:
        if not isinstance(inner, Mapping):
            return True
        if part not in inner:
            return False
        inner = inner[part]
    return bool(key)


def _known_keys(at: Key) -> list[str]:
    """Return the keys of the section at a path; none where there is no such section."""
    model: type[BaseModel] = Settings
    for part in at:
        field = next((f for n, f in model.model_fields.items() if part in {n, f.alias}), None)
        inner = None if field is None else section_of(field)
        if inner is None:
            return []
        model = inner
    return [field.alias or name for name, field in model.model_fields.items()]
