"""Who is not who we expect, or does not know us any more: nothing is written, the reason is told, and no secret.

The service meets each fault twice: when it starts, and in the middle of a stream. Certificates are exchanged under the
running process, as operators renew them.
"""

import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined] # it names its exports only to readers
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from tests.faults.conftest import Scene, night, set_scene
from tests.support.certificates import Authority, Certificate
from tests.support.faults_table import FaultsTable
from tests.support.kafka_broker import KafkaCluster
from tests.support.postgres import PostgresServer
from tests.support.proxy import Proxy
from tests.support.secured import (
    DATABASE_USER,
    KAFKA_USER,
    scram_cluster,
    set_password,
    show_certificate,
    tls_postgres,
    verified,
)
from tests.support.service import Replica
from tests.support.waiting import give_up_at

pytestmark = pytest.mark.kafka

KAFKA_SECRET, DATABASE_SECRET, OTHER_SECRET = (f"s3cret-{secrets.token_hex(8)}" for _ in range(3))
BAD = {"expired": "expired", "wrong CA": "strange", "wrong host name": "elsewhere"}
"""What is wrong with a certificate, in the table's words, and its name here."""
EVENTS = 600
COMPLAINT = "the Kafka client complains"
UNWELL = "database unavailable, retrying"


class SecuredKafka(NamedTuple):
    """One broker, and the proxy that leads to one of its listeners, each with a certificate of its own."""

    cluster: KafkaCluster
    proxy: Proxy
    ca_file: Path

    def show(self, certificate: str) -> None:
        """Let the broker show this certificate to who connects next; who is connected is cut."""
        self.proxy.lead_to(self.cluster.brokers[0].ports[certificate.upper()])

    def set_password(self, password: str) -> None:
        """Change the password, and wait until who connects needs the new one; who is connected stays so."""
        admin = AdminClient({"bootstrap.servers": self.cluster.bootstrap, "log_level": 0})
        mechanism = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        change = UserScramCredentialUpsertion(KAFKA_USER, mechanism, password.encode())
        for future in admin.alter_user_scram_credentials([change]).values():
            future.result(30)
        # The controller has answered; the broker hears of it a moment later.
        deadline = give_up_at(30)
        while not self._lets_in(password):
            assert time.monotonic() < deadline, "the new password is not known to the broker"

    def _lets_in(self, password: str) -> bool:
        client = AdminClient(
            {
                "bootstrap.servers": f"127.0.0.1:{self.proxy.port}",
                "security.protocol": "SASL_SSL",
                "ssl.ca.location": str(self.ca_file),
                "sasl.mechanisms": "SCRAM-SHA-512",
                "sasl.username": KAFKA_USER,
                "sasl.password": password,
                "log_level": 0,
            }
        )
        try:
            return bool(client.list_topics(timeout=1).brokers)
        except KafkaException:
            return False


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Certificate]:
    folder = tmp_path_factory.mktemp("certificates")
    authority = Authority(folder, "authority")
    return {
        "good": authority.issue("good"),
        "expired": authority.issue("expired", expired=True),
        "elsewhere": authority.issue("elsewhere", host="somewhere.example.org"),
        "strange": Authority(folder, "other").issue("strange"),
    }


@pytest.fixture(scope="module")
def ca_file(certificates: dict[str, Certificate]) -> Path:
    return certificates["good"].certificate.with_name("authority.pem")


@pytest.fixture(scope="module")
def secured_kafka(certificates: dict[str, Certificate], ca_file: Path) -> Iterator[SecuredKafka]:
    cluster = scram_cluster(certificates, KAFKA_SECRET)
    (broker,) = cluster.brokers
    with Proxy(broker.ports["GOOD"]) as proxy:
        # Clients hear of one address only, whichever listener it leads to.
        broker.advertised = {name.upper(): f"127.0.0.1:{proxy.port}" for name in certificates}
        with cluster:
            yield SecuredKafka(cluster, proxy, ca_file)


