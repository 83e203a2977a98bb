"""The promise, on real parts: the service is killed again and again, and the tables are those of one clean reading."""

import random
import time
from pathlib import Path

import pytest

from tests.support.exposures import exposure
from tests.support.kafka_broker import KafkaCluster
from tests.support.postgres import PostgresServer
from tests.support.proxy import Proxy
from tests.support.service import Replica, Wire, prepare_database, produce, raws_of, settings_for
from tests.support.tables import (
    assert_every_offset_is_explained,
    assert_no_way_back,
    difference,
    log_of,
    moves,
    replay,
    snapshot,
    total_read,
    watch_positions,
)

N_EXPOSURES = 100
N_DETECTORS = 205
N_KILLS = 10


def _stream() -> list[Wire]:
    exposures = [
        exposure(n, instrument="LSSTCam", tracking_ra=(n * 7.3) % 360, tracking_dec=-60 + n * 0.3, sky_angle=n * 1.7)
        for n in range(1, N_EXPOSURES + 1)
    ]
    return raws_of(exposures, range(N_DETECTORS))


@pytest.mark.slow
def test_ten_kills_leave_the_tables_of_an_undisturbed_run(
    kafka: KafkaCluster, postgres18: PostgresServer, tmp_path: Path
) -> None:
    topic = "kills"
    kafka.create_topic(topic)
    messages = _stream()
    produce(kafka.bootstrap, messages, topic)
    seeded = random.Random(20_261_101)  # noqa: S311 - moments of kills, no secrets
    with (
        postgres18.database(prepare_database) as dsn,
        postgres18.database(prepare_database) as calm,
        Proxy(postgres18.port) as proxy,
    ):
        watch_positions(dsn)
        # Slow enough that every kill falls into the stream, however busy the machine is: 0.2 s a batch or more.
        proxy.delay_s = 0.005
        settings = settings_for(
            kafka.bootstrap,
            postgres18.dsn(dsn.rpartition("/")[2], port=proxy.port),
            kafka={"topics": [topic], "group": "killed", "session_timeout_s": 1},
            batch={"max_messages": 500},
        )
        replica = Replica(tmp_path, settings)
        at_kill = []
        for number in range(N_KILLS):
            # The next kill falls somewhere in the next tenth of what is left, at any point of a batch's life.
            before = total_read(dsn)
            replica.start()
            goal = before + (len(messages) - before) // (2 * (N_KILLS - number)) + 1
            replica.wait_until(lambda goal=goal: total_read(dsn) >= goal, what=f"{goal} messages", timeout_s=60)  # type: ignore[misc] # mypy cannot infer a lambda with a default
            time.sleep(seeded.uniform(0, 0.05))
            replica.kill()
            at_kill.append(total_read(dsn))
        assert all(0 < read < len(messages) for read in at_kill), at_kill
        assert at_kill == sorted(set(at_kill)), "a process made no progress between two kills"
        proxy.heal()
        with replica:
            replica.wait_until(lambda: total_read(dsn) == len(messages), what="the end of the log", timeout_s=90)
        undisturbed = settings_for(
            kafka.bootstrap, calm, kafka={"topics": [topic], "group": "killed"}, batch={"max_messages": 10_000}
        )
        with Replica(tmp_path, undisturbed, name="calm") as other:
            other.wait_until(lambda: total_read(calm) == len(messages), what="the end of the log", timeout_s=90)
        found = snapshot(dsn)
        assert len(found["visit"]) == N_EXPOSURES
        assert len(found["visit_detector_region"]) == len(messages)
        assert not difference(found, snapshot(calm)).example
        assert found == snapshot(calm)
        assert_no_way_back(dsn)
        assert len({epoch for _, epoch, _, _ in moves(dsn)}) > N_KILLS / 2
        assert_every_offset_is_explained(dsn, settings, [log_of(dsn, kafka.bootstrap, topic)])


def test_the_oracle_agrees_with_the_service_and_sees_a_missing_row(
    kafka: KafkaCluster, postgres18: PostgresServer, tmp_path: Path
) -> None:
    topic = "oracle"
    kafka.create_topic(topic)
    produce(kafka.bootstrap, [*raws_of([exposure(n) for n in range(1, 21)], range(9)), Wire(b"junk")], topic)
    with postgres18.database(prepare_database) as dsn, postgres18.database(prepare_database) as calm:
        watch_positions(dsn)
        settings = settings_for(kafka.bootstrap, dsn, kafka={"topics": [topic], "group": topic})
        with Replica(tmp_path, settings) as replica:
            replica.wait_until(lambda: total_read(dsn) == 181, what="the end of the log")
        log = log_of(dsn, kafka.bootstrap, topic)
        replay(calm, settings, [log])
        expected = snapshot(calm)
        assert snapshot(dsn) == expected
        assert_no_way_back(dsn)
        assert_every_offset_is_explained(dsn, settings, [log])
        with postgres18.connect(dsn.rpartition("/")[2]) as connection:
            connection.execute("DELETE FROM visits.visit_detector_region WHERE detector = 3 AND visit % 2 = 0")
            connection.execute("DELETE FROM visits.dead_letter")
            connection.execute("UPDATE visits.exposure SET detectors = '{[0,2)}' WHERE id % 20 = 5")
        found = difference(snapshot(dsn), expected)
        assert (found.lost, found.doubled) == (10 + 1 + 1, 1)
        with pytest.raises(AssertionError, match="left no trace"):
            assert_every_offset_is_explained(dsn, settings, [log])
