"""The chart's emitters: their settings, secrets, network and rights; what they do not need, they do not have."""

from pathlib import Path
from typing import Any

import pytest

from tests.deploy.charts import CHART, MOUNT, RELEASE, Manifest, of_kind, pod_specs, read_settings, rendered, run_helm
from tests.deploy.tools import helm, needed

pytestmark = pytest.mark.timeout(1800)  # the first test may build Helm

NAME = f"{RELEASE}-visit-consumer"
WATCH = ("source.enabled=true", "source.kind=watch", "config.source.folders[0].path=/data/raws")
NOTIFIED = ("source.enabled=true", "config.source.buckets.raws.prefixes[0]=raw/")


@pytest.fixture(autouse=True)
def _helm() -> None:
    needed(helm)


def container(manifests: list[Manifest], component: str) -> dict[str, Any]:
    """Return the one container of an emitter."""
    (found,) = next(spec for name, spec in pod_specs(manifests) if name.endswith(f"-{component}"))["containers"]
    return dict(found)


def secrets(manifests: list[Manifest], component: str) -> set[str]:
    """Return the paths, below the mount, of the secrets that a pod has."""
    spec = next(spec for name, spec in pod_specs(manifests) if name == f"Deployment {NAME}{component}")
    projected = [volume["projected"]["sources"] for volume in spec["volumes"] if "projected" in volume]
    return {item["path"] for sources in projected for each in sources for item in each["secret"]["items"]}


@pytest.mark.parametrize("values", ["default", "minimal", "example"])
def test_there_is_no_emitter_unless_it_is_asked_for(values: str) -> None:
    assert [each for each in rendered(values) if each["metadata"]["name"].endswith(("-source", "-scan"))] == []


@pytest.mark.parametrize("pod", ["-source", "-scan"])
def test_an_emitter_accepts_the_settings_that_the_chart_writes(pod: str, tmp_path: Path) -> None:
    settings = read_settings(rendered("everything"), tmp_path, pod, settings="-source")
    source = settings.source
    assert list(source.buckets) == ["rubin-summit"]
    assert source.emits == "exposure"
    assert (source.listen.host, source.listen.port) == ("0.0.0.0", 8090)  # noqa: S104  # what the Service needs
    token = source.listen.current_token()
    assert token is not None
    assert token.get_secret_value() == "notifications-token/token"
    assert settings.http.host == "0.0.0.0"  # noqa: S104  # what the probes need
    assert settings.kafka.security.certificate_file == tmp_path / "kafka" / "user.crt"
    assert settings.kafka.security.certificate_file.read_text() == "visits-source/user.crt"
    assert "user=visit_reader" in settings.database.conninfo.get_secret_value()
    assert set(settings.instruments) == {"LSSTCam", "LATISS", "Mine"}


def test_an_emitter_has_the_secrets_that_it_needs_and_no_other() -> None:
    manifests = rendered("everything")
    kafka = {f"kafka/{name}" for name in ("ca.crt", "user.crt", "user.key", "client-secret")}
    emitters = kafka | {"s3/credentials", "s3/ca.crt", "source/token", "database/ca.crt"}
    assert secrets(manifests, "-source") == emitters
    assert secrets(manifests, "-scan") == emitters | {"database/password"}
    assert not {path for path in secrets(manifests, "") if path.startswith(("s3", "source"))}


def test_credentials_of_the_store_are_found_as_amazons_tools_find_them() -> None:
    environment = {each["name"]: each.get("value") for each in container(rendered("everything"), "source")["env"]}
    assert environment["AWS_SHARED_CREDENTIALS_FILE"] == f"{MOUNT}/s3/credentials"
    assert environment["AWS_CA_BUNDLE"] == f"{MOUNT}/s3/ca.crt"
    assert "VISIT_CONSUMER_DATABASE__PASSWORD_FILE" not in environment
    plain = {each["name"] for each in container(rendered("default", NOTIFIED), "source")["env"]}
    assert not {name for name in plain if name.startswith("AWS")}


def test_the_scan_asks_for_the_last_days_of_its_bucket_again_and_again() -> None:
    scan = container(rendered("everything"), "scan")
    assert scan["args"][:7] == ["emit", "scan", "s3://rubin-summit", "--days", "2", "--every", "10m"]
    environment = {each["name"]: each.get("value") for each in scan["env"]}
    assert environment["VISIT_CONSUMER_DATABASE__PASSWORD_FILE"] == f"{MOUNT}/database/password"


@pytest.mark.parametrize(
    ("settings", "kind", "ports"),
    [
        (NOTIFIED, "notifications", {"http": 8081}),
        ((*NOTIFIED, "source.kind=listen"), "listen", {"http": 8081, "listen": 8082}),
        (WATCH, "watch", {"http": 8081}),
    ],
)
def test_each_kind_runs_its_command_behind_a_service(
    settings: tuple[str, ...], kind: str, ports: dict[str, int]
) -> None:
    manifests = rendered("default", settings)
    emitter = container(manifests, "source")
    assert emitter["args"][:2] == ["emit", kind]
    assert {each["name"]: each["containerPort"] for each in emitter["ports"]} == ports
    service = of_kind(manifests, "Service", "-source")["spec"]
    assert {each["targetPort"]: each["port"] for each in service["ports"]} == ports
    labels = of_kind(manifests, "Deployment", "-source")["spec"]["template"]["metadata"]["labels"]
    assert service["selector"].items() <= labels.items()
    consumer = of_kind(manifests, "Deployment", NAME)["spec"]["template"]["metadata"]["labels"]
    assert not service["selector"].items() <= consumer.items()


