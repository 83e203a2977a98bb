"""The page that leads from nothing to a release: its values render, and its commands name what there is."""

import functools
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from consumer.config import Settings
from tests.deploy.charts import CHART, Manifest, pod_specs, read_settings, run_helm
from tests.deploy.tools import helm, needed
from tests.support.documents import ROOT

GUIDE = (ROOT / "docs" / "how-to" / "run-it-on-kubernetes.md").read_text(encoding="utf-8")
(VALUES,) = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL))
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL)
    for line in block.strip().splitlines()
]
PROGRAMS = {"psql", "visit-consumer", "kafka-topics.sh", "kubectl", "helm"}
RELEASE = "visit-consumer"

pytestmark = pytest.mark.timeout(1800)  # the first test may build Helm


@pytest.fixture(autouse=True)
def _helm() -> None:
    needed(helm)


@functools.cache
def _rendered(folder: Path, release: str) -> list[Manifest]:
    values = folder / "values.yaml"
    values.write_text(yaml.safe_dump(VALUES), encoding="utf-8")
    answer = run_helm("template", release, CHART, "--namespace", "visits", "--values", values)
    assert answer.returncode == 0, answer.stderr
    return [each for each in yaml.safe_load_all(answer.stdout) if each]


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    return _rendered(tmp_path_factory.mktemp("guide"), RELEASE)


def of(program: str, *begin: str) -> list[list[str]]:
    """Return the guide's commands that begin so, without what they begin with."""
    prefix = [program, *begin]
    return [words[len(prefix) :] for words in COMMANDS if words[: len(prefix)] == prefix]


def test_no_command_is_of_another_program() -> None:
    assert {words[0] for words in COMMANDS} == PROGRAMS


def test_the_helm_commands_work_as_far_as_they_go_without_a_cluster(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(VALUES), encoding="utf-8")
    lint, upgrade = of("helm")
    assert (lint[0], upgrade[0]) == ("lint", "upgrade")
    paths = {"values.yaml": str(values), "deploy/helm/visit-consumer": str(CHART)}
    template = ["template", *upgrade[2 : upgrade.index("--wait")]]
    for words in (lint, template):
        answer = run_helm(*(paths.get(word, word) for word in words))
        assert answer.returncode == 0, answer.stdout + answer.stderr


def test_the_secrets_that_it_makes_are_those_that_the_pods_need(manifests: list[Manifest]) -> None:
    made = {}
    for words in of("kubectl", "-n", "visits", "create"):
        kind = "secret" if words[:2] == ["secret", "generic"] else words[0]
        assert kind in {"secret", "configmap"}
        name, option = words[-2:]
        match = re.fullmatch(r"--from-file=([\w.-]+)=[\w.-]+", option)
        assert match is not None
        made[kind, name] = {match[1]}
    assert _needed_by(manifests) == made


def _needed_by(manifests: list[Manifest]) -> dict[tuple[str, str], set[str]]:
    """Return the keys that pods take, by kind and name, of what the chart does not make itself."""
    own = {each["metadata"]["name"] for each in manifests if each["kind"] == "ConfigMap"}
    found: dict[tuple[str, str], set[str]] = {}
    for _, spec in pod_specs(manifests):
        sources: list[dict[str, Any]] = [*spec["volumes"]]
        for volume in spec["volumes"]:
            sources += volume.get("projected", {}).get("sources", [])
        for each in sources:
            if "secret" in each:
                secret = each["secret"]
                keys = found.setdefault(("secret", secret.get("name") or secret["secretName"]), set())
                keys |= {item["key"] for item in secret["items"]}
            elif "configMap" in each and each["configMap"]["name"] not in own:
                found.setdefault(("configmap", each["configMap"]["name"]), set()).add("butler.yaml")
        for variable in (each for container in spec["containers"] for each in container.get("env", [])):
            if (key := variable.get("valueFrom", {}).get("secretKeyRef")) is not None:
                found.setdefault(("secret", key["name"]), set()).add(key["key"])
    return found


def test_kubectl_names_what_the_release_has(manifests: list[Manifest]) -> None:
    there = {(each["kind"].lower(), each["metadata"]["name"]) for each in manifests}
    verbs = {"get", "create", "logs", "exec", "port-forward"}
    for words in of("kubectl"):
        verb = words[2] if words[:2] == ["-n", "visits"] else words[0]
        assert verb in verbs, words
        for word in words:
            if match := re.fullmatch(r"(deployment|service|job)/([\w-]+)", word):
                assert (match[1], match[2]) in there, word
    (forward,) = of("kubectl", "-n", "visits", "port-forward")
    (port,) = (
        each["spec"]["ports"][0]["port"]
        for each in manifests
        if each["kind"] == "Service" and each["metadata"]["name"] == forward[0].removeprefix("service/")
    )
    assert forward[1].partition(":")[2] == str(port)


def test_the_topics_are_those_of_the_settings(tmp_path: Path) -> None:
    settings: Settings = read_settings(_rendered(tmp_path, "night"), tmp_path)
    made = {}
    for words in of("kafka-topics.sh"):
        options: dict[str, list[str]] = {}
        rest = [word for word in words if word != "--create"]
        for name, value in zip(rest[::2], rest[1::2], strict=True):
            assert name in {"--bootstrap-server", "--topic", "--partitions", "--config"}
            options.setdefault(name, []).append(value)
        made[options["--topic"][0]] = options.get("--config", [])
    assert settings.announce.topic is not None
    assert made.keys() == {*settings.kafka.topics, settings.announce.topic, "raw-rejected", "raw-waiting"}
    assert made["raw-waiting"] == ["cleanup.policy=compact"]
    assert "message.timestamp.type=LogAppendTime" in made["raw-ingested"]


def test_the_roles_that_log_in_are_those_of_the_values() -> None:
    altered = {
        match[1] for words in of("psql") for word in words if (match := re.match(r"ALTER ROLE (\w+) LOGIN", word))
    }
    with_password = {m[1] for words in of("psql") for word in words if (m := re.match(r"\\password (\w+)", word))}
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    users = {values["database"]["user"], values["database"]["ownerUser"], values["page"]["database"]["user"]}
    assert altered == with_password == users