@pytest.fixture(scope="module")
def secured_postgres(certificates: dict[str, Certificate]) -> Iterator[PostgresServer]:
    with tls_postgres(certificates["good"], DATABASE_SECRET) as server:
        yield server


@pytest.fixture
def scene(
    faults_table: FaultsTable, secured_kafka: SecuredKafka, secured_postgres: PostgresServer, tmp_path: Path
) -> Iterator[Scene]:
    with set_scene(faults_table, secured_kafka.cluster, secured_postgres, tmp_path) as scene:
        yield scene


@pytest.fixture
def replica(scene: Scene, secured_kafka: SecuredKafka, ca_file: Path, tmp_path: Path) -> Replica:
    """Make a replica that meets both servers by TLS and password, and both through a proxy."""
    files = {name: tmp_path / name for name in ("kafka-password", "database-password")}
    for file, secret in zip(files.values(), (KAFKA_SECRET, DATABASE_SECRET), strict=True):
        file.write_text(secret)
    secured_kafka.show("good")
    return scene.replica(
        kafka={
            "bootstrap_servers": f"127.0.0.1:{secured_kafka.proxy.port}",
            "security": {
                "protocol": "SASL_SSL",
                "ca_file": str(ca_file),
                "username": KAFKA_USER,
                "password_file": str(files["kafka-password"]),
            },
        },
        database={
            "conninfo": verified(scene.server, scene.dsn.rpartition("/")[2], port=scene.database_proxy.port),
            "ca_file": str(ca_file),
            "password_file": str(files["database-password"]),
        },
    )


def _told(replica: Replica, event: str, expected: str) -> list[dict[str, Any]]:
    """Give the lines of an event that have these words in their detail."""
    return [line for line in replica.lines(event) if re.search(expected, line["detail"])]


def _hold_to_silence(scene: Scene, replica: Replica) -> None:
    """Hold the service to have told no secret, in its log, on its port, or on its command line."""
    told = [file.read_text() for file in scene.folder.glob("*.log")]
    if replica.running:
        told += [replica.get(path).body for path in ("/metrics", "/", "/readyz", "/healthz")]
        told.append(Path(f"/proc/{replica.pid}/cmdline").read_text())
    assert all(told)
    for text in told:
        for secret in (KAFKA_SECRET, DATABASE_SECRET):
            assert secret not in text


def _refused_at_start(scene: Scene, replica: Replica, event: str, expected: str) -> None:
    """Wait for the reason, and hold the service to be alive, unready, and to have written nothing."""
    replica.wait_until(lambda: bool(_told(replica, event, expected)), what=expected)
    assert replica.get("/healthz").status == 200
    assert replica.get("/readyz").status == 503
    assert scene.read() == 0
    assert not replica.lines("partition claimed")
    _hold_to_silence(scene, replica)


def _refused_in_mid_stream(scene: Scene, replica: Replica, event: str, expected: str) -> None:
    """Give the service, which has read all, more to read; wait until the reason is told again, and nothing written."""
    told, at_stop = len(_told(replica, event, expected)), scene.read()
    scene.produce(night(31, 60))
    replica.wait_until(lambda: len(_told(replica, event, expected)) > told, what=expected)
    # Reconnects and retries pause for half a second at most: it goes on trying, and is refused each time.
    time.sleep(1)
    assert scene.read() == at_stop
    assert replica.get("/healthz").status == 200
    _hold_to_silence(scene, replica)


