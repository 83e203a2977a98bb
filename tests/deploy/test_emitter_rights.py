"""A Kafka with the rights that the chart gives to an emitter's user, and no more: the emitter works with them."""

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, but not in its __all__
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from consumer.config import KafkaSettings
from consumer.errors import ConfigurationError, TransientError
from consumer.kafka.notification_consumer import NotificationConsumer
from consumer.kafka.properties import connection_properties
from consumer.kafka.whole_topic import create_missing, read_topic
from tests.deploy.charts import of_kind, rendered
from tests.deploy.tools import helm, needed
from tests.support.emitters import RETRY, emitter
from tests.support.jars import JarsUnavailableError
from tests.support.kafka_broker import KafkaCluster
from tests.support.service import Wire, produce, settings_for
from tests.support.sidecars import sidecars, write

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(1800)]  # the first test may build Helm

USER = "source"
PASSWORD = f"s3cret-{secrets.token_hex(8)}"
OPERATIONS = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
}


@pytest.fixture(scope="module")
def brokers() -> Iterator[KafkaCluster]:
    """Start a broker that asks for a right for everything, but of its own listener, where the test is the operator."""
    login = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    properties = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "listener.name.client.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.client.scram-sha-512.sasl.jaas.config": login,
    }
    scram = f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"
    try:
        cluster = KafkaCluster(
            listeners={"CLIENT": "SASL_PLAINTEXT"}, properties=properties, format_arguments=["--add-scram", scram]
        )
    except JarsUnavailableError as error:
        pytest.skip(f"no Apache Kafka: {error}")
    with cluster:
        yield cluster


@pytest.fixture(scope="module")
def rights(brokers: KafkaCluster) -> None:
    """Give the user what the KafkaUser of the chart has, and make the topics that the chart makes."""
    needed(helm)
    manifests = rendered("everything", ["source.kind=notifications"])
    for each in manifests:
        if each["kind"] == "KafkaTopic":
            brokers.create_topic(each["spec"]["topicName"])
    bindings = [
        AclBinding(
            ResourceType[each["resource"]["type"].upper()],
            each["resource"]["name"],
            ResourcePatternType.LITERAL,
            f"User:{USER}",
            "*",
            OPERATIONS[operation],
            AclPermissionType.ALLOW,
        )
        for each in of_kind(manifests, "KafkaUser", "-source")["spec"]["authorization"]["acls"]
        for operation in each["operations"]
    ]
    admin = AdminClient({"bootstrap.servers": brokers.bootstrap})
    for made in admin.create_acls(bindings).values():
        made.result(30)


@pytest.fixture
def kafka(brokers: KafkaCluster, rights: None, tmp_path: Path) -> dict[str, Any]:  # noqa: ARG001  # they are made
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    return {
        "bootstrap_servers": brokers.bootstrap_of("CLIENT"),
        "topics": ["raw-ingested"],
        "security": {
            "protocol": "SASL_PLAINTEXT",
            "username": USER,
            "password_file": str(password),
            "allow_insecure": True,
        },
    }


def count(brokers: KafkaCluster, topic: str) -> int:
    """Count the messages of a topic, as its operator."""
    return len(list(read_topic({"bootstrap.servers": brokers.bootstrap}, topic)))


def test_an_emitter_sends_rejects_waits_and_restarts_with_these_rights(
    brokers: KafkaCluster, kafka: dict[str, Any], tmp_path: Path
) -> None:
    settings = settings_for("", "host=/nowhere dbname=none", kafka=kafka, instruments={"LSSTCam": {}})
    settings["source"] = {"http_port": 0, "retry": {**RETRY, "give_up_s": 600}}
    raws = tmp_path / "raws"
    raws.mkdir()
    good, cut, broken = sidecars(1, ["R22_S11", "R22_S12", "R22_S10"])
    write(raws, good)
    write(raws, cut._replace(content=cut.content[:100]))
    write(raws, broken._replace(content=b"{}"))
    with emitter(tmp_path, settings, "watch", str(raws)) as first:
        first.wait_until(lambda: count(brokers, "raw-ingested") == 1, what="the event")
        first.wait_until(lambda: count(brokers, "raw-rejected") == 1, what="the rejection")
        first.wait_until(lambda: count(brokers, "raw-waiting") > 0, what="the waiting object")
        first.terminate()
    (raws / cut.key).unlink()
    with emitter(tmp_path, settings, "watch", str(raws)) as second:
        second.wait_until(lambda: second.metric("visit_consumer_source_waiting_objects") == 1, what="what waited")
        write(raws, cut)
        second.wait_until(lambda: second.metric("visit_consumer_source_waiting_objects") == 0, what="what came")
        assert second.get("/readyz").status == 200


def test_notifications_are_read_and_acknowledged_with_these_rights(
    brokers: KafkaCluster, kafka: dict[str, Any]
) -> None:
    connection = connection_properties(KafkaSettings.model_validate(kafka))
    group = "visit-consumer-source"
    produce(brokers.bootstrap, [Wire(value=b"{}", key=b"raws/a")], "object-notifications")
    consumer = NotificationConsumer(connection, "object-notifications", group, session_timeout_s=10)
    try:
        found = next(found for _ in range(30) if (found := consumer.poll(10, 1.0)))
        consumer.acknowledge(found[0])
    finally:
        consumer.close()
    admin = AdminClient({"bootstrap.servers": brokers.bootstrap})
    (asked,) = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]).values()
    assert [each.offset for each in asked.result(30).topic_partitions] == [1]


def test_what_the_rights_do_not_cover_is_refused(kafka: dict[str, Any]) -> None:
    connection = connection_properties(KafkaSettings.model_validate(kafka))
    with pytest.raises(TransientError, match="topic raw-ingested cannot be read"):  # it may write there
        list(read_topic(connection, "raw-ingested"))
    with pytest.raises(ConfigurationError, match="topic another is missing, and the brokers refuse to create it"):
        create_missing(connection, {"another": {}})
