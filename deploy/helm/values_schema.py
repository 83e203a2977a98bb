"""The chart's values.schema.json, written from values.schema.yaml and the settings' own models.

    python -m deploy.helm.values_schema >deploy/helm/visit-consumer/values.schema.json

So a wrong setting is refused by `helm install`, before a pod starts with it.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from deploy.reference.settings_schema import file_definitions

BASE = Path(__file__).with_name("values.schema.yaml")

_SET_BY_THE_CHART = {
    "DatabaseSettings": ("conninfo",),
    # Probes need the port, on the pod's address.
    "HttpSettings": ("enabled", "host"),
    "ListenSettings": ("host",),
    "PageSettings": ("host",),
}
_PORTS = (
    ("HttpSettings", "port"),
    ("SourceSettings", "http_port"),
    ("ListenSettings", "port"),
    ("ButlerSettings", "http_port"),
    ("PageSettings", "port"),
)


def values_schema() -> dict[str, Any]:
    """Return the schema of the chart's values as JSON Schema 2020-12."""
    schema: dict[str, Any] = yaml.safe_load(BASE.read_text(encoding="utf-8"))
    definitions = file_definitions()
    # The chart itself gives the database's address, so the section may be left out.
    definitions["Settings"]["required"] = ["kafka"]
    for name, keys in _SET_BY_THE_CHART.items():
        for key in keys:
            del definitions[name]["properties"][key]
    del definitions["DatabaseSettings"]["required"]
    for name, key in _PORTS:
        definitions[name]["properties"][key]["minimum"] = 1
    schema["$defs"].update(definitions)
    return schema


def values_schema_text() -> str:
    """Return the schema as the file holds it."""
    return json.dumps(values_schema(), indent=1) + "\n"


if __name__ == "__main__":
    sys.stdout.write(values_schema_text())