@pytest.mark.parametrize("fault", BAD)
def test_certificate_of_kafka(scene: Scene, replica: Replica, secured_kafka: SecuredKafka, fault: str) -> None:
    # librdkafka does not say what is wrong with a certificate.
    expected = "certificate verify failed"
    secured_kafka.show(BAD[fault])
    scene.produce(night(1, EVENTS // 20))
    with replica:
        _refused_at_start(scene, replica, COMPLAINT, expected)
        secured_kafka.show("good")
        scene.until(replica, EVENTS)
        secured_kafka.show(BAD[fault])
        _refused_in_mid_stream(scene, replica, COMPLAINT, expected)
        secured_kafka.show("good")
        scene.harmed()
        scene.judge(replica)


def test_password_of_kafka_revoked_and_restored(scene: Scene, replica: Replica, secured_kafka: SecuredKafka) -> None:
    expected = "SASL authentication error: Authentication failed"
    scene.produce(night(1, EVENTS // 20))
    try:
        secured_kafka.set_password(OTHER_SECRET)
        with replica:
            _refused_at_start(scene, replica, COMPLAINT, expected)
            secured_kafka.set_password(KAFKA_SECRET)
            scene.until(replica, EVENTS)
            secured_kafka.set_password(OTHER_SECRET)
            secured_kafka.proxy.cut()
            _refused_in_mid_stream(scene, replica, COMPLAINT, expected)
            secured_kafka.set_password(KAFKA_SECRET)
            scene.harmed()
            scene.judge(replica)
    finally:
        secured_kafka.set_password(KAFKA_SECRET)


class Database:
    """The database of a scene, whose certificate is exchanged under those who are connected."""

    def __init__(self, scene: Scene, certificates: dict[str, Certificate], ca_file: Path) -> None:
        self._scene = scene
        self._certificates = certificates
        self._dsn = f"{verified(scene.server)}&sslrootcert={ca_file}&password={DATABASE_SECRET}"

    def show(self, certificate: str) -> None:
        """Let PostgreSQL show this certificate to who connects next, and cut who is connected."""
        show_certificate(self._scene.server, self._certificates[certificate])
        self._scene.server.reload()
        deadline = give_up_at(10)
        while self._is_trusted() is not (certificate == "good"):
            assert time.monotonic() < deadline, f"PostgreSQL does not show the certificate {certificate}"
            time.sleep(0.05)
        self._scene.database_proxy.cut()

    def _is_trusted(self) -> bool:
        try:
            psycopg.connect(self._dsn).close()
        except psycopg.OperationalError:
            return False
        return True


@pytest.mark.parametrize("fault", BAD)
def test_certificate_of_postgresql(
    scene: Scene, replica: Replica, certificates: dict[str, Certificate], ca_file: Path, fault: str
) -> None:
    expected = {
        "wrong host name": 'certificate for "somewhere.example.org".* does not match host name "127.0.0.1"',
    }.get(fault, "certificate verify failed")
    database = Database(scene, certificates, ca_file)
    try:
        database.show(BAD[fault])
        scene.produce(night(1, EVENTS // 20))
        with replica:
            _refused_at_start(scene, replica, UNWELL, expected)
            database.show("good")
            scene.until(replica, EVENTS)
            database.show(BAD[fault])
            _refused_in_mid_stream(scene, replica, UNWELL, expected)
            assert replica.get("/readyz").status == 503
            database.show("good")
            scene.harmed()
            scene.judge(replica)
    finally:
        database.show("good")


def test_password_of_postgresql_revoked_and_restored(scene: Scene, replica: Replica) -> None:
    # Only a person can put that right: the process ends, and says why, as often as it is started.
    scene.produce(night(1, EVENTS // 20))
    try:
        with replica:
            scene.until(replica, 100)
            set_password(scene.server, OTHER_SECRET)
            scene.database_proxy.cut()
            _ends_because_of_the_password(replica)
        at_stop = scene.read()
        scene.produce(night(31, 60))
        with replica:
            _ends_because_of_the_password(replica)
        assert scene.read() == at_stop
        _hold_to_silence(scene, replica)
        set_password(scene.server, DATABASE_SECRET)
        with replica:
            scene.harmed()
            scene.judge(replica)
    finally:
        set_password(scene.server, DATABASE_SECRET)


def _ends_because_of_the_password(replica: Replica) -> None:
    deadline = give_up_at(20)
    while replica.running:
        assert time.monotonic() < deadline, replica.log_tail()
        time.sleep(0.05)
    assert replica.returncode == 1
    (last,) = replica.lines("cannot go on")
    assert f'password authentication failed for user "{DATABASE_USER}"' in last["error"]
