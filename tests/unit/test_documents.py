"""What people read is true: commands parse, links lead somewhere, named files exist, examples run, words are plain."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

from consumer.config import load_settings
from consumer.config.resolve import resolve_instruments
from consumer.regions import RegionSettings, contains, get_algorithm
from tests.support.define_visits import DATA
from tests.support.documents import (
    DOCUMENTS,
    ROOT,
    anchors,
    example,
    links,
    names_only,
    parse_command,
    shown_commands,
)
from tests.support.skies import exposure_at

HOW_TO = ROOT / "docs" / "how-to"
UNNATURAL = (
    "set aside|left alone|anew|unwell|strangers?|sightings?|settl(?:e|ed|es|ing)|fores(?:ee|een)|verdicts?|whoever|"
    "somebody|nobody|anybody|standing|claim(?:s|ed|ing)?"
)
"""Words for which the field has others: dead-lettered, unchanged, recreated, unavailable, lease, ..."""


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(document: Path) -> str:
    """Return the text without code, and without the tables of measured figures, whose lines name tests."""
    text = re.sub(r"```.*?```|`[^`]+`", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.sub(r"^\|.*$", "", text, flags=re.MULTILINE) if document.name == "faults.md" else text


def test_all_documents_are_there() -> None:
    names = {name(each) for each in DOCUMENTS}
    assert {
        "README.md",
        "deploy/RUNBOOK.md",
        "docs/quickstart.md",
        "docs/decisions/stream-time.md",
        "docs/how-to/add-a-camera.md",
    } <= names


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_every_command_parses(document: Path) -> None:
    for arguments in shown_commands(document):
        if not names_only(arguments):
            parse_command(arguments)


def test_the_commands_of_the_documents_are_found() -> None:
    found = {name(each): len(shown_commands(each)) for each in DOCUMENTS}
    assert found["deploy/RUNBOOK.md"] > 15
    assert found["docs/quickstart.md"] > 8
    assert found["deploy/README.md"] > 3
    assert ["dead-letters", "discard", "--id", "ID"] in shown_commands(ROOT / "deploy" / "RUNBOOK.md")


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_every_link_leads_somewhere(document: Path) -> None:
    for link in links(document):
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_every_file_that_is_named_exists(document: Path) -> None:
    named = re.findall(r"`((?:consumer|tests|schemas|docs)/[\w/.-]*)`", document.read_text(encoding="utf-8"))
    assert [each for each in named if not (ROOT / each).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_the_words_are_plain(document: Path) -> None:
    assert re.findall(rf"\b(?:{UNNATURAL})\b", prose(document), re.IGNORECASE) == []


def test_the_readme_is_read_in_five_minutes() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 135


def test_the_source_distribution_holds_what_the_readme_links_to() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    shipped = project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert {link.partition("/")[0] for link in links(ROOT / "README.md")} <= set(shipped)


def test_the_example_of_a_grouping_rule_is_the_tested_plugin() -> None:
    page = HOW_TO / "add-a-grouping-rule.md"
    source = (DATA / "plugin_example" / "night_grouping.py").read_text(encoding="utf-8")
    assert example(page, "rule") == re.sub(r"  # noqa:.*$", "", source, flags=re.MULTILINE)
    assert example(page, "package") == (DATA / "plugin_example" / "pyproject.toml").read_text(encoding="utf-8")


def test_the_example_of_a_region_algorithm_computes_regions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = HOW_TO / "add-a-region-algorithm.md"
    (tmp_path / "round_field.py").write_text(example(page, "algorithm"))
    points = tomllib.loads(example(page, "entry point"))["project"]["entry-points"]
    info = tmp_path / "round_field-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: round-field\nVersion: 1.0\n")
    lines = [f"[{group}]\n{key} = {value}\n" for group, each in points.items() for key, value in each.items()]
    (info / "entry_points.txt").write_text("".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "round_field", raising=False)
    algorithm = get_algorithm("round-field", RegionSettings())
    region = algorithm.compute([exposure_at(10.0, -30.0, 0.0)], []).visit
    assert contains(region, 10.0, -30.45)
    assert not contains(region, 10.0, -30.55)
    assert algorithm.fingerprint([]) == "round-field 0.5"


def test_the_example_settings_enable_the_instruments_that_their_comment_names(tmp_path: Path) -> None:
    text = (ROOT / "deploy" / "config.example.yaml").read_text(encoding="utf-8")
    comment = " ".join(re.findall(r"^# (.*)$", text.partition("\ninstruments:")[0].rpartition("\n\n")[2], re.MULTILINE))
    minimal = tmp_path / "minimal.yaml"
    minimal.write_text("kafka: {bootstrap_servers: b}\ndatabase: {conninfo: dbname=v}\n")
    enabled = resolve_instruments(load_settings(minimal, {}))
    assert {each.rule.name for each in enabled.values()} == {"one-to-one"}
    assert [each for each in enabled if not re.search(rf"\b{each}\b", comment)] == []
