"""The chart's page: the reader's role, a Service, and an Ingress or a route to it."""

from pathlib import Path

import pytest

from tests.deploy.charts import Manifest, of_kind, read_settings, rendered
from tests.deploy.tools import helm, needed

pytestmark = pytest.mark.timeout(1800)  # the first test may build Helm

PAGE = ("page.enabled=true",)


@pytest.fixture(autouse=True)
def _helm() -> None:
    needed(helm)


def kinds(manifests: list[Manifest]) -> set[str]:
    return {each["kind"] for each in manifests if each["metadata"]["name"].endswith("-page")}


def test_without_the_switch_there_is_none() -> None:
    assert kinds(rendered("default")) == set()
    assert kinds(rendered("default", PAGE)) == {"ConfigMap", "Deployment", "NetworkPolicy", "Service"}


def test_the_page_reads_a_replica_as_the_reader_and_knows_nothing_of_kafka(tmp_path: Path) -> None:
    given = (*PAGE, "page.database.host=replica", "page.database.existingSecret=reader")
    manifests = rendered("everything", given)
    settings = read_settings(manifests, tmp_path, "-page", settings="-page")
    conninfo = settings.database.conninfo.get_secret_value()
    assert "host=replica " in conninfo
    assert "user=visit_reader " in conninfo
    assert "sslcert" not in conninfo
    assert settings.database.current_password() is not None
    assert settings.page.host == "0.0.0.0"  # noqa: S104 -- of a pod
    assert settings.kafka.security.password_file is None
    assert settings.kafka.security.certificate_file is None


def test_the_service_finds_the_pods_of_the_page_alone() -> None:
    manifests = rendered("default", (*PAGE, "config.page.port=9000", "page.service.port=8080"))
    service = of_kind(manifests, "Service", "-page")
    labels = of_kind(manifests, "Deployment", "-page")["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert service["spec"]["selector"]["app.kubernetes.io/component"] == "page"
    assert service["spec"]["ports"] == [{"name": "http", "port": 8080, "targetPort": "http", "protocol": "TCP"}]
    container = of_kind(manifests, "Deployment", "-page")["spec"]["template"]["spec"]["containers"][0]
    assert container["ports"][0]["containerPort"] == 9000


def test_an_ingress_and_a_route() -> None:
    given = (*PAGE, "page.ingress.enabled=true", "page.ingress.host=visits.example.org", "page.ingress.tlsSecret=tls")
    ingress = of_kind(rendered("default", given), "Ingress", "-page")["spec"]
    backend = ingress["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert backend == {"name": "night-visit-consumer-page", "port": {"name": "http"}}
    assert ingress["tls"] == [{"hosts": ["visits.example.org"], "secretName": "tls"}]
    routed = (*PAGE, "page.httpRoute.enabled=true", "page.httpRoute.parentRefs[0].name=public")
    route = of_kind(rendered("default", routed), "HTTPRoute", "-page")["spec"]
    assert route["parentRefs"] == [{"name": "public"}]
    assert route["rules"][0]["backendRefs"] == [{"name": "night-visit-consumer-page", "port": 80}]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("page.ingress.enabled=true", r"page\.ingress\.host: names no host"),
        ("page.httpRoute.enabled=true", r"page\.httpRoute\.parentRefs: names no gateway"),
    ],
)
def test_what_leads_nowhere_is_refused(given: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        rendered("default", (*PAGE, given))


def test_the_policy_opens_the_tables_alone() -> None:
    given = (*PAGE, "networkPolicy.enabled=true", "networkPolicy.pageFrom[0].podSelector.matchLabels.app=ingress")
    policy = of_kind(rendered("default", given), "NetworkPolicy", "-page")["spec"]
    assert {port["port"] for rule in policy["egress"] for port in rule["ports"]} == {53, 5432}
    assert policy["ingress"][0]["from"] == [{"podSelector": {"matchLabels": {"app": "ingress"}}}]
