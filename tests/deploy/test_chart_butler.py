"""The chart's Butler sink: a Deployment of its own, with the tables' secret, the registry's, and nothing of Kafka."""

from pathlib import Path

import pytest

from tests.deploy.charts import of_kind, read_settings, rendered
from tests.deploy.test_chart_sources import container
from tests.deploy.tools import helm, needed

pytestmark = pytest.mark.timeout(1800)  # the first test may build Helm

SINK = ("butlerSink.enabled=true", "config.butler.repository=s3://butler/repo/butler.yaml")


@pytest.fixture(autouse=True)
def _helm() -> None:
    needed(helm)


def test_without_the_switch_there_is_none() -> None:
    assert [each for each in rendered("default") if each["metadata"]["name"].endswith("-butler-sink")] == []


def test_the_sink_reads_settings_without_kafka(tmp_path: Path) -> None:
    settings = read_settings(rendered("everything", SINK), tmp_path, "-butler-sink", settings="-butler-sink")
    assert settings.butler.repository == "s3://butler/repo/butler.yaml"
    assert settings.database.current_password() is not None
    assert settings.kafka.security.certificate_file is None


def test_the_registrys_credentials_come_from_a_secret() -> None:
    given = (*SINK, "butlerSink.credentialsSecret=registry")
    environment = {each["name"]: each for each in container(rendered("default", given), "butler-sink")["env"]}
    reference = environment["LSST_DB_AUTH_CREDENTIALS"]["valueFrom"]["secretKeyRef"]
    assert reference == {"name": "registry", "key": "db-auth.json"}
    plain = {each["name"] for each in container(rendered("default", SINK), "butler-sink")["env"]}
    assert "LSST_DB_AUTH_CREDENTIALS" not in plain


def test_the_policy_opens_the_tables_and_the_registry() -> None:
    given = (*SINK, "networkPolicy.enabled=true", "butlerSink.registryPort=5433")
    policy = of_kind(rendered("default", given), "NetworkPolicy", "-butler-sink")
    ports = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
    assert ports == {53, 5432, 5433}


def test_a_sink_without_a_repository_is_refused() -> None:
    with pytest.raises(AssertionError, match=r"config\.butler\.repository names no repository"):
        rendered("default", ("butlerSink.enabled=true",))
