"""The committed boards: as generated, and whole. Whether their queries give data is asked in test_prometheus.py."""

import itertools
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from consumer.errors import DeadLetterReason
from deploy.dashboards.__main__ import FOLDER, boards
from tests.deploy.boards import board, panels
from tests.deploy.tools import GRAFANA_VERSIONS, grafana_types, needed

NAMES = ("service", "night")
DATASOURCES = {"service": "prometheus", "night": "grafana-postgresql-datasource"}
BUILT_IN = {"__rate_interval", "__range"}


@pytest.mark.parametrize("name", NAMES)
def test_a_committed_board_is_as_generated(name: str) -> None:
    assert (FOLDER / f"{name}.json").read_text() == boards()[f"{name}.json"].json(), "run python -m deploy.dashboards"


def test_the_command_finds_drift(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; import deploy.dashboards.__main__ as main;"
        f"main.FOLDER = Path({str(tmp_path)!r}); sys.argv[1:] = sys.argv[1].split(); sys.exit(main.main())"
    )

    def run(arguments: str) -> int:
        root = Path(__file__).parents[2]
        return subprocess.run(
            [sys.executable, "-c", script, arguments], check=False, cwd=root, capture_output=True
        ).returncode

    assert run("--check") == 1
    assert run("") == 0
    assert run("--check") == 0
    (tmp_path / "night.json").write_text((tmp_path / "night.json").read_text().replace("Pointings", "Points"))
    assert run("--check") == 1


@pytest.mark.parametrize("name", NAMES)
def test_panels_have_ids_of_their_own_and_do_not_overlap(name: str) -> None:
    everything = board(name)["panels"]
    ids = [panel["id"] for panel in everything]
    assert len(set(ids)) == len(ids) > 10
    taken: dict[tuple[int, int], str] = {}
    for panel in everything:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for cell in itertools.product(
            range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        ):
            assert cell not in taken, f"{panel['title']} lies over {taken.get(cell)}"
            taken[cell] = panel["title"]


@pytest.mark.parametrize("name", NAMES)
def test_every_row_of_panels_is_filled_to_the_right(name: str) -> None:
    everything = board(name)["panels"]
    for line in {panel["gridPos"]["y"] for panel in everything}:
        across = [p["gridPos"] for p in everything if p["gridPos"]["y"] <= line < p["gridPos"]["y"] + p["gridPos"]["h"]]
        assert sum(place["w"] for place in across) == 24, f"a hole at line {line}"


@pytest.mark.parametrize("name", NAMES)
def test_every_panel_says_what_it_shows_and_in_which_unit(name: str) -> None:
    for panel in panels(name):
        assert panel["title"]
        assert len(panel["description"]) > 10, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs), panel["title"]
    titles = [panel["title"] for panel in panels(name)]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("name", NAMES)
def test_every_query_goes_to_the_data_source_that_the_reader_chose(name: str) -> None:
    source = board(name)
    choice = next(v for v in source["templating"]["list"] if v["name"] == "datasource")
    assert (choice["type"], choice["query"]) == ("datasource", DATASOURCES[name])
    expected = {"type": DATASOURCES[name], "uid": "${datasource}"}
    assert all(panel["datasource"] == expected for panel in panels(name))
    queried = [v for v in source["templating"]["list"] if v["type"] == "query"]
    assert queried
    assert all(variable["datasource"] == expected for variable in queried)


@pytest.mark.parametrize("name", NAMES)
def test_every_variable_in_a_query_is_one_of_the_board(name: str) -> None:
    source = board(name)
    known = {variable["name"] for variable in source["templating"]["list"]}
    texts = [t.get("expr") or t["rawSql"] for panel in panels(name) for t in panel["targets"]]
    texts += [v["query"] for v in source["templating"]["list"] if v["type"] == "query"]
    used = set(re.findall(r"\$\{?(\w+)", " ".join(texts)))
    assert used <= known | BUILT_IN
    assert known <= used | {"datasource"}, "a variable that no query uses"


@pytest.mark.parametrize("name", NAMES)
def test_boards_are_found_and_cannot_be_changed_by_hand(name: str) -> None:
    source = board(name)
    assert source["uid"] == f"visit-consumer-{name}"
    assert source["tags"] == ["visit-consumer"]
    assert source["editable"] is False
    assert source["timezone"] == "utc"


def test_columns_that_panels_name_are_columns_of_their_queries() -> None:
    for panel in panels("night"):
        selected = panel["targets"][0]["rawSql"]
        for column in _named_columns(panel):
            assert column in selected, f"{panel['title']}: no column {column}"


def _named_columns(panel: Mapping[str, Any]) -> list[str]:
    columns = [each["matcher"]["options"] for each in panel["fieldConfig"]["overrides"]]
    if panel["type"] == "barchart":
        columns.append(panel["options"]["xField"])
    for step in panel.get("transformations", ()):
        columns += step["options"].get("fields", [])
    return columns


def test_the_runbook_explains_every_reason_of_a_dead_letter() -> None:
    runbook = (Path(__file__).parents[2] / "deploy" / "RUNBOOK.md").read_text()
    assert [reason for reason in DeadLetterReason if f"`{reason}`" not in runbook] == []


# Enumerations of TypeScript are their values in JSON.
_TYPES = """
import type { Dashboard } from "@grafana/schema";
type Json<T> = T extends string ? `${T}`
    : T extends number ? number
    : T extends (infer U)[] ? Json<U>[]
    : T extends object ? { [K in keyof T]: Json<T[K]> }
    : T;
export const board: Json<Dashboard> = """


def _compiled(version: str, text: str, folder: Path) -> str:
    """Return what the compiler says of a board, held to Grafana's own types."""
    installed = needed(lambda: grafana_types(version))
    (folder / "board.ts").write_text(f"{_TYPES}{text};\n", encoding="utf-8")
    (folder / "node_modules").symlink_to(installed / "node_modules")
    compiler = ["node", str(installed / "node_modules" / "typescript" / "bin" / "tsc"), "--noEmit", "--strict"]
    options = ["--skipLibCheck", "--moduleResolution", "bundler", "--module", "esnext", "board.ts"]
    done = subprocess.run([*compiler, *options], cwd=folder, check=False, capture_output=True, text=True, timeout=120)
    return done.stdout


@pytest.mark.parametrize("version", GRAFANA_VERSIONS)
@pytest.mark.parametrize("name", NAMES)
def test_a_board_keeps_to_the_types_that_grafana_publishes(name: str, version: str, tmp_path: Path) -> None:
    assert _compiled(version, json.dumps(board(name)), tmp_path) == ""


@pytest.mark.parametrize(("good", "bad"), [('"refresh"', '"refesh"'), ('"absolute"', '"absolut"')])
def test_what_grafana_does_not_know_would_be_noticed(good: str, bad: str, tmp_path: Path) -> None:
    text = json.dumps(board("night"))
    assert good in text
    assert "error TS" in _compiled(GRAFANA_VERSIONS[0], text.replace(good, bad), tmp_path)
