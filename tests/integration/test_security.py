"""Encryption and identity towards Kafka and PostgreSQL: who is not who we expect is refused, and no secret is told."""

import contextlib
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import psycopg
import pytest
from psycopg import sql

from consumer.config import DatabaseSettings, KafkaSettings
from consumer.errors import FatalError, TransientError, VisitConsumerError
from consumer.kafka.properties import connection_properties, consumer_properties
from consumer.kafka.source import KafkaSource
from consumer.model import PartitionId
from consumer.postgres.connection import Database
from tests.support.certificates import Authority, Certificate
from tests.support.exposures import exposure
from tests.support.jars import JarsUnavailableError
from tests.support.kafka_broker import KafkaCluster
from tests.support.postgres import DEBIAN_15, PostgresServer
from tests.support.service import Replica, prepare_database, produce, raws_of, settings_for

KAFKA_SECRET, DATABASE_SECRET, WRONG_SECRET = (f"s3cret-{secrets.token_hex(8)}" for _ in range(3))
TOPIC = "secured"
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
HBA = """
hostssl all visit_writer 127.0.0.1/32 scram-sha-256
host all visit_writer 127.0.0.1/32 reject
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"), "authority")


@pytest.fixture(scope="module")
def brokers(authority: Authority) -> Iterator[KafkaCluster]:
    """One broker with a listener for each certificate; all want SCRAM over TLS."""
    certificates = {
        "good": authority.issue("kafka-good"),
        "elsewhere": authority.issue("kafka-elsewhere", host="kafka.example.org"),
        "expired": authority.issue("kafka-expired", expired=True),
    }
    properties: dict[str, str] = {}
    for name, files in certificates.items():
        own = f"listener.name.{name}"
        properties |= {
            f"{own}.ssl.keystore.type": "PEM",
            f"{own}.ssl.keystore.location": str(files.both),
            f"{own}.sasl.enabled.mechanisms": "SCRAM-SHA-512",
            f"{own}.scram-sha-512.sasl.jaas.config": SCRAM,
        }
    try:
        cluster = KafkaCluster(
            listeners={name.upper(): "SASL_SSL" for name in certificates},
            properties=properties,
            format_arguments=["--add-scram", f"SCRAM-SHA-512=[name=alice,password={KAFKA_SECRET}]"],
        )
    except JarsUnavailableError as error:
        if os.environ.get("REQUIRE_APACHE_KAFKA") == "1":
            pytest.fail(f"REQUIRE_APACHE_KAFKA=1, but: {error}")
        pytest.skip(f"no Apache Kafka: {error}")
    with cluster:
        cluster.create_topic(TOPIC)
        cluster.create_topic("visit-defined")
        yield cluster


@contextlib.contextmanager
def postgres_with(files: Certificate) -> Iterator[PostgresServer]:
    """Run a server with this certificate, where the writer needs TLS and a password; the wheel's knows no TLS."""
    if not DEBIAN_15.is_dir():
        message = f"no PostgreSQL 15 in {DEBIAN_15} (Debian: postgresql-15)"
        if os.environ.get("REQUIRE_POSTGRES_15") == "1":
            pytest.fail(f"REQUIRE_POSTGRES_15=1, but: {message}")
        pytest.skip(message)
    with PostgresServer(DEBIAN_15, fast=True) as server:
        with server.connect() as superuser:
            statement = sql.SQL("CREATE ROLE visit_writer LOGIN SUPERUSER PASSWORD {}")
            superuser.execute(statement.format(sql.Literal(DATABASE_SECRET)))
        owner = server.data_directory.stat()
        for source, name in ((files.certificate, "server.crt"), (files.key, "server.key")):
            target = server.data_directory / name
            shutil.copy(source, target)
            target.chmod(0o600)
            os.chown(target, owner.st_uid, owner.st_gid)
        hba = server.data_directory / "pg_hba.conf"
        hba.write_text(HBA + hba.read_text())
        server.settings["ssl"] = "on"
        server.restart()
        yield server


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[PostgresServer]:
    with postgres_with(authority.issue("postgres-good")) as running:
        yield running


