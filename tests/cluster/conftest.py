"""One cluster for all checks, with the operators' resource definitions and namespaces that are restricted."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.control_plane import Cluster, cluster
from tests.cluster.programs import kubernetes
from tests.deploy.tools import crd, helm, needed

NODES: dict[str, dict[str, Any]] = {
    "summit-1": {"labels": {"topology.kubernetes.io/zone": "a"}},
    "summit-2": {"labels": {"topology.kubernetes.io/zone": "b"}},
    "arm-1": {"labels": {"kubernetes.io/arch": "arm64", "topology.kubernetes.io/zone": "a"}},
    "spot-1": {"taints": [{"key": "cloud.example.org/spot", "value": "true", "effect": "NoSchedule"}]},
}
_CUSTOM = ("PodMonitor", "PrometheusRule", "ScaledObject", "KafkaTopic", "KafkaUser", "HTTPRoute")


@pytest.fixture(scope="session")
def kube(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Start the cluster."""
    needed(kubernetes)
    needed(helm)
    with cluster(tmp_path_factory.mktemp("cluster"), nodes=NODES) as made:
        made.apply(*(needed(lambda kind=kind: crd(kind)) for kind in _CUSTOM))  # type: ignore[misc] # mypy cannot infer a lambda with a default
        made.apply(
            {
                "apiVersion": "scheduling.k8s.io/v1",
                "kind": "PriorityClass",
                "metadata": {"name": "observing"},
                "value": 1000,
            },
            {
                "apiVersion": "node.k8s.io/v1",
                "kind": "RuntimeClass",
                "metadata": {"name": "gvisor"},
                "handler": "runsc",
            },
        )
        names = [each["metadata"]["name"] for each in (crd(kind) for kind in _CUSTOM)]
        for name in names:
            made.kubectl("wait", "--for=condition=Established", "--timeout=60s", f"customresourcedefinition/{name}")
        yield made


def restricted(one: Cluster, *names: str) -> None:
    """Make namespaces whose pods must keep to the standard `restricted`."""
    label = {f"pod-security.kubernetes.io/{what}": "restricted" for what in ("enforce", "warn", "audit")}
    for name in names:
        one.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": label}})


def namespaces_of(text: str) -> set[str]:
    """Return the namespaces that manifests name."""
    found = (each["metadata"].get("namespace") for each in yaml.safe_load_all(text) if each)
    return {each for each in found if each}


def values_file(folder: Path, **values: Any) -> Path:
    """Write values."""
    path = folder / "values.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path
