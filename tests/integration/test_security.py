"""Encryption and identity towards Kafka and PostgreSQL: no secret is told, and nothing is said in plaintext.

Certificates that are not what we expect, and passwords that are revoked, are cases of the fault suite.
"""

import contextlib
import re
import secrets
import socket
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import psycopg
import pytest

from consumer.config import DatabaseSettings, KafkaSettings
from consumer.errors import FatalError, TransientError, VisitConsumerError
from consumer.kafka.properties import connection_properties, consumer_properties
from consumer.kafka.source import KafkaSource
from consumer.model import PartitionId
from consumer.postgres.connection import Database
from tests.support.certificates import Authority
from tests.support.exposures import exposure
from tests.support.kafka_broker import KafkaCluster
from tests.support.postgres import PostgresServer
from tests.support.secured import scram_cluster, set_password, tls_postgres, verified
from tests.support.service import Replica, prepare_database, produce, raws_of, settings_for
from tests.support.waiting import give_up_at

KAFKA_SECRET, DATABASE_SECRET, WRONG_SECRET = (f"s3cret-{secrets.token_hex(8)}" for _ in range(3))
TOPIC = "secured"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"), "authority")


@pytest.fixture(scope="module")
def brokers(authority: Authority) -> Iterator[KafkaCluster]:
    with scram_cluster({"good": authority.issue("kafka-good")}, KAFKA_SECRET) as cluster:
        cluster.create_topic(TOPIC)
        cluster.create_topic("visit-defined")
        yield cluster


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[PostgresServer]:
    with tls_postgres(authority.issue("postgres-good"), DATABASE_SECRET) as running:
        yield running


def kafka_settings(bootstrap: str, ca_file: Path, password: str = KAFKA_SECRET) -> dict[str, Any]:
    return {
        "bootstrap_servers": bootstrap,
        "topics": [TOPIC],
        "security": {"protocol": "SASL_SSL", "ca_file": str(ca_file), "username": "alice", "password": password},
    }


def database_complaint(dsn: str, ca_file: Path, password: str = DATABASE_SECRET) -> VisitConsumerError:
    settings = DatabaseSettings.model_validate(
        {"conninfo": dsn, "ca_file": ca_file, "password": password, "connect_timeout_s": 5}
    )
    with pytest.raises(VisitConsumerError) as caught, Database(settings).transaction():
        pass
    assert password not in f"{caught.value}{caught.value.__cause__}"
    return caught.value


class Nobody:
    """Hears of assignments, and takes none."""

    def assigned(self, _: Collection[PartitionId]) -> None:
        pytest.fail("the group let us in")

    def revoked(self, _: Collection[PartitionId]) -> None: ...

    def lost(self, _: Collection[PartitionId]) -> None: ...


def kafka_complaints(settings: dict[str, Any], expected: str) -> None:
    """Poll as the service does until the client complains as expected; it must never be let in."""
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
    assert settings["security"]["password"] not in str(heard)


