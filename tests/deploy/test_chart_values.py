"""values.schema.json follows from the settings' models, and refuses wrong values in words that help."""

import pytest

from deploy.helm.values_schema import values_schema_text
from tests.deploy.charts import CHART, run_helm
from tests.deploy.tools import helm, needed

WRONG = {
    "no replica": ("replicaCount=0", "'/replicaCount': minimum: got 0, want 1"),
    "replicas in words": ("replicaCount=two", "'/replicaCount': got string, want integer"),
    "an unknown value": ("replicas=2", "additional properties 'replicas' not allowed"),
    "an unknown setting": ("config.kafka.topic=raws", "'/config/kafka': additional properties 'topic' not allowed"),
    "a password among the settings": (
        "config.database.password=hunter2",
        "'/config/database': additional properties 'password' not allowed",
    ),
    "a connection string with a password": (
        "config.database.conninfo=postgresql://u:p@db/visits",
        "'/config/database': additional properties 'conninfo' not allowed",
    ),
    "a setting out of its range": (
        "config.breaker.max_bad_fraction=2",
        "'/config/breaker/max_bad_fraction': maximum: got 2, want 1",
    ),
    "a setting of the wrong type": ("config.http.port=web", "'/config/http/port': got string, want integer"),
    "an unknown choice": ("config.log.level=loud", "'/config/log/level': value must be one of 'debug', 'info'"),
    "an unknown protocol": ("config.kafka.security.protocol=TLS", "value must be one of 'PLAINTEXT', 'SSL'"),
    "a digest that is none": ("image.digest=latest", "'/image/digest': 'latest' does not match pattern"),
    "a container without a limit of memory": (
        "resources.limits.memory=null",
        "'/resources/limits': missing property 'memory'",
    ),
    "pods that run as root": (
        "podSecurityContext.runAsNonRoot=false",
        "'/podSecurityContext/runAsNonRoot': value must be",
    ),
    "user 0": ("podSecurityContext.runAsUser=0", "'/podSecurityContext/runAsUser': minimum: got 0, want 1"),
    "scaling to nothing": ("keda.minReplicas=0", "'/keda/minReplicas': minimum: got 0, want 1"),
    "a Secret that is no name": (
        "database.existingSecret=Postgres Secret",
        "'/database/existingSecret': 'Postgres Secret' does not match pattern",
    ),
    "an unknown sslmode": ("database.sslmode=on", "'/database/sslmode': value must be one of 'disable'"),
}


def test_the_schema_follows_from_the_settings_models() -> None:
    assert (CHART / "values.schema.json").read_text(encoding="utf-8") == values_schema_text(), (
        "run: python -m deploy.helm.values_schema > deploy/helm/visit-consumer/values.schema.json"
    )


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_value_is_refused_by_name(case: str) -> None:
    needed(helm)
    setting, message = WRONG[case]
    answer = run_helm("template", CHART, "--set", setting)
    assert answer.returncode != 0, f"{setting} was accepted"
    assert message in answer.stderr


@pytest.mark.timeout(1800)
def test_what_parent_charts_and_phalanx_set_is_accepted() -> None:
    needed(helm)
    answer = run_helm("template", CHART, "--set", "global.host=a.example.org,global.vaultSecretsPath=secret/x")
    assert answer.returncode == 0, answer.stderr
