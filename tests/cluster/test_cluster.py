"""What a cluster's people do with the chart, one step after the other."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.conftest import namespaces_of, restricted, values_file
from tests.cluster.control_plane import Cluster, ClusterError
from tests.cluster.programs import KUBERNETES
from tests.deploy.charts import CHART, NAMESPACE, RELEASE, VALUES
from tests.deploy.test_chart_clusters import CLUSTERS
from tests.deploy.test_manifests import BETA

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]

NAME = f"{RELEASE}-visit-consumer"
LEFT_ALONE = {("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")}
PARTS: dict[str, tuple[dict[str, Any], set[tuple[str, str]]]] = {
    "page": (
        {"page": {"enabled": True, "ingress": {"enabled": True, "host": "visits.example.org"}}},
        {("Deployment", f"{NAME}-page"), ("Ingress", f"{NAME}-page")},
    ),
    "source": (
        {
            "source": {"enabled": True, "kind": "watch"},
            "config": {"source": {"folders": [{"path": "/data"}]}},
        },
        {("Deployment", f"{NAME}-source")},
    ),
    "butlerSink": (
        {"butlerSink": {"enabled": True}, "config": {"butler": {"repository": "/repo/butler.yaml"}}},
        {("Deployment", f"{NAME}-butler-sink")},
    ),
    "audit": ({"audit": {"enabled": True}}, {("CronJob", f"{NAME}-audit")}),
    "podMonitor": ({"podMonitor": {"enabled": True}}, {("PodMonitor", NAME)}),
    "prometheusRule": ({"prometheusRule": {"enabled": True}}, {("PrometheusRule", NAME)}),
    "dashboards": ({"dashboards": {"enabled": True}}, {("ConfigMap", f"{NAME}-board-night")}),
}
KINDS = (
    "Deployment", "CronJob", "Job", "Pod", "Service", "Ingress", "ConfigMap", "ServiceAccount", "NetworkPolicy",
    "PodDisruptionBudget", "PodMonitor", "PrometheusRule", "ScaledObject", "KafkaTopic", "KafkaUser", "HTTPRoute",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _namespace(kube: Cluster) -> None:
    restricted(kube, NAMESPACE)


def _there(kube: Cluster, namespace: str = NAMESPACE) -> set[tuple[str, str]]:
    found = kube.objects(",".join(KINDS), namespace=namespace)
    return {(each["kind"], each["metadata"]["name"]) for each in found}


def _release(kube: Cluster, verb: str, *options: str | Path, name: str = RELEASE, namespace: str = NAMESPACE) -> str:
    where = ("--namespace", namespace, "--wait", "--timeout", "120s", "--set", BETA)
    return kube.helm(verb, name, CHART, *where, *options)


def _template(kube: Cluster, namespace: str, values: Path) -> str:
    where = ("--namespace", namespace, "--kube-version", KUBERNETES, "--set", BETA)
    return kube.helm("template", RELEASE, CHART, *where, "--values", values)


def _until(ready: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + 60
    while not ready():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.3)


def _deployments(kube: Cluster, namespace: str = NAMESPACE) -> Iterator[tuple[str, int, int]]:
    for each in kube.objects("deployments", namespace=namespace):
        yield each["metadata"]["name"], each["spec"]["replicas"], each["status"].get("availableReplicas", 0)


def _wanted(kube: Cluster) -> int:
    return next(wanted for name, wanted, _ in _deployments(kube) if name == NAME)


def _available(kube: Cluster) -> int:
    return next(available for name, _, available in _deployments(kube) if name == NAME)


def _all_available(kube: Cluster, namespace: str = NAMESPACE) -> None:
    """Wait for it: a pod counts as available some time after it is ready, which Helm does not wait for."""

    def ready() -> bool:
        found = list(_deployments(kube, namespace))
        return bool(found) and all(wanted == available > 0 for _, wanted, available in found)

    _until(ready, f"all of {namespace} is available")


def test_install(kube: Cluster) -> None:
    _release(kube, "install")
    _all_available(kube)
    assert not [each for each in _there(kube) if each[0] == "Job"], "the migration that succeeded is gone"


def test_every_pod_keeps_to_the_standard_restricted(kube: Cluster) -> None:
    privileged = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "privileged", "namespace": NAMESPACE},
        "spec": {"containers": [{"name": "one", "image": "one"}]},
    }
    with pytest.raises(ClusterError, match="violates PodSecurity"):
        kube.apply(privileged)
    events = [each.get("message", "") for each in kube.objects("events", namespace=NAMESPACE)]
    assert not [each for each in events if "PodSecurity" in each]


def test_an_upgrade_to_everything_and_back(kube: Cluster) -> None:
    everything = VALUES["everything"]
    assert everything is not None
    secondary = namespaces_of(_template(kube, NAMESPACE, everything)) - {NAMESPACE}
    restricted(kube, *sorted(secondary))
    for path in (everything, None):
        _release(kube, "upgrade", *(["--values", path] if path else ["--reset-values"]))
        _all_available(kube)


@pytest.mark.parametrize("part", PARTS)
def test_an_optional_part_comes_and_goes(kube: Cluster, part: str, tmp_path: Path) -> None:
    values, expected = PARTS[part]
    before = {each for each in _there(kube) if each[0] != "Pod"}
    _release(kube, "upgrade", "--reset-values", "--values", values_file(tmp_path, **values))
    _all_available(kube)
    assert expected <= _there(kube) - before
    _release(kube, "upgrade", "--reset-values")
    _until(lambda: {each for each in _there(kube) if each[0] != "Pod"} == before, f"{part} is gone")


def test_a_migration_that_fails_changes_nothing_that_runs(kube: Cluster, tmp_path: Path) -> None:
    before = kube.objects("deployments", namespace=NAMESPACE)[0]["spec"]
    # It finds no node, and is over when its time is.
    failing = values_file(
        tmp_path, migration={"activeDeadlineSeconds": 10, "backoffLimit": 0}, nodeSelector={"none": "here"}
    )
    with pytest.raises(ClusterError, match="pre-upgrade hooks failed"):
        _release(kube, "upgrade", "--reset-values", "--values", failing)
    assert kube.objects("deployments", namespace=NAMESPACE)[0]["spec"] == before
    _all_available(kube)
    assert ("Job", f"{NAME}-migrate") in _there(kube), "the Job that failed stays, for its log"
    _release(kube, "upgrade", "--reset-values")
    assert ("Job", f"{NAME}-migrate") not in _there(kube)


def test_a_rollback(kube: Cluster) -> None:
    history = json.loads(kube.helm("history", RELEASE, "--namespace", NAMESPACE, "--output", "json"))
    _release(kube, "upgrade", "--reset-values", "--set", "replicaCount=4", "--set-string", "podAnnotations.changed=yes")
    assert _wanted(kube) == 4
    good = str(history[-1]["revision"])
    kube.helm("rollback", RELEASE, good, "--namespace", NAMESPACE, "--wait", "--timeout", "120s")
    assert _wanted(kube) == 2
    _all_available(kube)


def test_no_more_pods_are_evicted_than_the_budget_allows(kube: Cluster) -> None:
    nodes = [each["metadata"]["name"] for each in kube.objects("nodes")]
    # Those of a former revision take their time to go
    _until(lambda: len(_pods(kube)) == 2, "two pods")
    for node in nodes:
        kube.kubectl("cordon", node)  # what takes a pod's place then waits
    try:
        pods = _pods(kube)
        _evict(kube, pods[0])
        with pytest.raises(ClusterError, match="disruption budget"):
            _evict(kube, pods[1])
    finally:
        for node in nodes:
            kube.kubectl("uncordon", node)
    _until(lambda: all(w == a for _, w, a in _deployments(kube)), "both run again")


def _pods(kube: Cluster) -> list[str]:
    found = kube.objects("pods", namespace=NAMESPACE)
    return [each["metadata"]["name"] for each in found if "deletionTimestamp" not in each["metadata"]]


def _evict(kube: Cluster, pod: str) -> None:
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": NAMESPACE},
    }
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction"
    kube.kubectl("create", "--raw", path, "--filename", "-", stdin=json.dumps(eviction))


def test_keda_finds_what_it_scales_and_takes_nothing_down(kube: Cluster) -> None:
    kube.kubectl("scale", f"deployment/{NAME}", "--replicas=3", "--namespace", NAMESPACE)
    _until(lambda: _available(kube) == 3, "three replicas")
    seen = []
    _release(kube, "upgrade", "--reset-values", "--set", "keda.enabled=true")
    seen.append(_available(kube))
    (scaled,) = kube.objects("scaledobjects", namespace=NAMESPACE)
    target = scaled["spec"]["scaleTargetRef"]
    kind = target.get("kind", "Deployment")
    found = kube.get(kind, target["name"], namespace=NAMESPACE)
    assert found["metadata"]["name"] == NAME
    # As KEDA's autoscaler does it.
    change = json.dumps({"spec": {"replicas": 5}})
    kube.kubectl(
        "patch", kind, NAME, "--namespace", NAMESPACE, "--subresource=scale", "--type=merge", "--patch", change
    )
    _until(lambda: _available(kube) == 5, "five replicas")
    _release(kube, "upgrade", "--reset-values", "--set", "keda.enabled=true", "--set-string", "podAnnotations.more=yes")
    seen.append(_wanted(kube))
    assert seen == [3, 5]
    _release(kube, "upgrade", "--reset-values")


def test_uninstalling_leaves_nothing(kube: Cluster) -> None:
    kube.helm("uninstall", RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout", "120s")
    _until(lambda: _there(kube) == LEFT_ALONE, "all is gone")


def test_a_second_apply_by_the_server_changes_nothing(kube: Cluster) -> None:
    """As Argo CD does it: what the chart renders is applied by the server, under a manager of its own."""
    restricted(kube, "argo")
    path = next(each for each in CLUSTERS if each.stem == "argo-cd")
    text = _template(kube, "argo", path)
    kept = [each for each in yaml.safe_load_all(text) if each and each["kind"] != "Job"]
    names = [(each["kind"], each["metadata"]["name"]) for each in kept]
    versions = []
    for _ in range(2):
        apply = (
            "apply",
            "--server-side",
            "--field-manager=argocd-controller",
            "--namespace",
            "argo",
            "--filename",
            "-",
        )
        kube.kubectl(*apply, stdin=text)
        versions.append(
            {
                (kind, name): kube.get(kind, name, namespace="argo")["metadata"].get("generation", 0)
                for kind, name in names
            }
        )
    assert versions[0] == versions[1]
    without_job = yaml.safe_dump_all(kept)
    diff = ("diff", "--server-side", "--field-manager=argocd-controller", "--namespace", "argo", "--filename", "-")
    assert kube.kubectl(*diff, stdin=without_job) == ""


@pytest.mark.parametrize("path", CLUSTERS, ids=lambda each: each.stem)
def test_a_real_cluster_s_values_install(kube: Cluster, path: Path) -> None:
    namespace = f"values-{path.stem}"
    text = _template(kube, namespace, path)
    restricted(kube, namespace, *sorted(namespaces_of(text) - {namespace}))
    # Topics outlive the release that made them, and are no other's then
    kube.kubectl("delete", "kafkatopics", "--all", "--all-namespaces")
    if path.stem == "second-release":
        _release(kube, "install", name="first", namespace=namespace)
    _release(kube, "install", "--values", path, namespace=namespace)
    _all_available(kube, namespace)
    kube.helm("uninstall", RELEASE, "--namespace", namespace, "--wait", "--timeout", "120s")