def test_a_replica_works_over_tls_and_tells_no_secret(
    brokers: KafkaCluster, server: PostgresServer, authority: Authority, tmp_path: Path
) -> None:
    secret_file = tmp_path / "database-secret"
    secret_file.write_text(DATABASE_SECRET)
    with server.database(prepare_database) as dsn:
        name = dsn.rpartition("/")[2]
        kafka = kafka_settings(brokers.bootstrap_of("GOOD"), authority.file)
        del kafka["security"]["password"]
        settings = settings_for(
            brokers.bootstrap,
            dsn,
            kafka=kafka,
            database={
                "conninfo": verified(server, name),
                "ca_file": str(authority.file),
                "password_file": str(secret_file),
            },
            announce={"topic": "visit-defined"},
            log={"level": "debug"},
        )
        environment = {"VISIT_CONSUMER_KAFKA__SECURITY__PASSWORD": KAFKA_SECRET}
        with (
            psycopg.connect(dsn, autocommit=True) as superuser,
            Replica(tmp_path, settings, environment=environment) as replica,
        ):
            produce(brokers.bootstrap, raws_of([exposure()], range(2)), TOPIC)
            sent = "SELECT count(*) FROM visits.outbox WHERE sent_at IS NOT NULL"
            replica.wait_until(lambda: superuser.execute(sent).fetchone() == (1,), what="an announcement")
            sessions = superuser.execute(
                """
                SELECT usename::text, ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                WHERE application_name LIKE 'visit-consumer%' AND datname = current_database()
                """
            ).fetchall()
            # The writer's, the relay's and the heartbeat's.
            assert sessions == [("visit_writer", True)] * 3
            told = [replica.get(path).body for path in ("/metrics", "/", "/readyz", "/healthz", "/nothing")]
            assert all(told)
            # The command line as `ps` shows it to everybody; the environment is for the account's own eyes.
            told.append(Path(f"/proc/{replica.pid}/cmdline").read_text())
            # The password is revoked: the process ends, because only a person can put that right.
            set_password(server, WRONG_SECRET)
            try:
                superuser.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'visit_writer'"
                )
                deadline = give_up_at(20)
                while replica.running:
                    assert time.monotonic() < deadline, replica.log_tail()
                    time.sleep(0.05)
            finally:
                set_password(server, DATABASE_SECRET)
            assert replica.returncode == 1
            (last,) = replica.lines("cannot go on")
            assert "password authentication failed" in last["error"]
        told.append((tmp_path / "replica.log").read_text())
    for text in told:
        for secret in (KAFKA_SECRET, DATABASE_SECRET):
            assert secret not in text


def test_a_broker_without_tls_is_refused(brokers: KafkaCluster, authority: Authority) -> None:
    kafka_complaints(kafka_settings(brokers.bootstrap, authority.file), "SSL handshake failed")


def test_a_wrong_password_of_the_database_is_fatal(server: PostgresServer, authority: Authority) -> None:
    error = database_complaint(verified(server), authority.file, WRONG_SECRET)
    assert isinstance(error, FatalError)
    assert "password authentication failed" in str(error)
    # Without TLS it is the server's rule that keeps the role out.
    plain = database_complaint(server.dsn(user="visit_writer") + "?sslmode=disable", authority.file)
    assert isinstance(plain, FatalError)
    assert "pg_hba.conf rejects connection" in str(plain)


@contextlib.contextmanager
def eavesdropper(answer: bytes) -> Iterator[tuple[int, bytearray]]:
    """Listen, note what the first callers say, give each this answer, and hang up once they have said more."""
    heard = bytearray()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.1)
    done = False

    def serve() -> None:
        while not done:
            with contextlib.suppress(OSError), contextlib.closing(listener.accept()[0]) as caller:
                caller.settimeout(0.5)
                heard.extend(caller.recv(4096))
                if answer:
                    caller.sendall(answer)
                    heard.extend(caller.recv(4096))

    thread = Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1], heard
    finally:
        done = True
        thread.join()
        listener.close()


def test_there_is_no_plaintext_fallback_towards_kafka(authority: Authority) -> None:
    with eavesdropper(b"") as (port, heard):
        kafka_complaints(kafka_settings(f"127.0.0.1:{port}", authority.file), "SSL handshake failed|Disconnected")
    assert heard.startswith(b"\x16\x03"), "the first bytes are no TLS handshake"
    assert b"alice" not in heard
    assert KAFKA_SECRET.encode() not in heard


def test_there_is_no_plaintext_fallback_towards_postgresql(authority: Authority) -> None:
    with eavesdropper(b"N") as (port, heard):  # PostgreSQL's answer: no TLS here
        dsn = f"postgresql://visit_writer@127.0.0.1:{port}/visits?sslmode=verify-full"
        error = database_complaint(dsn, authority.file)
    assert isinstance(error, TransientError)
    assert "server does not support SSL" in str(error)
    request = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")
    assert set(bytes(heard).split(request)) == {b""}, "more than the requests for TLS"
    assert request in bytes(heard)
