"""SASL OAUTHBEARER towards Kafka: tokens from an identity server, checked by the broker against its public key."""

import os
import re
import secrets
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from consumer.config import KafkaSettings
from consumer.kafka.properties import connection_properties, consumer_properties
from consumer.kafka.source import KafkaSource
from consumer.model import PartitionId
from tests.support.certificates import Authority
from tests.support.exposures import exposure
from tests.support.jars import JarsUnavailableError
from tests.support.kafka_broker import KafkaCluster
from tests.support.postgres import PostgresServer
from tests.support.service import Replica, prepare_database, produce, raws_of, settings_for
from tests.support.tables import total_read
from tests.support.token_endpoint import AUDIENCE, ISSUER, TokenEndpoint
from tests.support.waiting import give_up_at

pytestmark = pytest.mark.kafka

CLIENT, SECRET, WRONG_SECRET = "visit-consumer", *(f"s3cret-{secrets.token_hex(8)}" for _ in range(2))
LIFETIME_S = 5
"""Of a token: so short that librdkafka, which looks once a second whether one is due, now and then renews a connection
with what is left of the old one. The broker takes no second token within a second; then the client connects anew."""
CLIENTS_OF_A_REPLICA = 4
"""The member of the group, two that ask about logs, and who announces: each has a token of its own."""
_OAUTHBEARER = "org.apache.kafka.common.security.oauthbearer"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"), "authority")


@pytest.fixture(scope="module")
def endpoint(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenEndpoint]:
    folder = tmp_path_factory.mktemp("identity")
    with TokenEndpoint(folder, authority.issue("identity"), CLIENT, SECRET, lifetime_s=LIFETIME_S) as running:
        yield running


@pytest.fixture(scope="module")
def brokers(authority: Authority, endpoint: TokenEndpoint) -> Iterator[KafkaCluster]:
    """One broker that lets in whoever has a good token, for as long as the token is good."""
    keys = endpoint.jwks_file.as_uri()
    tls, sasl = "listener.name.identified.ssl", "listener.name.identified.oauthbearer"
    properties = {
        f"{tls}.keystore.type": "PEM",
        f"{tls}.keystore.location": str(authority.issue("kafka").both),
        "listener.name.identified.sasl.enabled.mechanisms": "OAUTHBEARER",
        f"{sasl}.sasl.jaas.config": f"{_OAUTHBEARER}.OAuthBearerLoginModule required;",
        f"{sasl}.sasl.server.callback.handler.class": f"{_OAUTHBEARER}.OAuthBearerValidatorCallbackHandler",
        f"{sasl}.sasl.oauthbearer.expected.audience": AUDIENCE,
        f"{sasl}.sasl.oauthbearer.expected.issuer": ISSUER,
        f"{sasl}.sasl.oauthbearer.clock.skew.seconds": "1",
        # Without a bound a connection outlives its token.
        f"{sasl}.connections.max.reauth.ms": "3600000",
        f"{sasl}.sasl.oauthbearer.jwks.endpoint.url": keys,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JDK_JAVA_OPTIONS", f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={keys}")
        try:
            cluster = KafkaCluster(listeners={"IDENTIFIED": "SASL_SSL"}, properties=properties)
        except JarsUnavailableError as error:
            if os.environ.get("REQUIRE_APACHE_KAFKA") == "1":
                pytest.fail(f"REQUIRE_APACHE_KAFKA=1, but: {error}")
            pytest.skip(f"no Apache Kafka: {error}")
        with cluster:
            cluster.create_topic("visit-defined")
            yield cluster


def kafka_settings(brokers: KafkaCluster, endpoint: TokenEndpoint, authority: Authority, topic: str) -> dict[str, Any]:
    """Make the settings of a client, but for its secret."""
    oauth = {
        "token_endpoint_url": endpoint.url,
        "ca_file": str(authority.file),
        "client_id": CLIENT,
        "scope": "events",
    }
    return {
        "bootstrap_servers": brokers.bootstrap_of("IDENTIFIED"),
        "topics": [topic],
        "group": topic,
        # The group waits for a thread that is late with a token.
        "session_timeout_s": 10,
        "security": {
            "protocol": "SASL_SSL",
            "mechanism": "OAUTHBEARER",
            "ca_file": str(authority.file),
            "oauth": oauth,
        },
    }


