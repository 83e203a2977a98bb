"""The JSON Schema of a settings file, for editors: ``python -m deploy.reference.settings_schema``.

It holds one file to the settings' own models. What only a loaded configuration shows is left to
``visit-consumer check-config``: what comes from environment variables, and values that exclude each other.
"""

import json
import sys
from typing import Any

from consumer.config import Settings

_HEAD = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Settings file of the visit consumer",
    "$comment": "Written by python -m deploy.reference.settings_schema; do not edit.",
}


def settings_schema() -> dict[str, Any]:
    """Return the schema of a settings file, as JSON Schema 2020-12."""
    definitions = file_definitions()
    settings = definitions.pop("Settings")
    # A variable of the environment can give any of these.
    del settings["required"], definitions["KafkaSettings"]["required"], definitions["DatabaseSettings"]["required"]
    return {**_HEAD, **settings, "$defs": definitions}


def settings_schema_text() -> str:
    """Return the schema as the file holds it."""
    return json.dumps(settings_schema(), indent=1) + "\n"


def file_definitions() -> dict[str, dict[str, Any]]:
    """Return the schemas of all sections by the names of their models, ``Settings`` among them, without secrets."""
    settings = Settings.model_json_schema()
    definitions: dict[str, Any] = settings.pop("$defs") | {"Settings": settings}
    for definition in definitions.values():
        _remove_secrets(definition)
    camera = definitions["InstrumentSettings"]["properties"]["camera"]
    camera["anyOf"] = [{"type": camera.pop("type"), "items": camera.pop("items")}, {"type": "string", "minLength": 1}]
    return {name: _without_titles(definition) for name, definition in sorted(definitions.items())}


def _remove_secrets(definition: dict[str, Any]) -> None:
    """Remove the keys that hold secrets: no file has them."""
    properties: dict[str, Any] = definition.get("properties", {})
    for name, each in list(properties.items()):
        choices = each.get("anyOf", [each])
        if name != "conninfo" and any(choice.get("format") == "password" for choice in choices):
            del properties[name]


def _without_titles(node: Any) -> Any:
    """Return a schema without pydantic's titles, which only repeat the keys."""
    if isinstance(node, dict):
        return {
            key: " ".join(value.split()) if key == "description" and isinstance(value, str) else _without_titles(value)
            for key, value in node.items()
            if key != "title" or not isinstance(value, str)
        }
    return [_without_titles(each) for each in node] if isinstance(node, list) else node


if __name__ == "__main__":
    sys.stdout.write(settings_schema_text())
