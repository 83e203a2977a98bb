"""The operator's guide names files and values that exist, and commands that the tools accept."""

import re
from pathlib import Path

import pytest
import yaml

from consumer.config import Settings
from consumer.config.keys import all_keys
from tests.deploy.charts import CHART, DEPLOY, VALUES, run_helm
from tests.deploy.tools import helm, needed

GUIDE = (DEPLOY / "README.md").read_text(encoding="utf-8")
EXAMPLE = yaml.safe_load((DEPLOY / "helm" / "example-values.yaml").read_text(encoding="utf-8"))
SOURCE_EXAMPLE = yaml.safe_load((DEPLOY / "helm" / "example-source-values.yaml").read_text(encoding="utf-8"))


def test_every_link_of_the_guide_leads_to_a_file() -> None:
    links = re.findall(r"\]\(([^)#]+?)\)", GUIDE)
    assert len(links) > 8
    missing = [link for link in links if not (DEPLOY / link).exists()]
    assert not missing


def test_the_secrets_that_the_guide_makes_are_those_that_the_example_names() -> None:
    made = set(re.findall(r"create secret generic (\S+)", GUIDE))
    sections = [EXAMPLE["database"], EXAMPLE["kafka"]]
    sections += [each for each in SOURCE_EXAMPLE["source"].values() if isinstance(each, dict)]
    named = {value for section in sections for key, value in section.items() if key.lower().endswith("secret")}
    assert made == named


def test_every_value_that_the_guide_names_exists() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    named = set(
        re.findall(
            r"`((?:strimzi|keda|podMonitor|prometheusRule|dashboards|networkPolicy|image|source)\.[A-Za-z.]+)`", GUIDE
        )
    )
    assert len(named) > 8
    for name in named:
        node = values
        for part in name.split("."):
            assert part in node, name
            node = node[part]


def test_every_setting_that_the_guide_names_exists() -> None:
    named = set(re.findall(r"`config\.([a-z_]+\.[a-z_.]+)", GUIDE))
    assert len(named) > 6
    assert named <= {".".join(key) for key in all_keys(Settings)}


@pytest.mark.timeout(1800)
def test_the_guides_helm_commands_work_as_far_as_they_go_without_a_cluster(tmp_path: Path) -> None:
    needed(helm)
    values = tmp_path / "values.yaml"
    example = VALUES["example"]
    assert example is not None
    values.write_text(example.read_text(encoding="utf-8"), encoding="utf-8")
    commands = re.findall(r"^helm (.+)$", GUIDE, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["lint", "upgrade", "upgrade"]
    source_values = tmp_path / "source-values.yaml"
    source_values.write_text(yaml.safe_dump(SOURCE_EXAMPLE), encoding="utf-8")
    paths = {"values.yaml": values, "source-values.yaml": source_values, "deploy/helm/visit-consumer": CHART}
    for command in commands:
        arguments = [str(paths.get(word, word)) for word in command.split()]
        if arguments[0] == "upgrade":  # the same release, without a cluster to send it to
            arguments = ["template", *arguments[2 : arguments.index("--wait")]]
        answer = run_helm(*arguments)
        assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.timeout(1800)
def test_the_release_of_the_guide_is_called_as_its_commands_call_it() -> None:
    needed(helm)
    options = ["--namespace", "visits", "--values", str(VALUES["example"])]
    options += ["--values", str(DEPLOY / "helm" / "example-source-values.yaml")]
    text = run_helm("template", "visit-consumer", CHART, *options).stdout
    names = {(each["kind"], each["metadata"]["name"]) for each in yaml.safe_load_all(text) if each}
    assert ("Deployment", "visit-consumer") in names
    assert ("Job", "visit-consumer-migrate") in names
    for kind, name in re.findall(r"\b(deployment|job)/([a-z-]+)", GUIDE):
        assert (kind.capitalize(), name) in names
