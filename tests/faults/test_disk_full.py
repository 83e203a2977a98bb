"""The disk is full: of the tables, so that PostgreSQL refuses rows, and of its log, so that it dies of it.

The disks are file systems in memory that the case mounts, which needs root; elsewhere the cases are skipped.
"""

import contextlib
import errno
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import assert_undisturbed, night, set_scene
from tests.support.faults_table import FaultsTable
from tests.support.kafka_broker import KafkaCluster
from tests.support.postgres import PostgresServer, wheel_binaries
from tests.support.proxy import Proxy
from tests.support.service import Replica

pytestmark = [pytest.mark.kafka, pytest.mark.alone]

REFUSALS = 10
"""Attempts to wait for: with the pauses between them, longer than the group's session."""


@contextlib.contextmanager
def small_disk(size_mb: int) -> Iterator[Path]:
    """Mount a file system of this size for a while; skips the test where that is not permitted."""
    with tempfile.TemporaryDirectory(prefix="visit-consumer-disk-") as folder:
        options = f"size={size_mb}m,mode=755"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=False, capture_output=True, text=True
        )
        if done.returncode != 0:
            pytest.skip(f"no small disk to fill: {done.stderr.strip() or 'mount failed'}")
        try:
            yield Path(folder)
        finally:
            # Lazily: somebody who still has a file open there must not keep it mounted.
            subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk: Path) -> Path:
    """Take all that is left of a disk, and return the file that holds it."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(2**20))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    return ballast


def _refusals(replica: Replica, kind: str) -> float:
    return replica.metric("visit_consumer_db_errors_total", **{"class": kind})


def test_disk_of_the_tables_full(
    faults_table: FaultsTable, proxied_kafka: tuple[KafkaCluster, Proxy], tmp_path: Path
) -> None:
    with contextlib.ExitStack() as stack:
        disk = stack.enter_context(small_disk(160))
        (disk / "data").mkdir()
        wal = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="visit-consumer-wal-")))
        server = stack.enter_context(
            PostgresServer(wheel_binaries(), fast=True, data_directory=disk / "data", wal_directory=wal)
        )
        kafka, broker_proxy = proxied_kafka
        scene = stack.enter_context(set_scene(faults_table, kafka, server, tmp_path, broker_proxy))
        scene.produce(night(1, 30))
        replica = stack.enter_context(scene.replica())
        scene.until(replica, 100)
        ballast = fill(disk)
        scene.produce(night(31, 120))
        replica.wait_until(lambda: _refusals(replica, "53") >= REFUSALS, what="rows that find no room")
        at_stop = scene.read()
        assert at_stop < 2400, "there was room for all"
        assert "No space left on device" in replica.lines("database unavailable, retrying")[-1]["detail"]
        assert replica.get("/healthz").status == 200
        assert replica.get("/readyz").status == 503
        ballast.unlink()
        scene.harmed()
        scene.judge(replica)
        assert_undisturbed(replica)


def test_disk_of_the_write_ahead_log_full(
    faults_table: FaultsTable, proxied_kafka: tuple[KafkaCluster, Proxy], tmp_path: Path
) -> None:
    with contextlib.ExitStack() as stack:
        disk = stack.enter_context(small_disk(192))
        (disk / "wal").mkdir()
        # No checkpoint makes room meanwhile.
        settings = {"max_wal_size": "2GB", "checkpoint_timeout": "1h"}
        server = stack.enter_context(
            PostgresServer(wheel_binaries(), fast=True, settings=settings, wal_directory=disk / "wal")
        )
        kafka, broker_proxy = proxied_kafka
        scene = stack.enter_context(set_scene(faults_table, kafka, server, tmp_path, broker_proxy))
        scene.produce(night(1, 30))
        replica = stack.enter_context(scene.replica())
        scene.until(replica, 100)
        ballast = fill(disk)
        scene.produce(night(31, 400))
        # PostgreSQL has to write its log: it breaks off, and its recovery finds no room either.
        replica.wait_until(lambda: not server.running, what="the server's end", timeout_s=60)
        assert "PANIC" in server.log.read_text()
        replica.wait_until(lambda: _refusals(replica, "connection") >= REFUSALS, what="attempts to connect")
        assert replica.get("/healthz").status == 200
        assert replica.get("/readyz").status == 503
        ballast.unlink()
        server.start()
        scene.harmed()
        scene.judge(replica)
        assert_undisturbed(replica)
