"""The quickstart as a newcomer follows it: its own commands, on real Apache Kafka and PostgreSQL."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.support import jars
from tests.support.children import Child, free_port
from tests.support.commands import invoke
from tests.support.documents import ROOT, example, example_names
from tests.support.kafka_broker import POM, KafkaCluster
from tests.support.postgres import PostgresServer, wheel_binaries

QUICKSTART = ROOT / "docs" / "quickstart.md"
GUIDE = ROOT / "deploy" / "README.md"
PASSWORDS_NEEDED = "host all all 127.0.0.1/32 scram-sha-256\n"
SUPERUSER = "of-the-superuser"


class Newcomer:
    """A folder and a shell in which the documents' commands are typed, with the test's servers for the reader's.

    Parameters
    ----------
    folder
        Where files are written.
    bootstrap
        The broker's address.
    server
        A PostgreSQL with no roles of ours yet.
    """

    def __init__(self, folder: Path, bootstrap: str, server: PostgresServer) -> None:
        self.folder = folder
        self.server = server
        self._addresses = {
            "localhost:9092": bootstrap,
            "host=localhost": f"host=127.0.0.1 port={server.port}",
            "8080": str(free_port()),
            "docker run --rm registry.example.org/visit-consumer:0.1.0": "visit-consumer",
        }
        self._environment = {
            **os.environ,
            "PATH": f"{self._programs()}:{os.environ['PATH']}",
            # The deployment guide leaves to the reader how psql finds the server.
            "PGHOST": "127.0.0.1",
            "PGPORT": str(server.port),
            "PGUSER": "postgres",
            "PGPASSWORD": SUPERUSER,
        }

    def text(self, name: str, document: Path = QUICKSTART) -> str:
        """Return an example with the test's addresses."""
        shown = example(document, name)
        for theirs, ours in self._addresses.items():
            shown = shown.replace(theirs, ours)
        return shown

    def write(self, name: str, file: str) -> None:
        """Save an example as a file."""
        (self.folder / file).write_text(self.text(name), encoding="utf-8")

    def type(self, name: str, document: Path = QUICKSTART) -> str:
        """Run an example in a shell of its own, and return what it prints; each of its lines has to succeed."""
        done = self._run(name, document)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def sees_readiness(self) -> bool:
        """Whether the service says that it is ready."""
        return self._run("ready", QUICKSTART).returncode == 0

    @contextlib.contextmanager
    def running_service(self) -> Iterator[Child]:
        """Run the example that serves, until the test ends."""
        command = ["bash", "-c", f"cd '{self.folder}' && exec {self.text('run')}"]
        service = Child(command, self.folder / "service.log", environment=self._environment)
        try:
            yield service
        finally:
            service.signal(signal.SIGKILL)

    def _run(self, name: str, document: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.text(name, document)],
            check=False,
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def set_password(self, role: str, password: str) -> None:
        """Give a role a password, as the guide does with psql at a terminal."""
        with self.server.connect() as superuser:
            superuser.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(password)))

    def _programs(self) -> Path:
        """Make a folder with the programs that the reader has, under the names of the document."""
        folder = self.folder / "bin"
        folder.mkdir()
        (folder / "psql").symlink_to(wheel_binaries() / "psql")
        (folder / "visit-consumer").symlink_to(Path(sys.executable).parent / "visit-consumer")
        classpath = jars.resolve(POM)
        script = folder / "kafka-topics.sh"
        script.write_text(f'#!/bin/sh\nexec java -cp "{classpath}/*" org.apache.kafka.tools.TopicCommand "$@"\n')
        script.chmod(0o755)
        return folder


@pytest.fixture
def newcomer(kafka: KafkaCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Newcomer]:
    """Start a server of the test's own, since roles belong to a server; everybody needs a password."""
    with PostgresServer(wheel_binaries(), fast=True) as server:
        with server.connect() as superuser:
            superuser.execute(sql.SQL("ALTER ROLE postgres PASSWORD {}").format(sql.Literal(SUPERUSER)))
        monkeypatch.setenv("PGPASSWORD", SUPERUSER)
        (server.data_directory / "pg_hba.conf").write_text(PASSWORDS_NEEDED)
        server.reload()
        yield Newcomer(tmp_path, kafka.bootstrap, server)


@pytest.mark.kafka
@pytest.mark.slow
def test_the_quickstart_leads_to_a_visit(newcomer: Newcomer) -> None:
    newcomer.type("database")
    assert "applied 0001_initial" in newcomer.type("migrate")
    newcomer.type("topic")
    newcomer.write("settings", "visits.yaml")
    assert "The configuration is good." in newcomer.type("check")
    newcomer.write("produce", "produce.py")
    with newcomer.running_service() as service:
        service.wait_until(newcomer.sees_readiness, what="/readyz", timeout_s=30)
        subprocess.run([sys.executable, "produce.py"], check=True, cwd=newcomer.folder, timeout=60)
        service.wait_until(lambda: "(1 row)" in newcomer.type("look"), what="the visit", timeout_s=30)
        assert "2026110100042 | MC_O_20261101_000042 | 20261101 | r_57            |              205" in newcomer.type(
            "look"
        )
        answers = newcomer.type("ask")
        assert answers.count("2026110100042") >= 2
        assert "MC_O_20261101_000042" in answers
        assert "raw-ingested" in newcomer.type("simulate")
        service.signal(signal.SIGTERM)
        service.wait(20)
    assert service.returncode == 0
    newcomer.type("remove")


def test_no_example_of_the_quickstart_is_left_out() -> None:
    steps = "database migrate topic settings check run ready produce look ask simulate remove"
    assert example_names(QUICKSTART) == steps.split()


@pytest.mark.kafka
def test_the_deployment_guide_creates_the_roles_that_the_chart_logs_in_as(newcomer: Newcomer) -> None:
    newcomer.type("database", GUIDE)
    for user in ("visit_owner", "visit_writer", "visit_reader"):
        newcomer.set_password(user, "secret")
    invoke("migrate", "--dsn", newcomer.server.dsn("visits", user="visit_owner:secret"))
    for user in ("visit_writer", "visit_reader"):
        with psycopg.connect(newcomer.server.dsn("visits", user=f"{user}:secret")) as connection:
            assert connection.execute("SELECT count(*) FROM visits.visit").fetchone() == (0,)