def test_a_change_of_the_emitters_values_does_not_restart_the_consumer() -> None:
    def checksum(component: str, *settings: str) -> str:
        template = of_kind(rendered("everything", settings), "Deployment", component)["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/config"])

    change = "source.scan.databaseUser=another"
    assert checksum("-source", change) != checksum("-source")
    assert checksum(NAME, change) == checksum(NAME)


def egress(manifest: Manifest) -> list[tuple[set[int], Any]]:
    return [({port["port"] for port in rule["ports"]}, rule.get("to")) for rule in manifest["spec"]["egress"]]


def test_the_network_of_emitters_is_closed_but_for_what_they_read_and_write() -> None:
    policy = of_kind(rendered("everything"), "NetworkPolicy", "-source")
    rules = egress(policy)
    assert [ports for ports, _ in rules] == [{53}, {9093, 9094, 9095}, {8443}, {9443}, {6432}]
    assert all(to for _, to in rules)
    ingress = {rule["ports"][0]["port"]: rule["from"] for rule in policy["spec"]["ingress"]}
    assert ingress["listen"] == [{"ipBlock": {"cidr": "10.1.2.5/32"}}]
    assert set(ingress) == {"http", "listen"}
    (components,) = policy["spec"]["podSelector"]["matchExpressions"]
    assert components["values"] == ["source", "scan"]


def test_a_watched_folder_needs_neither_store_nor_database() -> None:
    policy = of_kind(rendered("default", WATCH), "NetworkPolicy", "-source")
    assert [ports for ports, _ in egress(policy)] == [{53}, {9092}]
    assert [rule["ports"][0]["port"] for rule in policy["spec"]["ingress"]] == ["http"]
    amazon = of_kind(rendered("default", NOTIFIED), "NetworkPolicy", "-source")
    assert [ports for ports, _ in egress(amazon)] == [{53}, {9092}, {443}]


def test_the_emitters_user_may_do_what_emitters_do_and_no_more() -> None:
    def allowed(*settings: str) -> dict[tuple[str, str], set[str]]:
        user = of_kind(rendered("everything", settings), "KafkaUser", "-source")
        acls = user["spec"]["authorization"]["acls"]
        return {(each["resource"]["type"], each["resource"]["name"]): set(each["operations"]) for each in acls}

    listening = {
        ("topic", "raw-ingested"): {"Write", "Describe"},
        ("topic", "raw-rejected"): {"Read", "Write", "Describe"},
        ("topic", "raw-waiting"): {"Read", "Write", "Describe"},
        ("group", "visit-consumer-reads-whole-topic"): {"Describe"},
    }
    assert allowed() == listening
    assert allowed("source.kind=notifications") == listening | {
        ("topic", "object-notifications"): {"Read", "Describe"},
        ("group", "visit-consumer-source"): {"Read", "Describe"},
    }


def test_the_topics_of_emitters_come_with_them() -> None:
    def topics(*settings: str) -> dict[str, Any]:
        found = [each for each in rendered("everything", settings) if each["kind"] == "KafkaTopic"]
        return {each["spec"]["topicName"]: each["spec"]["config"] for each in found}

    with_emitters = topics()
    assert with_emitters["raw-waiting"]["cleanup.policy"] == "compact"
    assert set(with_emitters) - set(topics("source.enabled=false")) == {
        "raw-waiting",
        "raw-rejected",
        "object-notifications",
    }


def test_prometheus_scrapes_emitters_too() -> None:
    (components,) = of_kind(rendered("everything"), "PodMonitor")["spec"]["selector"]["matchExpressions"]
    assert components["values"] == ["consumer", "source", "scan"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("source.enabled=true", "source.kind is notifications, and config.source.buckets names none"),
        ("source.enabled=true,source.kind=watch", "source.kind is watch, and config.source.folders names none"),
        ("source.kind=poll", "'/source/kind': value must be one of 'notifications', 'listen', 'watch'"),
        ("config.source.listen.token=hunter2", "'/config/source/listen': additional properties 'token' not allowed"),
        ("config.source.bucket.raws=x", "'/config/source': additional properties 'bucket' not allowed"),
        ("source.scan.url=file:///etc", "'/source/scan/url': 'file:///etc' does not match pattern"),
        ("strimzi.sourceUser.enabled=true", "strimzi.cluster: name the Kafka resource that the emitter's user"),
    ],
)
def test_wrong_values_are_refused_by_name(settings: str, message: str) -> None:
    answer = run_helm("template", NAME, CHART, "--set", settings)
    assert answer.returncode != 0, f"{settings} was accepted"
    assert message in answer.stderr
