"""A rule of another distribution is found by name, once it is installed."""

import shutil
import tomllib
from pathlib import Path

import pytest

from consumer.errors import ConfigurationError
from consumer.grouping import ENTRY_POINT_GROUP, get_rule, rule_names
from tests.support.define_visits import DATA
from tests.support.exposures import exposure, group_of

EXAMPLE = DATA / "plugin_example"
NAME = "by-night-and-filter"


def install(site: Path, points: dict[str, str], *, distribution: str = "night_grouping") -> None:
    """Lay files out as an installer does: the module, and the metadata with its entry points."""
    site.mkdir(exist_ok=True)
    shutil.copy(EXAMPLE / "night_grouping.py", site)
    metadata = site / f"{distribution}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    lines = [f"{name} = {value}\n" for name, value in points.items()]
    (metadata / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\n{''.join(lines)}")


@pytest.fixture
def declared() -> dict[str, str]:
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    points: dict[str, str] = project["entry-points"][ENTRY_POINT_GROUP]
    return points


def test_installed_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, declared: dict[str, str]) -> None:
    assert NAME not in rule_names()
    with pytest.raises(ConfigurationError, match="unknown rule"):
        get_rule(NAME)
    install(tmp_path / "site", declared)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert NAME in rule_names()
    rule = get_rule(NAME, group_id="lsst")
    assert rule.name == NAME
    one, other = exposure(1), exposure(2)
    assert rule.key(one) == rule.key(other) == "20261101/r_03"
    (visit,) = rule.define(group_of([other, one], key=rule.key(one)), closed=True).visits
    assert (visit.id, visit.name, visit.exposures) == (one.id, "20261101/r_03", (one, other))


@pytest.mark.parametrize("value", ["no_such_module:make", "night_grouping:no_such", "night_grouping:BY_NIGHT"])
def test_broken_rule_names_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    install(tmp_path / "site", {"broken": value})
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with pytest.raises(ConfigurationError, match="the installed rule 'broken'"):
        get_rule("broken")


def test_two_distributions_with_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", {"twice": "night_grouping:make_rule"})
    install(tmp_path / "site", {"twice": "night_grouping:ByNightAndFilter"}, distribution="other")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with pytest.raises(ConfigurationError, match="more than one"):
        get_rule("twice")


def test_built_in_names_cannot_be_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", {"one-to-one": "night_grouping:make_rule"})
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert get_rule("one-to-one").name == "one-to-one"
