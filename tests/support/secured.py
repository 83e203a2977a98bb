"""Servers that want encryption and a password, with certificates that a test chooses."""

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping

import pytest
from psycopg import sql

from tests.support.certificates import Certificate
from tests.support.jars import JarsUnavailableError
from tests.support.kafka_broker import KafkaCluster
from tests.support.postgres import DEBIAN_15, PostgresServer

KAFKA_USER = "alice"
DATABASE_USER = "visit_writer"
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
_HBA = f"""
hostssl all {DATABASE_USER} 127.0.0.1/32 scram-sha-256
host all {DATABASE_USER} 127.0.0.1/32 reject
"""


def scram_cluster(certificates: Mapping[str, Certificate], password: str) -> KafkaCluster:
    """Make a cluster of one broker with a listener for each certificate; all want SCRAM over TLS of `KAFKA_USER`.

    Parameters
    ----------
    certificates
        By the listener's name, in lower case; the listener has it in upper case. ``PLAINTEXT`` is there too.
    password
        The user's.
    """
    properties: dict[str, str] = {}
    for name, files in certificates.items():
        own = f"listener.name.{name}"
        properties |= {
            f"{own}.ssl.keystore.type": "PEM",
            f"{own}.ssl.keystore.location": str(files.both),
            f"{own}.sasl.enabled.mechanisms": "SCRAM-SHA-512",
            f"{own}.scram-sha-512.sasl.jaas.config": _SCRAM,
        }
    try:
        return KafkaCluster(
            listeners={name.upper(): "SASL_SSL" for name in certificates},
            properties=properties,
            format_arguments=["--add-scram", f"SCRAM-SHA-512=[name={KAFKA_USER},password={password}]"],
        )
    except JarsUnavailableError as error:
        if os.environ.get("REQUIRE_APACHE_KAFKA") == "1":
            pytest.fail(f"REQUIRE_APACHE_KAFKA=1, but: {error}")
        pytest.skip(f"no Apache Kafka: {error}")


def show_certificate(server: PostgresServer, files: Certificate) -> None:
    """Give a server this certificate; it shows it once it reads its settings again."""
    owner = server.data_directory.stat()
    for source, name in ((files.certificate, "server.crt"), (files.key, "server.key")):
        target = server.data_directory / name
        shutil.copy(source, target)
        target.chmod(0o600)
        os.chown(target, owner.st_uid, owner.st_gid)


def set_password(server: PostgresServer, password: str) -> None:
    """Give `DATABASE_USER` another password; sessions that are open stay."""
    with server.connect() as superuser:
        statement = sql.SQL("ALTER ROLE {} PASSWORD {}")
        superuser.execute(statement.format(sql.Identifier(DATABASE_USER), sql.Literal(password)))


@contextlib.contextmanager
def tls_postgres(files: Certificate, password: str) -> Iterator[PostgresServer]:
    """Run a server with this certificate, where `DATABASE_USER` needs TLS and a password; the wheel's knows no TLS."""
    if not DEBIAN_15.is_dir():
        message = f"no PostgreSQL 15 in {DEBIAN_15} (Debian: postgresql-15)"
        if os.environ.get("REQUIRE_POSTGRES_15") == "1":
            pytest.fail(f"REQUIRE_POSTGRES_15=1, but: {message}")
        pytest.skip(message)
    with PostgresServer(DEBIAN_15, fast=True) as server:
        with server.connect() as superuser:
            superuser.execute(sql.SQL("CREATE ROLE {} LOGIN SUPERUSER").format(sql.Identifier(DATABASE_USER)))
        set_password(server, password)
        show_certificate(server, files)
        hba = server.data_directory / "pg_hba.conf"
        hba.write_text(_HBA + hba.read_text())
        server.settings["ssl"] = "on"
        server.restart()
        yield server


def verified(server: PostgresServer, database: str = "postgres", *, port: int = 0) -> str:
    """Return the libpq URI of `DATABASE_USER` that verifies who the server is; ``port`` may be a proxy's."""
    return server.dsn(database, user=DATABASE_USER, port=port) + "?sslmode=verify-full"
