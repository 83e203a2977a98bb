"""Releases that run side by side, and databases that go back in time: the tables are those of the whole log again."""

import io
import json
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from psycopg import sql

from tests.faults.conftest import Scene, night, refusals, set_scene
from tests.support.commands import invoke_json
from tests.support.faults_table import FaultsTable
from tests.support.kafka_broker import KafkaCluster
from tests.support.postgres import PostgresServer, wheel_binaries
from tests.support.proxy import Proxy
from tests.support.service import Replica, prepare_database
from tests.support.tables import watch_positions

ROOT = Path(__file__).parents[2]
RELEASES: Mapping[str, Mapping[str, Any]] = json.loads((ROOT / "tests" / "data" / "releases.json").read_text())
N_EXPOSURES = 60
LONGEST_PAUSE_S = 15

pytestmark = [pytest.mark.kafka, pytest.mark.long]


@dataclass
class Release:
    """The code of an older release, run with the libraries of today."""

    tree: Path

    @property
    def environment(self) -> dict[str, str]:
        """In which Python finds it before today's."""
        return {"PYTHONPATH": str(self.tree), "PYTHONSAFEPATH": "1"}

    def migrate(self, config: Path) -> None:
        """Bring an empty database to its schema."""
        command = [sys.executable, "-m", "consumer", "migrate", "--config", str(config)]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, cwd="/", env=self.environment, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest, tmp_path: Path) -> Release:
    commit = request.param
    done = subprocess.run(["git", "archive", commit], check=False, capture_output=True, cwd=ROOT)
    if done.returncode:
        pytest.skip(f"this clone has not the history of {commit}: git fetch --unshallow")
    tree = tmp_path / f"release-{commit}"
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(tree, filter="data")
    return Release(tree)


