"""Values as other people's clusters need them: each renders, is valid for Kubernetes, and gives settings that load."""

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy.charts import (
    CHART,
    MOUNT,
    NAMESPACE,
    RELEASE,
    Manifest,
    of_kind,
    pod_specs,
    read_settings,
    rendered,
    run_helm,
)
from tests.deploy.test_manifests import CUSTOM
from tests.deploy.tools import KUBE_VERSIONS, helm, needed

pytestmark = pytest.mark.timeout(1800)  # the first test may build Helm

CLUSTERS = sorted((Path(__file__).parent / "values" / "clusters").glob("*.yaml"))


@pytest.fixture(autouse=True)
def _helm() -> None:
    needed(helm)


@functools.cache
def _rendered_text(path: Path) -> str:
    answer = run_helm("template", RELEASE, CHART, "--namespace", NAMESPACE, "--values", path)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def of_cluster(name: str) -> list[Manifest]:
    (path,) = (each for each in CLUSTERS if each.stem == name)
    return [each for each in yaml.safe_load_all(_rendered_text(path)) if each]


def containers(manifests: list[Manifest], field: str = "containers") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, spec in pod_specs(manifests):
        for each in spec.get(field, []):
            yield name, each


def test_there_are_twenty() -> None:
    assert len(CLUSTERS) == 20


@pytest.mark.parametrize("name", [each.stem for each in CLUSTERS])
def test_it_renders_what_kubernetes_and_the_service_accept(name: str, tmp_path: Path) -> None:
    manifests = of_cluster(name)
    (path,) = (each for each in CLUSTERS if each.stem == name)
    lint = run_helm("lint", "--strict", CHART, "--values", path)
    assert lint.returncode == 0, lint.stdout + lint.stderr
    for manifest in manifests:
        if manifest["kind"] not in CUSTOM:
            kubernetes_validate.validate(manifest, KUBE_VERSIONS[-1], strict=True)
    names = [(each["kind"], each["metadata"]["name"]) for each in manifests]
    assert len(names) == len(set(names))
    if name not in ("second-release", "vault-sidecar"):  # the names, and the mounts, are their own
        read_settings(manifests, tmp_path)
    for _, spec in pod_specs(manifests):
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        mounts = {m["name"] for each in spec["containers"] for m in each.get("volumeMounts", [])}
        assert mounts <= {each["name"] for each in spec["volumes"]}


def test_every_pod_comes_from_the_mirror_with_its_secret() -> None:
    for name, spec in pod_specs(of_cluster("air-gapped")):
        assert spec["imagePullSecrets"] == [{"name": "harbor"}], name
    images = {each["image"] for _, each in containers(of_cluster("air-gapped"))}
    assert len(images) == 1
    assert images.pop().startswith("harbor.example.org/mirror/visit-consumer/visit-consumer@sha256:")


def test_openshift_chooses_the_users() -> None:
    for _, spec in pod_specs(of_cluster("openshift")):
        assert set(spec["securityContext"]) == {"runAsNonRoot", "seccompProfile"}


def test_a_sidecar_of_jobs_too_runs_beside_each_container_and_may_reach_its_server() -> None:
    manifests = of_cluster("vault-sidecar")
    with_agent = {name for name, each in containers(manifests, "initContainers") if each["restartPolicy"] == "Always"}
    assert with_agent == {f"Deployment {RELEASE}-visit-consumer", f"CronJob {RELEASE}-visit-consumer-audit"}
    for policy in (each for each in manifests if each["kind"] == "NetworkPolicy"):
        assert 8200 in {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}


def test_a_migration_has_nothing_that_the_release_has_still_to_bring() -> None:
    everything = dict(pod_specs(rendered("everything")))[f"Job {RELEASE}-visit-consumer-migrate"]
    assert {each["name"] for each in everything["volumes"]} == {"config", "secrets", "tmp"}
    assert [each["name"] for each in everything["containers"][0]["env"]] == ["VISIT_CONSUMER_CONFIG"]


def test_client_certificates_come_from_their_secrets(tmp_path: Path) -> None:
    manifests = of_cluster("cloudnativepg")
    for pod, secret in (("", "visits-writer-cert"), ("-migrate", "visits-owner-cert")):
        settings = read_settings(manifests, tmp_path, pod)
        conninfo = settings.database.conninfo.get_secret_value()
        for key, file, source in (("sslcert", "user.crt", "tls.crt"), ("sslkey", "user.key", "tls.key")):
            assert f"{key}={tmp_path}/database/{file}" in conninfo
            assert (tmp_path / "database" / file).read_text(encoding="utf-8") == f"{secret}/{source}"
    text = json.dumps(of_kind(of_cluster("rook-source"), "ConfigMap", "-source"))
    assert "sslcert" not in text


def test_the_primary_is_found_among_several_hosts(tmp_path: Path) -> None:
    conninfo = read_settings(of_cluster("several-hosts"), tmp_path).database.conninfo.get_secret_value()
    assert "host=pg-0.pg.svc,pg-1.pg.svc,pg-2.pg.svc" in conninfo
    assert "target_session_attrs=read-write" in conninfo


def test_a_store_s_keys_come_from_a_bucket_claim() -> None:
    for name, each in containers(of_cluster("rook-source")):
        found = {e["name"]: e for e in each["env"]}
        emitter = name.endswith(("-source", "-scan"))
        assert ("AWS_SECRET_ACCESS_KEY" in found) is emitter
        if emitter:
            reference = found["AWS_ACCESS_KEY_ID"]["valueFrom"]["secretKeyRef"]
            assert reference == {"name": "raws-bucket", "key": "AWS_ACCESS_KEY_ID"}
        assert ("envFrom" in each) is not name.endswith("-migrate")