def kafka_settings(bootstrap: str, ca_file: Path, password: str = KAFKA_SECRET) -> dict[str, Any]:
    return {
        "bootstrap_servers": bootstrap,
        "topics": [TOPIC],
        "security": {"protocol": "SASL_SSL", "ca_file": str(ca_file), "username": "alice", "password": password},
    }


def verified(server: PostgresServer, database: str = "postgres") -> str:
    return server.dsn(database, user="visit_writer") + "?sslmode=verify-full"


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
    deadline = time.monotonic() + 15
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
            assert sessions == [("visit_writer", True)] * 2
            told = [replica.get(path).body for path in ("/metrics", "/", "/readyz", "/healthz", "/nothing")]
            assert all(told)
            # The command line as `ps` shows it to everybody; the environment is for the account's own eyes.
            told.append(Path(f"/proc/{replica.pid}/cmdline").read_text())
            # The password is revoked: the process ends, because only a person can put that right.
            superuser.execute(
                sql.SQL("ALTER ROLE visit_writer PASSWORD {}").format(sql.Literal(WRONG_SECRET)), prepare=False
            )
            try:
                superuser.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'visit_writer'"
                )
                deadline = time.monotonic() + 20
                while replica.running:
                    assert time.monotonic() < deadline, replica.log_tail()
                    time.sleep(0.05)
            finally:
                superuser.execute(
                    sql.SQL("ALTER ROLE visit_writer PASSWORD {}").format(sql.Literal(DATABASE_SECRET)), prepare=False
                )
            assert replica.returncode == 1
            (last,) = replica.lines("cannot go on")
            assert "password authentication failed" in last["error"]
        told.append((tmp_path / "replica.log").read_text())
    for text in told:
        for secret in (KAFKA_SECRET, DATABASE_SECRET):
            assert secret not in text


@pytest.mark.parametrize(
    ("listener", "expected"),
    [
        # librdkafka does not say what is wrong with a certificate.
        ("ELSEWHERE", "certificate verify failed"),
        ("EXPIRED", "certificate verify failed"),
        ("PLAINTEXT", "SSL handshake failed"),
    ],
)
def test_a_broker_that_is_not_the_one_we_expect_is_refused(
    brokers: KafkaCluster, authority: Authority, listener: str, expected: str
) -> None:
    kafka_complaints(kafka_settings(brokers.bootstrap_of(listener), authority.file), expected)


def test_a_broker_of_another_authority_is_refused(brokers: KafkaCluster, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    kafka_complaints(kafka_settings(brokers.bootstrap_of("GOOD"), other.file), "certificate verify failed")


def test_a_wrong_password_of_kafka_is_told(brokers: KafkaCluster, authority: Authority) -> None:
    wrong = kafka_settings(brokers.bootstrap_of("GOOD"), authority.file, WRONG_SECRET)
    kafka_complaints(wrong, "SASL authentication error: Authentication failed")


def test_a_database_of_another_authority_is_refused(server: PostgresServer, tmp_path: Path) -> None:
    error = database_complaint(verified(server), Authority(tmp_path, "other").file)
    assert isinstance(error, TransientError)
    assert "certificate verify failed" in str(error)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (
            {"host": "postgres.example.org"},
            'certificate for "postgres.example.org".* does not match host name "127.0.0.1"',
        ),
        ({"expired": True}, "certificate verify failed"),
    ],
)
def test_a_database_that_is_not_the_one_we_expect_is_refused(
    authority: Authority, kind: dict[str, Any], expected: str
) -> None:
    with postgres_with(authority.issue("postgres-bad", **kind)) as bad:
        error = database_complaint(verified(bad), authority.file)
    assert isinstance(error, TransientError)
    assert re.search(expected, str(error)), error


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
    assert bytes(heard) == (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big"), "more than the request for TLS"