class Pauses:
    """How long no message was stored, at most, while there were some."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.longest_s = 0.0

    def _look(self) -> None:
        read, since_s = 0, time.monotonic()
        while not self._ending.wait(0.1):
            now = self._scene.read()
            if now != read:
                read, since_s = now, time.monotonic()
            self.longest_s = max(self.longest_s, time.monotonic() - since_s)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()


def feed(scene: Scene, first: int, last: int, pause_s: float) -> None:
    for number in range(first, last + 1):
        scene.produce(night(number, number))
        time.sleep(pause_s)


def test_an_upgrade_under_load_with_both_releases_side_by_side(scene: Scene, release: Release) -> None:
    with scene.server.database() as dsn:
        scene.dsn = dsn
        old = scene.replica("old")
        old = Replica(scene.folder, scene.settings, name="old", environment=release.environment)
        scene.replicas.append(old)
        release.migrate(old.config)
        watch_positions(dsn)
        old.start()
        old.wait_for_line("partition claimed", timeout_s=60)
        load = threading.Thread(target=feed, args=(scene, 1, N_EXPOSURES, 0.7))
        load.start()
        scene.until(old, 100)
        with Pauses(scene) as pauses:
            prepare_database(dsn)
            scene.until(old, scene.read() + 100)  # the old release goes on, on the new schema
            new = scene.replica("new")
            new.start()
            new.wait_for_line("partition claimed", timeout_s=60)
            scene.until(new, scene.read() + 100)
            code, _ = old.terminate(timeout_s=60)
            assert code == 0
            load.join()
            scene.until(new, N_EXPOSURES * 20)
        scene.harmed()
        with scene.connect() as connection:
            # The old release did not note it: each of its events brought a detector
            connection.execute("UPDATE visits.exposure SET announced = true WHERE detectors <> '{}'")
        scene.judge(new)
        print(f"longest pause: {pauses.longest_s:.1f} s")  # noqa: T201 -- the figure of this case
        assert pauses.longest_s < LONGEST_PAUSE_S


@contextmanager
def copied(scene: Scene) -> Iterator[str]:
    """Keep a backup of the database as it is now."""
    name = scene.dsn.rpartition("/")[2]
    backup = f"{name}_backup"
    with scene.server.connect() as connection:
        connection.execute(_database("CREATE DATABASE {} TEMPLATE {}", backup, name))
    try:
        yield backup
    finally:
        with scene.server.connect() as connection:
            connection.execute(_database("DROP DATABASE IF EXISTS {} WITH (FORCE)", backup))


def restore(scene: Scene, backup: str) -> None:
    """Put a backup in the place of the database."""
    name = scene.dsn.rpartition("/")[2]
    with scene.server.connect() as connection:
        connection.execute(_database("DROP DATABASE {} WITH (FORCE)", name))
        connection.execute(_database("CREATE DATABASE {} TEMPLATE {}", name, backup))


def _database(statement: str, *names: str) -> sql.Composed:
    return sql.SQL(statement).format(*map(sql.Identifier, names))


def test_an_older_backup_is_restored_and_the_log_still_holds_what_is_missing(scene: Scene) -> None:
    replica = scene.replica()
    scene.produce(night(1, 10))
    with replica:
        scene.until(replica, 200)
        code, _ = replica.terminate()
        assert code == 0
    with copied(scene) as backup:
        scene.produce(night(11, 30))
        with replica:
            scene.until(replica, 600)
            restore(scene, backup)  # under the service's feet
            scene.harmed()
            scene.judge(replica)


def test_an_older_backup_is_restored_and_the_log_has_lost_what_is_missing(scene: Scene) -> None:
    replica = scene.replica()
    scene.produce(night(1, 10))
    with replica:
        scene.until(replica, 200)
        replica.terminate()
    with copied(scene) as backup:
        scene.produce(night(11, 30))
        with replica:
            scene.until(replica, 600)
            replica.terminate()
        restore(scene, backup)
    kept = {number: end - 50 for number, end in scene.kafka.ends(scene.topic).items()}
    admin = AdminClient({"bootstrap.servers": scene.kafka.bootstrap})
    for gone in admin.delete_records([TopicPartition(scene.topic, p, first) for p, first in kept.items()]).values():
        gone.result(30)
    with replica:
        replica.wait_until(lambda: len(refusals(replica)) == 4, what="four refusals")
        assert all("were deleted before they were read" in detail for detail in refusals(replica).values())
        replica.wait_until(lambda: replica.get("/readyz").status == 503, what="not ready")
        moved = invoke_json("positions", "accept-gap", "--config", replica.config)
        assert len(moved) == 4
        replica.wait_until(lambda: scene.read() == sum(scene.kafka.ends(scene.topic).values()), what="the end")
    scene.tell(600)


def test_the_database_goes_back_to_a_moment_by_its_write_ahead_log(
    faults_table: FaultsTable, proxied_kafka: tuple[KafkaCluster, Proxy], tmp_path: Path
) -> None:
    """A base backup and the archived log of the database, replayed up to a moment before the last messages."""
    kafka, broker_proxy = proxied_kafka
    archive = Path("/tmp") / f"visit-consumer-wal-{time.time_ns()}"  # noqa: S108 -- PostgreSQL's account writes it
    archive.mkdir(mode=0o777)
    archive.chmod(0o777)
    archiving = {"archive_mode": "on", "archive_command": f"cp %p {archive}/%f", "wal_level": "replica"}
    with (
        PostgresServer(wheel_binaries(), settings=archiving) as server,
        set_scene(faults_table, kafka, server, tmp_path, broker_proxy) as scene,
    ):
        replica = scene.replica()
        scene.produce(night(1, 10))
        with replica:
            scene.until(replica, 200)
            base = _base_backup(server)
            scene.produce(night(11, 20))
            scene.until(replica, 400)
            with server.connect() as connection:
                row = connection.execute("SELECT now()::text").fetchone()
                assert row is not None
                moment = str(row[0])
            time.sleep(1)
            scene.produce(night(21, 30))
            scene.until(replica, 600)
            with server.connect() as connection:
                connection.execute("SELECT pg_switch_wal()")
            time.sleep(2)
            server.stop()
            _go_back(server, base, archive, moment)
            server.start()
            scene.harmed()
            scene.judge(replica)
    shutil.rmtree(archive, ignore_errors=True)


def _base_backup(server: PostgresServer) -> Path:
    """Copy the data directory between PostgreSQL's two words of a backup.

    Source: https://www.postgresql.org/docs/18/continuous-archiving.html#BACKUP-LOWLEVEL-BASE-BACKUP
    """
    base = server.data_directory.with_name("base")
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("SELECT pg_backup_start('base', true)")
        left_out = shutil.ignore_patterns("postmaster.pid", "pg_wal", "pg_replslot")
        shutil.copytree(server.data_directory, base, symlinks=True, ignore=left_out)
        row = connection.execute("SELECT labelfile FROM pg_backup_stop(true)").fetchone()
        assert row is not None
        (base / "backup_label").write_text(row[0])
    for name in ("pg_wal", "pg_wal/archive_status", "pg_wal/summaries", "pg_replslot"):
        (base / name).mkdir(exist_ok=True)
    return base


def _go_back(server: PostgresServer, base: Path, archive: Path, moment: str) -> None:
    """Put the backup in the place of the data, and let the next start replay the log up to a moment."""
    owner = server.data_directory.stat()
    shutil.rmtree(server.data_directory)
    base.rename(server.data_directory)
    (server.data_directory / "recovery.signal").touch()
    for path in (server.data_directory, *server.data_directory.rglob("*")):
        shutil.chown(path, owner.st_uid, owner.st_gid)
    server.data_directory.chmod(0o700)
    server.settings |= {
        "restore_command": f"cp {archive}/%f %p",
        "recovery_target_time": moment,
        "recovery_target_action": "promote",
    }
