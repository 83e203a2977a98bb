"""A folder becomes visits: what is there, what lands, what is still being written."""

import time
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.brokers import Broker
from tests.support.emitters import emitter, raws_stored, source_settings, topics_of, visits_stored
from tests.support.postgres import PostgresServer
from tests.support.service import Replica, prepare_database
from tests.support.sidecars import exposure_id, exposure_name, key_of, sidecars, write

SOME = ["R22_S11", "R22_S12", "R01_S00"]


@pytest.fixture
def topic(broker: Broker) -> str:
    name = f"watch-{uuid4()}"
    for each in topics_of(name):
        broker.create_topic(each)
    return name


def test_a_folder_becomes_visits_as_files_land(
    broker: Broker, topic: str, postgres18: PostgresServer, tmp_path: Path
) -> None:
    raws = tmp_path / "raws"
    raws.mkdir()
    for file in sidecars(1, SOME):
        write(raws, file)
    with postgres18.database(prepare_database) as dsn:
        settings = source_settings(broker.bootstrap, dsn, topic)
        with Replica(tmp_path, settings) as service, emitter(tmp_path, settings, "watch", str(raws)) as watching:
            service.wait_ready()
            service.wait_until(lambda: raws_stored(dsn) == 3, what="what was there")
            for file in sidecars(2, SOME):
                write(raws, file)
            moved = tmp_path / "moved"
            for file in sidecars(3, SOME):
                write(moved, file)
            (moved / "LSSTCam" / "20260901" / exposure_name(3)).rename(raws / "LSSTCam" / "20260901" / exposure_name(3))
            slow = raws / key_of(4, f"{SOME[0]}.json")
            slow.parent.mkdir()
            (content,) = [each.content for each in sidecars(4, SOME[:1])]
            with slow.open("wb") as stream:
                for start in range(0, len(content), 1000):
                    stream.write(content[start : start + 1000])
                    stream.flush()
                    time.sleep(0.1)
            service.wait_until(lambda: raws_stored(dsn) == 10, what="what landed")
            service.wait_until(lambda: len(visits_stored(dsn)) == 4, what="all visits")
            assert visits_stored(dsn) == [exposure_id(number) for number in (1, 2, 3, 4)]
            assert watching.get("/readyz").status == 200
            # One that changes after it was read is sent again: at least once.
            assert watching.metric("visit_consumer_source_events_total", instrument="LSSTCam") >= 10
            assert watching.metric("visit_consumer_source_rejected_total") == 0
            code, took_s = watching.terminate()
            assert code == 0
            assert took_s < 10


@pytest.mark.slow
@pytest.mark.alone
def test_an_exposure_of_205_sidecars_that_land_at_once_is_a_visit_within_2_seconds(
    mock_broker: Broker, postgres18: PostgresServer, tmp_path: Path
) -> None:
    topic = f"watch-{uuid4()}"
    for each in topics_of(topic):
        mock_broker.create_topic(each)
    raws = tmp_path / "raws"
    raws.mkdir()
    with postgres18.database(prepare_database) as dsn:
        settings = source_settings(mock_broker.bootstrap, dsn, topic)
        with Replica(tmp_path, settings) as service, emitter(tmp_path, settings, "watch", str(raws)) as watching:
            service.wait_ready()
            watching.wait_until(lambda: watching.get("/readyz").status == 200, what="/readyz")
            for number in range(1, 4):
                for file in sidecars(number):
                    write(raws, file)
                landed_s = time.monotonic()
                service.wait_until(lambda number=number: len(visits_stored(dsn)) == number, what="the visit")  # type: ignore[misc]
                service.wait_until(lambda number=number: raws_stored(dsn) == 205 * number, what="raws")  # type: ignore[misc]
                took_s = time.monotonic() - landed_s
                assert took_s < 2
