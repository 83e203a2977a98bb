"""Every rendered manifest is valid by the schemas of Kubernetes and of the operators, and hardened."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
import kubernetes_validate
import pytest

from tests.deploy.charts import VALUES, Manifest, of_kind, pod_specs, rendered
from tests.deploy.tools import KUBE_VERSIONS, crd_schemas, helm, needed

pytestmark = pytest.mark.timeout(1800)  # the first test may build Helm and fetch schemas

CUSTOM = ("PodMonitor", "PrometheusRule", "ScaledObject", "KafkaTopic", "KafkaUser")
# Strimzi's generator for Java 17 knows v1beta2; our resources are the same in v1, which another test holds.
BETA = "strimzi.apiVersion=kafka.strimzi.io/v1beta2"
SECRET_KEY = re.compile(r"(password|secret|token|credentials?)$", re.IGNORECASE)


@pytest.fixture(autouse=True)
def _helm() -> None:
    needed(helm)


def strict(schema: Any) -> Any:
    """Return a schema that refuses unknown fields, which the API server would silently drop."""
    if isinstance(schema, Mapping):
        made = {key: strict(value) for key, value in schema.items()}
        closed = isinstance(schema.get("properties"), Mapping) and not schema.get(
            "x-kubernetes-preserve-unknown-fields"
        )
        if closed and "additionalProperties" not in schema:
            made["additionalProperties"] = False
        return made
    return [strict(each) for each in schema] if isinstance(schema, list) else schema


@pytest.mark.parametrize("version", KUBE_VERSIONS)
@pytest.mark.parametrize("values", VALUES)
def test_kubernetes_own_resources_are_valid(values: str, version: str) -> None:
    checked = set()
    for manifest in rendered(values):
        if manifest["kind"] not in CUSTOM:
            kubernetes_validate.validate(manifest, version, strict=True)
            checked.add(manifest["kind"])
    assert {"Deployment", "ConfigMap"} <= checked


def test_a_misspelt_field_would_be_noticed() -> None:
    manifest = json.loads(json.dumps(of_kind(rendered("default"), "Deployment")))
    manifest["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, KUBE_VERSIONS[-1], strict=True)


@pytest.mark.parametrize("kind", CUSTOM)
def test_an_operators_resources_are_valid_by_its_own_crd(kind: str) -> None:
    schemas = needed(lambda: crd_schemas(kind))
    found = [each for each in rendered("everything", [BETA]) if each["kind"] == kind]
    assert found
    for manifest in found:
        schema = strict(schemas[manifest["apiVersion"].rpartition("/")[2]])
        schema["properties"]["metadata"] = {"type": "object"}  # the API server checks it, not the CRD
        jsonschema.Draft202012Validator(schema).validate(manifest)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.Draft202012Validator(schema).validate({**manifest, "spec": {**manifest["spec"], "speling": 1}})


@pytest.mark.parametrize("kind", ["KafkaTopic", "KafkaUser"])
def test_strimzis_resources_are_the_same_in_both_of_its_versions(kind: str) -> None:
    def specs(*settings: str) -> list[Any]:
        return [each["spec"] for each in rendered("everything", settings) if each["kind"] == kind]

    assert specs() == specs(BETA) != []


@pytest.mark.parametrize("values", VALUES)
def test_no_pod_is_privileged_or_runs_as_root(values: str) -> None:
    pods = list(pod_specs(rendered(values)))
    assert pods
    for name, spec in pods:
        assert not any(spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")), name
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] > 0, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not any("hostPath" in volume for volume in spec["volumes"]), name
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["privileged"] is False, name
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["readOnlyRootFilesystem"] is True, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name


@pytest.mark.parametrize("values", VALUES)
def test_every_container_has_requests_limits_and_a_pinned_image(values: str) -> None:
    for name, spec in pod_specs(rendered(values)):
        for container in spec["containers"]:
            for kind in ("requests", "limits"):
                assert set(container["resources"][kind]) >= {"cpu", "memory"}, name
            assert re.search(r"(@sha256:[0-9a-f]{64}|:[0-9][^:/]*)$", container["image"]), container["image"]


@pytest.mark.parametrize("values", VALUES)
def test_every_deployment_is_probed_and_has_time_to_shut_down(values: str) -> None:
    commands = {}
    for manifest in rendered(values):
        if manifest["kind"] == "Deployment":
            spec = manifest["spec"]["template"]["spec"]
            (container,) = spec["containers"]
            paths = {
                name: container[f"{name}Probe"]["httpGet"] == {"path": path, "port": "http"}
                for name, path in (("startup", "/healthz"), ("liveness", "/healthz"), ("readiness", "/readyz"))
            }
            assert all(paths.values()), paths
            assert spec["terminationGracePeriodSeconds"] >= 10
            commands[manifest["metadata"]["labels"]["app.kubernetes.io/component"]] = container["args"][:2]
    emitters = {"source": ["emit", "listen"], "scan": ["emit", "scan"]} if values == "everything" else {}
    assert commands == {"consumer": ["run", "--config"], **emitters}


def plain_secrets(node: Any, where: str) -> Iterator[str]:
    """Yield where a value that looks like a secret stands in plain text."""
    if isinstance(node, list):
        for index, each in enumerate(node):
            yield from plain_secrets(each, f"{where}[{index}]")
    elif isinstance(node, dict):
        if SECRET_KEY.search(str(node.get("name", ""))) and isinstance(node.get("value"), str):
            yield f"{where}: environment {node['name']}"
        for key, value in node.items():
            reference = key in {"password", "secret"} and isinstance(value, dict)
            if SECRET_KEY.search(str(key)) and isinstance(value, str) and not reference:
                yield f"{where}.{key}"
            yield from plain_secrets(value, f"{where}.{key}")


@pytest.mark.parametrize("values", VALUES)
def test_no_secret_stands_in_plain_text(values: str) -> None:
    manifests = rendered(values)
    assert not [each for each in manifests if each["kind"] == "Secret"]
    for manifest in manifests:
        assert not list(plain_secrets(manifest, manifest["kind"]))
        for name, text in manifest.get("data", {}).items():
            if name == "config.yaml":
                settings: Manifest = json.loads(text)
                assert not list(plain_secrets(settings, name))
                assert "password=" not in settings["database"]["conninfo"]


def test_a_plain_secret_would_be_noticed() -> None:
    container = {"env": [{"name": "DB_PASSWORD", "value": "hunter2"}], "settings": {"kafka": {"password": "hunter2"}}}
    assert len(list(plain_secrets(container, "pod"))) == 2
