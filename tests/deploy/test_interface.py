"""The AsyncAPI document follows from the schemas, and is valid by AsyncAPI's own schema."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import jsonschema
import pytest
import yaml

from deploy.reference.asyncapi import asyncapi_document, asyncapi_text
from tests.deploy.tools import asyncapi_schema, needed

SCHEMAS = Path(__file__).parents[2] / "schemas"


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for each in node.values():
            yield from references(each)
    elif isinstance(node, list):
        for each in node:
            yield from references(each)


def test_the_asyncapi_document_follows_from_the_schemas() -> None:
    assert (SCHEMAS / "asyncapi.yaml").read_text(encoding="utf-8") == asyncapi_text(), (
        "run: python -m deploy.reference.asyncapi > schemas/asyncapi.yaml"
    )


def test_the_asyncapi_document_is_valid_by_asyncapis_schema() -> None:
    schema = needed(lambda: asyncapi_schema("3.0.0"))
    validator = jsonschema.Draft7Validator(schema)
    document = yaml.safe_load((SCHEMAS / "asyncapi.yaml").read_text(encoding="utf-8"))
    validator.validate(document)
    broken = copy.deepcopy(document)
    broken["operations"]["sendVisitDefined"]["action"] = "shout"
    assert not validator.is_valid(broken)


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = asyncapi_document()
    found = list(references(document))
    assert len(found) == 11
    for reference in found:
        node: Any = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


@pytest.mark.parametrize(
    ("channel", "name"),
    [
        ("raw_ingested", "raw_ingested"),
        ("raw_ingested", "exposure_ingested"),
        ("visit_defined", "visit_defined"),
    ],
)
def test_the_asyncapi_document_holds_the_avro_schema_itself(channel: str, name: str) -> None:
    document = asyncapi_document()
    message = "".join(part.capitalize() for part in name.split("_"))
    assert message in document["channels"][channel]["messages"]
    payload = document["components"]["messages"][message]["payload"]["schema"]
    assert payload == json.loads((SCHEMAS / f"{name}.avsc").read_text(encoding="utf-8"))
    fastavro.parse_schema(payload)
