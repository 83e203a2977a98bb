"""The chart as Helm renders it, and what the checks ask of the result."""

import functools
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from consumer.config import Settings, load_settings
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
MOUNT: Final = "/run/secrets/visit-consumer"
"""Where pods mount their secrets."""

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
        if each["kind"] in {"Deployment", "Job", "CronJob"}:
            spec = each["spec"] if each["kind"] != "CronJob" else each["spec"]["jobTemplate"]["spec"]
            yield f"{each['kind']} {each['metadata']['name']}", spec["template"]["spec"]


def read_settings(
    manifests: Sequence[Manifest], folder: Path, pod: str = "", *, settings: str | None = None
) -> Settings:
    """Load a rendered settings file as a pod would: every file that it names must be one that the pod mounts.

    Parameters
    ----------
    manifests
        Of the chart.
    folder
        Stands for the folder where the pod's secrets are mounted.
    pod
        End of the name of what makes the pod: empty for the consumer, ``-migrate``, ``-source``, ``-scan``.
    settings
        End of the name of the ConfigMap; None: as of the pod.
    """
    spec = next(spec for name, spec in pod_specs(manifests) if name.endswith(f"{RELEASE}-visit-consumer{pod}"))
    for volume in spec["volumes"]:
        for source in volume.get("projected", {}).get("sources", []):
            for item in source["secret"]["items"]:
                path = folder / item["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"{source['secret']['name']}/{item['key']}", encoding="utf-8")
    file = folder / "config.yaml"
    text = settings_file(manifests, pod if settings is None else settings)
    file.write_text(text.replace(MOUNT, str(folder)), encoding="utf-8")
    return load_settings(file, {})


def settings_file(manifests: Sequence[Manifest], suffix: str = "") -> str:
    """Return the settings file that a ConfigMap holds: the consumer's, or with a suffix that of another part."""
    name = f"{RELEASE}-visit-consumer{suffix}"
    found = [each for each in manifests if each["kind"] == "ConfigMap" and each["metadata"]["name"] == name]
    assert len(found) == 1, name
    text: str = found[0]["data"]["config.yaml"]
    return text


__all__ = [
    "CHART",
    "DEPLOY",
    "MOUNT",
    "NAMESPACE",
    "RELEASE",
    "VALUES",
    "Manifest",
    "ToolUnavailableError",
    "of_kind",
    "pod_specs",
    "read_settings",
    "rendered",
    "run_helm",
    "settings_file",
    "values_options",
]