def test_labels_and_annotations_are_where_they_are_asked_for() -> None:
    manifests = of_cluster("argo-cd")
    assert all(each["metadata"]["labels"]["team"] == "summit" for each in manifests)
    for each in manifests:
        if each["metadata"]["name"].endswith("-migrate"):
            annotations = each["metadata"]["annotations"]
            assert annotations["argocd.argoproj.io/sync-wave"] == "-1"
            assert annotations["helm.sh/hook-delete-policy"] == "before-hook-creation"
    selector = of_kind(manifests, "Deployment")["spec"]["selector"]["matchLabels"]
    assert "team" not in selector
    deployments = [each for each in of_cluster("log-shipper") if each["kind"] == "Deployment"]
    assert all(each["metadata"]["annotations"] == {"example.org/owner": "summit"} for each in deployments)


def test_pods_have_what_their_nodes_and_networks_need() -> None:
    for _, spec in pod_specs(of_cluster("gvisor")):
        assert (spec["runtimeClassName"], spec["dnsPolicy"]) == ("gvisor", "None")
        assert spec["dnsConfig"]["nameservers"] == ["10.0.0.53"]
        assert spec["hostAliases"][0]["hostnames"] == ["kafka-1.summit.example.org"]
    for _, spec in pod_specs(of_cluster("arm-nodes")):
        assert spec["topologySpreadConstraints"][0]["whenUnsatisfiable"] == "DoNotSchedule"
    for name, spec in pod_specs(of_cluster("log-shipper")):
        beside = [each["name"] for each in spec["containers"][1:]]
        assert beside == (["vector"] if name.startswith("Deployment") else [])
    budget = of_kind(of_cluster("spot-nodes"), "PodDisruptionBudget")["spec"]
    assert (budget["minAvailable"], "maxUnavailable" in budget) == (1, False)
    (endpoint,) = of_kind(of_cluster("keda"), "PodMonitor")["spec"]["podMetricsEndpoints"]
    assert endpoint["relabelings"][0]["action"] == "labeldrop"
    assert endpoint["metricRelabelings"][0]["action"] == "drop"


def test_two_releases_in_one_namespace_share_nothing() -> None:
    first, second = of_cluster("external-secrets"), of_cluster("second-release")

    def names(manifests: list[Manifest]) -> set[tuple[str, str]]:
        return {(each["kind"], each["metadata"]["name"]) for each in manifests}

    assert not names(first) & names(second)


def test_what_succeeded_of_a_migration_is_removed_unless_it_is_to_be_kept() -> None:
    hooks = [each for each in rendered("default") if each["metadata"]["name"].endswith("-migrate")]
    policies = {each["metadata"]["annotations"]["helm.sh/hook-delete-policy"] for each in hooks}
    assert len(hooks) == 3
    assert policies == {"before-hook-creation,hook-succeeded"}


def test_the_audit_is_a_job_of_each_day_with_the_tables_secret_alone(tmp_path: Path) -> None:
    manifests = rendered("everything", ["audit.enabled=true", "audit.fix=true"])
    job = of_kind(manifests, "CronJob")["spec"]
    assert (job["schedule"], job["timeZone"], job["concurrencyPolicy"]) == ("0 16 * * *", "Etc/UTC", "Forbid")
    (container,) = job["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["args"][:4] == ["audit", "--last-night", "--exit-zero", "--fix"]
    settings = read_settings(manifests, tmp_path, "-audit")
    assert settings.announce.topic == "visit-defined"
    assert set(settings.instruments) == {"LSSTCam", "LATISS", "Mine"}
    sources = [each for each in job["jobTemplate"]["spec"]["template"]["spec"]["volumes"] if each["name"] == "secrets"]
    assert {each["secret"]["name"] for each in sources[0]["projected"]["sources"]} == {"postgres-writer", "postgres-ca"}
    policy = of_kind(manifests, "NetworkPolicy", "-audit")["spec"]
    assert {port["port"] for rule in policy["egress"] for port in rule["ports"]} == {53, 6432}
    assert "ingress" not in policy
    assert "Ingress" in policy["policyTypes"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("config.kafka.security.mechanism=AWS_MSK_IAM", "'/config/kafka/security/mechanism': value must be one of"),
        ("commonLabels.app\\.kubernetes\\.io/name=other", "invalid propertyName 'app.kubernetes.io/name'"),
        ("audit.schedule=daily", "'/audit/schedule': 'daily' does not match pattern"),
        ("database.targetSessionAttrs=master", "'/database/targetSessionAttrs': value must be one of"),
        ("extraContainers[0].name=x", "'/extraContainers/0': missing property 'image'"),
        ("podDisruptionBudget.minAvailable=half", "'/podDisruptionBudget/minAvailable'"),
    ],
)
def test_what_cannot_be_is_refused_by_name(values: str, message: str) -> None:
    answer = run_helm("template", CHART, "--set", values)
    assert answer.returncode != 0, f"{values} was accepted"
    assert message in answer.stderr


def test_paths_of_secrets_are_below_one_mount() -> None:
    """What a pod is given as a file stands below one folder, which it mounts where it has any."""
    for name, spec in pod_specs(rendered("everything", ["audit.enabled=true"])):
        mounted = {m["mountPath"] for each in spec["containers"] for m in each["volumeMounts"]}
        assert (MOUNT in mounted) is any(each["name"] == "secrets" for each in spec["volumes"]), name
