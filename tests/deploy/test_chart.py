"""The chart renders for every set of values, and what it renders is what the service reads."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.charts import (
    CHART,
    NAMESPACE,
    RELEASE,
    VALUES,
    Manifest,
    of_kind,
    pod_specs,
    read_settings,
    rendered,
    run_helm,
    values_options,
)
from tests.deploy.tools import helm, needed

pytestmark = pytest.mark.timeout(1800)  # the first test may build Helm


@pytest.fixture(autouse=True)
def _helm() -> None:
    needed(helm)


@pytest.mark.parametrize("values", VALUES)
def test_helm_lint_finds_nothing_wrong(values: str) -> None:
    answer = run_helm("lint", "--strict", CHART, *values_options(values))
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_a_parent_charts_registry_and_pull_secrets_are_used() -> None:
    settings = (
        "global.imageRegistry=registry.example.org:5000/mirror",
        "global.imagePullSecrets[0]=mirror",
        "global.imagePullSecrets[1].name=other",
        "image.repository=ghcr.io/observatory/visit-consumer",
        "imagePullSecrets[0].name=own",
    )
    specs = dict(pod_specs(rendered("everything", ("image.digest=", *settings))))
    assert len(specs) == 4
    for spec in specs.values():
        images = {each["image"].rpartition(":")[0] for each in spec["containers"]}
        assert images == {"registry.example.org:5000/mirror/observatory/visit-consumer"}
        assert spec["imagePullSecrets"][-3:] == [{"name": "own"}, {"name": "mirror"}, {"name": "other"}]


@pytest.mark.parametrize("values", VALUES)
def test_the_service_accepts_the_settings_that_the_chart_writes(values: str, tmp_path: Path) -> None:
    settings = read_settings(rendered(values), tmp_path)
    assert settings.http.host == "0.0.0.0"  # noqa: S104  # what the pod's probes need
    assert "user=visit_writer" in settings.database.conninfo.get_secret_value()


@pytest.mark.parametrize("values", ["default", "everything"])
def test_the_migration_is_the_owners_and_knows_no_other_secret(values: str, tmp_path: Path) -> None:
    settings = read_settings(rendered(values), tmp_path, "-migrate")
    assert "user=visit_owner" in settings.database.conninfo.get_secret_value()
    assert settings.kafka.security.password_file is None
    assert settings.registry.password_file is None


def test_settings_arrive_as_they_were_given(tmp_path: Path) -> None:
    settings = read_settings(rendered("everything"), tmp_path)
    assert settings.kafka.queue_max_bytes == 134_217_728
    assert settings.batch.max_messages == 1_000_000
    assert settings.database.schema_name == "visits_summit"
    assert settings.instruments["LATISS"].closing.close_after_s == 300
    password = settings.database.current_password()
    assert password is not None
    assert password.get_secret_value() == "postgres-writer/password"
    assert settings.kafka.security.key_file == tmp_path / "kafka" / "user.key"
    assert settings.kafka.security.oauth.client_secret_file == tmp_path / "kafka" / "client-secret"
    assert settings.kafka.security.oauth.client_id == "visits"


def test_as_little_as_possible_is_a_deployment_and_its_settings() -> None:
    assert sorted(each["kind"] for each in rendered("minimal")) == ["ConfigMap", "Deployment"]


def test_a_change_of_settings_restarts_the_pods_and_nothing_else_does() -> None:
    def checksum(*settings: str) -> str:
        template = of_kind(rendered("default", settings), "Deployment")["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/config"])

    assert checksum("config.batch.max_messages=5000") != checksum()
    assert checksum("database.host=other") != checksum()
    assert checksum("replicaCount=5") == checksum()


def test_everything_that_the_migration_needs_exists_before_the_release_does() -> None:
    manifests = rendered("everything")
    hooks = {each["kind"]: each["metadata"] for each in manifests if each["metadata"]["name"].endswith("-migrate")}
    assert set(hooks) == {"Job", "ConfigMap", "NetworkPolicy"}
    for metadata in hooks.values():
        assert metadata["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
        assert metadata["annotations"]["helm.sh/hook-delete-policy"].startswith("before-hook-creation")
    weights = {kind: int(metadata["annotations"]["helm.sh/hook-weight"]) for kind, metadata in hooks.items()}
    assert weights["ConfigMap"] < weights["Job"]
    assert weights["NetworkPolicy"] < weights["Job"]


def test_the_grace_period_must_fit_the_shutdown() -> None:
    answer = run_helm("template", CHART, "--set", "terminationGracePeriodSeconds=12")
    assert answer.returncode != 0
    assert "at least config.shutdown.timeout_s (8) + 5" in answer.stderr


def test_a_secret_in_the_values_environment_is_refused() -> None:
    name = "VISIT_CONSUMER_DATABASE__PASSWORD"
    answer = run_helm("template", CHART, "--set", f"extraEnv[0].name={name}", "--set", "extraEnv[0].value=hunter2")
    assert answer.returncode != 0
    assert f"extraEnv {name}: a secret must not stand in the values" in answer.stderr


def test_the_prometheus_rule_is_the_tested_rule_file() -> None:
    rules = yaml.safe_load((CHART / "rules" / "visit-consumer.yaml").read_text(encoding="utf-8"))
    assert rules["groups"]
    assert of_kind(rendered("everything"), "PrometheusRule")["spec"] == rules


@pytest.mark.parametrize("board", ["service", "night"])
def test_grafanas_sidecar_gets_the_generated_boards(board: str) -> None:
    manifest = of_kind(rendered("everything"), "ConfigMap", f"-board-{board}")
    assert manifest["metadata"]["labels"]["grafana_dashboard"] == "1"
    (content,) = manifest["data"].values()
    assert json.loads(content) == json.loads((CHART / "dashboards" / f"{board}.json").read_text(encoding="utf-8"))


def test_autoscaling_goes_by_our_lag_and_never_to_nothing() -> None:
    manifests = rendered("everything")
    scaled = of_kind(manifests, "ScaledObject")["spec"]
    assert "replicas" not in of_kind(manifests, "Deployment", "visit-consumer")["spec"]
    assert scaled["minReplicaCount"] >= 1
    (trigger,) = scaled["triggers"]
    assert trigger["type"] == "prometheus"
    assert f'visit_consumer_lag_messages{{namespace="{NAMESPACE}"' in trigger["metadata"]["query"]
    assert trigger["metadata"]["threshold"] == "1000000"


def test_the_kafka_user_may_do_what_the_service_does_and_no_more() -> None:
    acls = of_kind(rendered("everything"), "KafkaUser", "visit-consumer")["spec"]["authorization"]["acls"]
    allowed = {(each["resource"]["type"], each["resource"]["name"]): set(each["operations"]) for each in acls}
    reads = {"Read", "Describe", "DescribeConfigs"}
    assert allowed == {
        ("topic", "raw-ingested"): reads | {"Write"},  # replaying dead letters is allowed in these values
        ("topic", "raw-ingested-test"): reads | {"Write"},
        ("group", "visits"): {"Read", "Describe"},
        ("topic", "visit-defined"): {"Write", "Describe"},
    }
    plain = of_kind(rendered("everything", ["strimzi.user.allowReplay=false"]), "KafkaUser", "visit-consumer")
    assert all("Write" not in each["operations"] for each in plain["spec"]["authorization"]["acls"][:2])


def egress(manifest: Manifest) -> list[tuple[set[int], Any]]:
    return [({port["port"] for port in rule["ports"]}, rule.get("to")) for rule in manifest["spec"]["egress"]]


def test_the_network_is_closed_but_for_dns_kafka_postgresql_and_the_named_services() -> None:
    manifests = rendered("everything")
    policy = of_kind(manifests, "NetworkPolicy", f"{RELEASE}-visit-consumer")
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    rules = egress(policy)
    assert [ports for ports, _ in rules] == [{53}, {9093, 9094, 9095}, {8443}, {6432}, {443}]
    assert all(to for _, to in rules)
    assert [ports for ports, _ in egress(of_kind(manifests, "NetworkPolicy", "-migrate"))] == [{53}, {6432}]


def test_without_a_registry_no_rule_opens_the_way_to_one() -> None:
    policy = of_kind(rendered("default"), "NetworkPolicy", f"{RELEASE}-visit-consumer")
    assert [ports for ports, _ in egress(policy)] == [{53}, {9092}, {5432}]


def test_strimzis_numbers_are_written_without_exponents() -> None:
    topic = of_kind(rendered("everything"), "KafkaTopic", "raw-ingested")
    assert topic["spec"]["config"]["retention.ms"] == 2_592_000_000
    assert isinstance(topic["spec"]["config"]["retention.ms"], int)
    assert topic["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
