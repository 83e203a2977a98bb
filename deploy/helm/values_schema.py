"""The chart's values.schema.json, written from values.schema.yaml and the settings' own models.

    python -m deploy.helm.values_schema >deploy/helm/visit-consumer/values.schema.json

So a wrong setting is refused by `helm install`, before a pod starts with it.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from consumer.config import Settings

BASE = Path(__file__).with_name("values.schema.yaml")

_SET_BY_THE_CHART = {
    "DatabaseSettings": ("conninfo",),
    # Probes need the port, on the pod's address.
    "HttpSettings": ("enabled", "host"),
    "ListenSettings": ("host",),
    "PageSettings": ("host",),
}


def values_schema() -> dict[str, Any]:
    """Return the schema of the chart's values as JSON Schema 2020-12."""
    schema: dict[str, Any] = yaml.safe_load(BASE.read_text(encoding="utf-8"))
    settings = Settings.model_json_schema()
    definitions: dict[str, Any] = settings.pop("$defs")
    definitions["Settings"] = settings
    # The chart itself gives the database's address, so the section may be left out.
    settings["required"] = ["kafka"]
    for definition in definitions.values():
        _without_secrets(definition)
    for name, keys in _SET_BY_THE_CHART.items():
        for key in keys:
            del definitions[name]["properties"][key]
    definitions["DatabaseSettings"].pop("required", None)
    for name, key in (
        ("HttpSettings", "port"),
        ("SourceSettings", "http_port"),
        ("ListenSettings", "port"),
        ("ButlerSettings", "http_port"),
        ("PageSettings", "port"),
    ):
        definitions[name]["properties"][key]["minimum"] = 1
    camera = definitions["InstrumentSettings"]["properties"]["camera"]
    camera["anyOf"] = [{"type": camera.pop("type"), "items": camera.pop("items")}, {"type": "string", "minLength": 1}]
    schema["$defs"].update({name: _without_titles(definition) for name, definition in sorted(definitions.items())})
    return schema


def values_schema_text() -> str:
    """Return the schema as the file holds it."""
    return json.dumps(values_schema(), indent=1) + "\n"


def _without_secrets(definition: dict[str, Any]) -> None:
    """Remove the keys that hold secrets: values end in a ConfigMap and in Helm's release."""
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
    sys.stdout.write(values_schema_text())
