"""Emitter and service are killed at random moments while files land: the tables are those of an undisturbed run."""

import random
import time
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.emitters import emitter, expected_stored, raws_stored, source_settings, topics_of, visits_stored
from tests.support.kafka_broker import KafkaCluster
from tests.support.postgres import PostgresServer
from tests.support.service import Replica, prepare_database
from tests.support.sidecars import SideFile, detector_names, expected_sensors, sidecars, write
from tests.support.tables import Snapshot, difference, snapshot

POSITIONS = {"consumer_offset", "open_group"}
"""Tables that name the topic or its offsets, which repeated events move."""


def _settings(kafka: KafkaCluster, dsn: str, folder: Path) -> dict[str, object]:
    topic = f"kills-{uuid4()}"
    for each in topics_of(topic):
        kafka.create_topic(each)
    folder.mkdir()
    return source_settings(kafka.bootstrap, dsn, topic, list_every_s=2.0)


def _tables(dsn: str) -> Snapshot:
    return {name: rows for name, rows in snapshot(dsn).items() if name not in POSITIONS}


def _land(raws: Path, files: list[SideFile]) -> None:
    for file in files:
        write(raws, file)


def _run_with_kills(
    kafka: KafkaCluster, postgres: PostgresServer, folder: Path, *, kills: int, exposures: int, detectors: int
) -> None:
    seeded = random.Random(20_260_901)  # noqa: S311 - moments of kills, no secrets
    names = detector_names()[:detectors]
    files = [each for n in range(1, exposures + 1) for each in [expected_sensors(n), *sidecars(n, names)]]
    with postgres.database(prepare_database) as calm, postgres.database(prepare_database) as dsn:
        for database, disturbed in ((calm, False), (dsn, True)):
            run_folder = folder / ("disturbed" if disturbed else "calm")
            run_folder.mkdir()
            raws = run_folder / "raws"
            settings = _settings(kafka, database, raws)
            with (
                Replica(run_folder, settings) as service,
                emitter(run_folder, settings, "watch", str(raws)) as watching,
            ):
                if not disturbed:
                    _land(raws, files)
                else:
                    part = len(files) // kills + 1
                    for start in range(0, len(files), part):
                        _land(raws, files[start : start + part])
                        for process in (watching, service):
                            time.sleep(seeded.uniform(0.1, 1.5))
                            process.kill()
                            process.start()
                service.wait_until(
                    lambda database=database: raws_stored(database) == exposures * detectors,  # type: ignore[misc]
                    what="all raws",
                    timeout_s=120,
                )
                service.wait_until(
                    lambda database=database: (  # type: ignore[misc]
                        len(visits_stored(database)) == exposures and expected_stored(database) == exposures
                    ),
                    what="all visits and what is expected",
                    timeout_s=60,
                )
        lost = difference(_tables(dsn), _tables(calm))
        assert (lost.lost, lost.doubled) == (0, 0), lost.example


@pytest.mark.slow
def test_two_kills_each_leave_the_tables_of_an_undisturbed_run(
    kafka: KafkaCluster, postgres18: PostgresServer, tmp_path: Path
) -> None:
    _run_with_kills(kafka, postgres18, tmp_path, kills=2, exposures=4, detectors=20)


@pytest.mark.long
def test_ten_kills_each_leave_the_tables_of_an_undisturbed_run(
    kafka: KafkaCluster, postgres18: PostgresServer, tmp_path: Path
) -> None:
    _run_with_kills(kafka, postgres18, tmp_path, kills=10, exposures=20, detectors=205)
