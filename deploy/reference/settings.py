"""The reference of all settings, written from the models themselves: ``python -m deploy.reference.settings``."""

import sys
from collections.abc import Iterator, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from consumer.config.instruments import InstrumentSettings
from consumer.config.keys import Key, is_secret, section_of, variable
from consumer.config.sections import Scalar
from consumer.config.settings import Settings
from consumer.config.source_places import BucketSettings, FolderSettings

_HEAD = """# Settings

Written by `python -m deploy.reference.settings`; do not edit.

A YAML file, named with `--config` or the variable `VISIT_CONSUMER_CONFIG`, holds the keys below. An environment
variable overrides a key: `VISIT_CONSUMER_`, then the key in capitals with two underscores for each dot, so that
`VISIT_CONSUMER_KAFKA__TOPICS` is `kafka.topics`. Lists and mappings in variables are JSON; `null` is null. All
instruments together are one JSON object, in `VISIT_CONSUMER_INSTRUMENTS`, because their names are case-sensitive.

Unknown keys and unknown `VISIT_CONSUMER_...` variables are refused, except the variables that Kubernetes sets for a
Service. **Secrets never stand in the file**: they come from a variable, or from a file that the `..._file` key names.
Relative paths start at the working directory. Names that end in `_s`, `_days` and `_bytes` are seconds, days and bytes.
"""


def settings_reference() -> str:
    """Return the reference of all settings as Markdown."""
    lines = [_HEAD]
    lines.extend(_section("", Settings, ()))
    lines.extend(_section("instruments.NAME", InstrumentSettings, ("instruments", "NAME")))
    lines.extend(_section("source.buckets.NAME", BucketSettings, ("source", "buckets", "NAME")))
    lines.extend(_section("source.folders[]", FolderSettings, ("source", "folders[]")))
    return "\n".join(lines).rstrip() + "\n"


def _section(title: str, model: type[BaseModel], at: Key) -> Iterator[str]:
    """Yield the lines of one section: its values as a table, then the sections inside."""
    values = [(name, field) for name, field in model.model_fields.items() if section_of(field) is None]
    if title:
        yield f"## {title}\n"
        yield f"{_sentence(model.__doc__)}\n"
    elif values:
        yield "## At the top\n"
    if values:
        yield "| key | type | default | meaning |"
        yield "|---|---|---|---|"
        for name, field in values:
            yield _row(field, (*at, field.alias or name))
        yield ""
    for name, field in model.model_fields.items():
        inner = section_of(field)
        if inner is not None:
            key = (*at, field.alias or name)
            yield from _section(".".join(key), inner, key)


def _row(field: FieldInfo, key: Key) -> str:
    """Return one line of a table."""
    where = f"Only as `{variable(key)}`. " if is_secret(field) and field.default is None else ""
    kind = _type(field.annotation) + _bounds(field)
    cells = (f"`{'.'.join(key)}`", kind, _default(field), where + _sentence(field.description))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _sentence(text: str | None) -> str:
    """Return a docstring on one line."""
    return " ".join((text or "").split())


def _default(field: FieldInfo) -> str:
    """Return a default as YAML has it."""
    if field.is_required():
        return "**required**"
    if field.default_factory is not None:
        return "see meaning"
    if isinstance(field.default, tuple):
        return f"`[{', '.join(map(str, field.default))}]`"
    if isinstance(field.default, float):
        return f"`{field.default:g}`"
    words = {None: "null", True: "true", False: "false"}
    return f"`{words[field.default] if isinstance(field.default, bool | None) else field.default}`"


def _bounds(field: FieldInfo) -> str:
    """Return the range of a number in words, such as `, 1 to 100`."""
    low = high = ""
    for mark in _marks(field):
        match mark:
            case Ge(ge=bound):
                low = f"{bound:,}"
            case Gt(gt=bound):
                low = f"above {bound:,}"
            case Le(le=bound) | Lt(lt=bound):
                high = f"{bound:,}"
    if low and high:
        return f", {low} to {high}"
    return f", {low}" + ("" if low.startswith("above") else " or more") if low else ""


def _marks(field: FieldInfo) -> Iterator[Any]:
    """Yield the constraints of a field, those inside an optional type included."""
    yield from field.metadata
    for member in get_args(field.annotation):
        if get_origin(member) is Annotated:
            for mark in member.__metadata__:
                yield from mark.metadata if isinstance(mark, FieldInfo) else (mark,)


def _type(annotation: Any) -> str:
    """Return a type in the words of YAML."""
    if annotation == Scalar:
        return "text, number or boolean"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{choice}`" for choice in arguments)
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin in {Annotated, Union, UnionType}:
        return _type(next(member for member in arguments if member is not NoneType))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping"
    names = {bool: "boolean", int: "integer", float: "number", str: "text", SecretStr: "secret", Mapping: "mapping"}
    return names.get(origin or annotation, "path")


if __name__ == "__main__":
    sys.stdout.write(settings_reference())
