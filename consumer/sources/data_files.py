"""Data files of the sources, YAML or JSON, checked key by key: header maps, and corrections."""

import reprlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from consumer.errors import ConfigurationError
from consumer.sources.plain_yaml import PlainYamlError, parse_yaml

_ENDINGS = (".yaml", ".yml", ".json")


class DataPart(BaseModel):
    """Base of what a data file holds: no unknown key, finite numbers, frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, str_strip_whitespace=True)


Part = TypeVar("Part", bound=DataPart)


def parse_data(kind: type[Part], text: str, source: str) -> Part:
    """Make a data file's model of its text.

    Parameters
    ----------
    kind
        The model.
    text
        YAML; JSON is YAML too.
    source
        What it is and where, for messages.

    Raises
    ------
    ConfigurationError
        If the text is not such a file; names the file, the key, and what to write instead.
    """
    try:
        return kind.model_validate(parse_yaml(text))
    except PlainYamlError as error:
        raise ConfigurationError(f"{source}: {error}; correct the YAML there") from error
    except ValidationError as error:
        raise ConfigurationError(f"{source}: {'; '.join(_problems(error))}") from error


def list_data_files(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield files, and the data files within folders, by name.

    Raises
    ------
    ConfigurationError
        If a path is neither.
    """
    for path in paths:
        if path.is_dir():
            yield from sorted(each for each in path.iterdir() if each.suffix in _ENDINGS and each.is_file())
        elif path.is_file():
            yield path
        else:
            raise ConfigurationError(f"{path}: there is no such file or folder; correct the section source")


def _problems(error: ValidationError) -> Iterator[str]:
    """Describe each of pydantic's errors: key, fault and value."""
    for detail in error.errors():
        parts = [part for part in detail["loc"] if not (isinstance(part, str) and part.startswith(("function-", "_")))]
        key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")
        match detail["type"]:
            case "missing":
                yield f"{key} is missing"
                continue
            case "extra_forbidden":
                yield f"{key} is no known key"
                continue
        fault = detail["msg"].removeprefix("Value error, ")
        got = "" if isinstance(detail["input"], dict) else f", got {reprlib.repr(detail['input'])}"
        yield f"{key}: {fault}{got}" if key else f"{fault}{got}"
