"""The chart as Helm renders it, and what the checks ask of the result."""

import functools
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from tests.deploy.tools import KUBE_VERSIONS, ToolUnavailableError, helm

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
CHART: Final = DEPLOY / "helm" / "visit-consumer"
VALUES: Final[Mapping[str, Path | None]] = {
    "default": None,
    "minimal": Path(__file__).parent / "values" / "minimal.yaml",
    "example": DEPLOY / "helm" / "example-values.yaml",
    "everything": Path(__file__).parent / "values" / "everything.yaml",
}
RELEASE: Final = "night"
NAMESPACE: Final = "visits"

Manifest = dict[str, Any]


def run_helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run Helm and return its answer, whatever the exit code; no cluster is asked."""
    command = [str(helm()), *map(str, arguments), "--kube-version", f"{KUBE_VERSIONS[-1]}.0"]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


def values_options(name: str) -> list[str]:
    """Return Helm's options for one of our sets of values."""
    path = VALUES[name]
    return [] if path is None else ["--values", str(path)]


@functools.cache
def _rendered_text(name: str, settings: tuple[str, ...]) -> str:
    options = [option for setting in settings for option in ("--set", setting)]
    answer = run_helm("template", RELEASE, CHART, "--namespace", NAMESPACE, *values_options(name), *options)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def rendered(name: str, settings: Sequence[str] = ()) -> list[Manifest]:
    """Return the manifests for a set of values, with single values set besides."""
    return [each for each in yaml.safe_load_all(_rendered_text(name, tuple(settings))) if each]


def of_kind(manifests: Sequence[Manifest], kind: str, suffix: str = "") -> Manifest:
    """Return the one manifest of a kind whose name ends so."""
    found = [each for each in manifests if each["kind"] == kind and each["metadata"]["name"].endswith(suffix)]
    assert len(found) == 1, f"{len(found)} of kind {kind} end in {suffix!r}"
    return found[0]


def pod_specs(manifests: Sequence[Manifest]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the pods that manifests make, with the name of what makes them."""
    for each in manifests:
        if each["kind"] in {"Deployment", "Job"}:
            yield f"{each['kind']} {each['metadata']['name']}", each["spec"]["template"]["spec"]


def settings_file(manifests: Sequence[Manifest], suffix: str = "") -> str:
    """Return the settings file that a ConfigMap holds: the consumer's, or with a suffix the migration's."""
    name = f"{RELEASE}-visit-consumer{suffix}"
    found = [each for each in manifests if each["kind"] == "ConfigMap" and each["metadata"]["name"] == name]
    assert len(found) == 1, name
    text: str = found[0]["data"]["config.yaml"]
    return text


__all__ = [
    "CHART",
    "DEPLOY",
    "NAMESPACE",
    "RELEASE",
    "VALUES",
    "Manifest",
    "ToolUnavailableError",
    "of_kind",
    "pod_specs",
    "rendered",
    "run_helm",
    "settings_file",
    "values_options",
]
