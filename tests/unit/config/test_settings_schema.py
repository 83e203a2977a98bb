"""The JSON Schema that editors hold a settings file to: what it takes, the service takes, and the other way round."""

import copy
import json
import re
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
import yaml

from consumer.config import Settings
from consumer.config.keys import all_keys, is_secret, section_of
from deploy.reference.settings_schema import settings_schema, settings_schema_text
from tests.support.documents import ROOT

EXAMPLE = ROOT / "deploy" / "config.example.yaml"
VALIDATOR = jsonschema.Draft202012Validator(settings_schema())


def _example() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    return loaded


def _errors(settings: object) -> list[str]:
    return [each.message for each in VALIDATOR.iter_errors(settings)]


def test_the_schema_has_not_drifted() -> None:
    text = (ROOT / "schemas" / "settings.schema.json").read_text(encoding="utf-8")
    assert text == settings_schema_text(), (
        "run: python -m deploy.reference.settings_schema > schemas/settings.schema.json"
    )
    jsonschema.Draft202012Validator.check_schema(json.loads(text))


def test_the_example_names_it_in_its_first_line_and_keeps_to_it() -> None:
    first = EXAMPLE.read_text(encoding="utf-8").splitlines()[0]
    named = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert named is not None
    assert json.loads((EXAMPLE.parent / named[1]).read_text(encoding="utf-8")) == settings_schema()
    assert _errors(_example()) == []


def test_it_describes_every_key_but_the_secrets() -> None:
    for key in all_keys(Settings):
        node: Any = VALIDATOR.schema
        model: Any = Settings
        for name in key:
            node = _resolved(node)["properties"].get(name)
            field = next(f for n, f in model.model_fields.items() if name in {n, f.alias})
            if is_secret(field) and name != "conninfo":
                assert node is None, f"{'.'.join(key)} is a secret"
                break
            assert node is not None, ".".join(key)
            model = section_of(field) or model
        else:
            assert _resolved(node).get("description") or node.get("description"), ".".join(key)


def _resolved(node: dict[str, Any]) -> dict[str, Any]:
    for each in [node, *node.get("anyOf", []), *node.get("allOf", [])]:
        if "$ref" in each:
            found: dict[str, Any] = VALIDATOR.schema["$defs"][each["$ref"].rsplit("/", 1)[1]]
            return found
    return node


def _unknown_section(settings: dict[str, Any]) -> None:
    settings["kafak"] = {}


def _unknown_key(settings: dict[str, Any]) -> None:
    settings["kafka"]["topic"] = "raw-ingested"


def _secret(settings: dict[str, Any]) -> None:
    settings["database"]["password"] = "as the file would hold it"  # noqa: S105 -- of no server


def _text_for_a_number(settings: dict[str, Any]) -> None:
    settings["batch"] = {"max_messages": "many"}


def _below_the_bound(settings: dict[str, Any]) -> None:
    settings["batch"] = {"max_messages": 0}


def _unknown_choice(settings: dict[str, Any]) -> None:
    settings["log"] = {"level": "loud"}


def _nested(settings: dict[str, Any]) -> None:
    settings["instruments"] = {"LATISS": {"regions": {"pading": 250}}}


@pytest.mark.parametrize(
    "spoil",
    [_unknown_section, _unknown_key, _secret, _text_for_a_number, _below_the_bound, _unknown_choice, _nested],
    ids=lambda each: each.__name__.strip("_"),
)
def test_what_the_service_refuses_is_marked_in_the_editor(spoil: Callable[[dict[str, Any]], None]) -> None:
    settings = copy.deepcopy(_example())
    spoil(settings)
    assert _errors(settings)


def _settings_in_documents() -> dict[str, dict[str, Any]]:
    """Return the settings that documents show, by the document and their number in it."""
    found = {}
    for path in sorted((ROOT / "docs").rglob("*.md")):
        for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)):
            shown = yaml.safe_load(block)
            if isinstance(shown, dict) and shown.keys() <= Settings.model_fields.keys():
                found[f"{path.stem}-{number}"] = shown
    return found


@pytest.mark.parametrize("shown", _settings_in_documents().values(), ids=_settings_in_documents())
def test_the_settings_in_the_documents_keep_to_it(shown: dict[str, Any]) -> None:
    assert _errors(shown) == []