class Serving(NamedTuple):
    """A service that was let in and has read everything so far."""

    replica: Replica
    endpoint: TokenEndpoint
    brokers: KafkaCluster
    dsn: str
    topic: str

    def produce_and_read(self, number: int) -> None:
        """Append events of one more exposure, and wait until its visit is announced."""
        before = total_read(self.dsn)
        produce(self.brokers.bootstrap, raws_of([exposure(number)], range(8)), self.topic)
        self.replica.wait_until(lambda: total_read(self.dsn) == before + 8, what="new events", timeout_s=40)
        self.replica.wait_until(lambda: self.announced() == (number,), what="an announcement", timeout_s=40)

    def announced(self) -> tuple[Any, ...] | None:
        """Count what the brokers have acknowledged."""
        with psycopg.connect(self.dsn) as connection:
            return connection.execute("SELECT count(*) FROM visits.outbox WHERE sent_at IS NOT NULL").fetchone()

    def until_renewed(self, times: int) -> None:
        """Wait until every client has had a new token so often."""
        goal = self.endpoint.issued + times * CLIENTS_OF_A_REPLICA
        self.replica.wait_until(lambda: self.endpoint.issued >= goal, what="new tokens")


@pytest.fixture
def serving(
    brokers: KafkaCluster, endpoint: TokenEndpoint, authority: Authority, postgres18: PostgresServer, tmp_path: Path
) -> Iterator[Serving]:
    topic = f"identified-{secrets.token_hex(4)}"
    brokers.create_topic(topic)
    kafka = kafka_settings(brokers, endpoint, authority, topic)
    secret_file = tmp_path / "client-secret"
    secret_file.write_text(SECRET)
    kafka["security"]["oauth"]["client_secret_file"] = str(secret_file)
    with postgres18.database(prepare_database) as dsn:
        settings = settings_for(
            brokers.bootstrap, dsn, kafka=kafka, announce={"topic": "visit-defined"}, log={"level": "debug"}
        )
        with Replica(tmp_path, settings) as replica:
            made = Serving(replica, endpoint, brokers, dsn, topic)
            made.produce_and_read(1)
            yield made
            told = [replica.get(path).body for path in ("/metrics", "/", "/readyz")]
            told += [(tmp_path / "replica.log").read_text(), Path(f"/proc/{replica.pid}/cmdline").read_text()]
    assert SECRET not in "".join(told)


def test_tokens_are_renewed_without_a_rebalance(serving: Serving) -> None:
    serving.until_renewed(3)
    serving.produce_and_read(2)
    assert len(serving.replica.lines("partition claimed")) == 4
    assert not serving.replica.lines("partitions lost")
    assert not serving.replica.lines("partitions revoked")


def test_an_identity_server_that_refuses_for_a_while_is_told_and_forgiven(serving: Serving) -> None:
    with serving.endpoint.refusing():
        # Renewals have made it complain of other things, too.
        serving.replica.wait_until(
            lambda: any(
                "Failed to acquire SASL OAUTHBEARER token" in line["detail"] and "invalid_client" in line["detail"]
                for line in serving.replica.lines("the Kafka client complains")
            ),
            what="the complaint",
        )
        # Longer than the tokens last.
        serving.replica.wait_until(lambda: serving.replica.get("/readyz").status == 503, what="unready")
        assert serving.replica.get("/healthz").status == 200
    serving.produce_and_read(2)
    serving.replica.wait_ready()


class Nobody:
    """Hears of assignments, and takes none."""

    def assigned(self, _: Collection[PartitionId]) -> None:
        pytest.fail("the group let us in")

    def revoked(self, _: Collection[PartitionId]) -> None: ...

    def lost(self, _: Collection[PartitionId]) -> None: ...


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "Failed to acquire SASL OAUTHBEARER token: .*invalid_client"),
        ({"client_id": "somebody"}, "Failed to acquire SASL OAUTHBEARER token: .*invalid_client"),
        ({"ca_file": None, "client_secret": SECRET}, "SSL certificate .*unable to get local issuer certificate"),
        # The broker's own judgement of a good token: no scope, no entry.
        ({"scope": None, "client_secret": SECRET}, "SASL authentication error: .*invalid_token"),
    ],
    ids=["wrong secret", "unknown client", "identity server of another authority", "no scope"],
)
def test_who_is_refused_hears_why_and_no_secret(
    brokers: KafkaCluster,
    endpoint: TokenEndpoint,
    authority: Authority,
    caplog: pytest.LogCaptureFixture,
    changes: dict[str, Any],
    expected: str,
) -> None:
    settings = kafka_settings(brokers, endpoint, authority, "anything")
    settings["security"]["oauth"] |= {"client_secret": WRONG_SECRET, **changes}
    kafka = KafkaSettings.model_validate(settings)
    source = KafkaSource(
        consumer_properties(kafka, client_id="test"), connection_properties(kafka), kafka.topics, Nobody()
    )
    heard: set[str] = set()
    deadline = give_up_at(15)
    try:
        while not any(re.search(expected, each) for each in heard):
            assert time.monotonic() < deadline, heard
            assert not source.poll(1, 0.05).messages
            if source.last_error:
                heard.add(source.last_error)
    finally:
        source.close()
    assert not source.joined
    told = f"{heard}{caplog.text}"
    assert SECRET not in told
    assert WRONG_SECRET not in told
