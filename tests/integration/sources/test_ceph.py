"""A real Ceph gateway: pushed notifications, notifications on Kafka, and a scan for what a push has lost.

The small case is part of every run; ``make source-check`` has the full ones.
"""

import json
import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.support.ceph import ACCESS_KEY, SECRET_KEY, CephGateway, CephUnavailableError
from tests.support.children import free_port
from tests.support.emitters import BUCKET, emitter, raws_stored, source_settings, topics_of, visits_stored
from tests.support.kafka_broker import KafkaCluster
from tests.support.object_writing import ceph_record, night_files, put_all
from tests.support.postgres import PostgresServer
from tests.support.service import Replica, Wire, prepare_database, produce
from tests.support.sidecars import DAY_OBS, SideFile, detector_names, exposure_id
from tests.support.summary import note

CREDENTIALS: Mapping[str, str] = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "AWS_DEFAULT_REGION": "default",
}
EXPOSURES = range(1, 21)
SOME = ["R22_S11", "R22_S12", "R01_S00"]


@pytest.fixture(scope="module")
def ceph(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CephGateway]:
    try:
        gateway = CephGateway(tmp_path_factory.mktemp("ceph"))
    except CephUnavailableError as error:
        note(request.config, "missing", str(error))
        if os.environ.get("REQUIRE_CEPH") == "1":
            pytest.fail(f"REQUIRE_CEPH=1, but: {error}")
        pytest.skip(f"no Ceph: {error}")
    with gateway:
        yield gateway


@pytest.fixture
def topic(kafka: KafkaCluster) -> str:
    name = f"ceph-{uuid4()}"
    for each in topics_of(name):
        kafka.create_topic(each)
    kafka.create_topic(f"{name}-objects")
    return name


def settings_of(kafka: KafkaCluster, dsn: str, topic: str, ceph: CephGateway, bucket: str, port: int) -> dict[str, Any]:
    return source_settings(
        kafka.bootstrap,
        dsn,
        topic,
        buckets={bucket: {"prefixes": ["LSSTCam/"]}},
        endpoint_url=ceph.url,
        listen={"port": port},
        notifications={"topic": f"{topic}-objects", "group": f"{topic}-source"},
    )


def new_bucket(ceph: CephGateway, *, pushed_to: str | None = None) -> str:
    name = f"{BUCKET}-{uuid4()}"
    ceph.client("s3").create_bucket(Bucket=name)
    if pushed_to is not None:
        ceph.notify(name, pushed_to)
    return name


def scan(folder: Path, settings: Mapping[str, Any], bucket: str) -> None:
    with emitter(folder, settings, "scan", f"s3://{bucket}", "--day-obs", str(DAY_OBS), **CREDENTIALS) as scanning:
        assert scanning.wait_end(timeout_s=300) == 0, scanning.log_tail()


def assert_all_is_there(service: Replica, dsn: str, exposures: Sequence[int], n_detectors: int) -> None:
    service.wait_until(lambda: raws_stored(dsn) == len(exposures) * n_detectors, what="all raws", timeout_s=60)
    service.wait_until(lambda: len(visits_stored(dsn)) == len(exposures), what="all visits", timeout_s=60)
    assert visits_stored(dsn) == [exposure_id(number) for number in exposures]
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT count(*) FROM visits.dead_letter").fetchone() == (0,)


def test_pushed_notifications_become_visits_and_a_scan_finds_what_was_pushed_to_nobody(
    kafka: KafkaCluster, topic: str, postgres18: PostgresServer, ceph: CephGateway, tmp_path: Path
) -> None:
    port = free_port()
    bucket = new_bucket(ceph, pushed_to=f"http://127.0.0.1:{port}")
    seeded = random.Random(1)  # noqa: S311 - an order, no secret
    with postgres18.database(prepare_database) as dsn:
        settings = settings_of(kafka, dsn, topic, ceph, bucket, port)
        with Replica(tmp_path, settings) as service:
            with emitter(tmp_path, settings, "listen", **CREDENTIALS) as listening:
                service.wait_ready()
                listening.wait_for_line("taking notifications")
                put_all(lambda: ceph.client("s3"), bucket, night_files([1], SOME, seeded))
                service.wait_until(lambda: raws_stored(dsn) == 3, what="what was pushed")
            put_all(lambda: ceph.client("s3"), bucket, night_files([2], SOME, seeded))
            scan(tmp_path, settings, bucket)
            assert_all_is_there(service, dsn, [1, 2], 3)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_twenty_exposures_pushed_by_http_with_the_emitter_killed_five_times(
    kafka: KafkaCluster, topic: str, postgres18: PostgresServer, ceph: CephGateway, tmp_path: Path
) -> None:
    port = free_port()
    bucket = new_bucket(ceph, pushed_to=f"http://127.0.0.1:{port}")
    seeded = random.Random(20_260_901)  # noqa: S311 - an order, no secret
    files = night_files(EXPOSURES, None, seeded)
    with postgres18.database(prepare_database) as dsn:
        settings = settings_of(kafka, dsn, topic, ceph, bucket, port)
        with Replica(tmp_path, settings) as service, emitter(tmp_path, settings, "listen", **CREDENTIALS) as listening:
            service.wait_ready()
            listening.wait_for_line("taking notifications")
            sixth = len(files) // 6 + 1
            for start in range(0, len(files), sixth):
                put_all(lambda: ceph.client("s3"), bucket, files[start : start + sixth])
                if start + sixth < len(files):
                    listening.kill()
                    listening.start()
            time.sleep(2)
            scan(tmp_path, settings, bucket)
            assert_all_is_there(service, dsn, EXPOSURES, len(detector_names()))


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_twenty_exposures_notified_on_kafka_with_the_emitter_killed_five_times(
    kafka: KafkaCluster, topic: str, postgres18: PostgresServer, ceph: CephGateway, tmp_path: Path
) -> None:
    bucket = new_bucket(ceph)
    seeded = random.Random(20_260_902)  # noqa: S311 - an order, no secret
    files = night_files(EXPOSURES, None, seeded)

    def notify(some: Sequence[SideFile]) -> None:
        records = [json.dumps({"Records": [ceph_record(bucket, each)]}).encode() for each in some]
        produce(kafka.bootstrap, [Wire(each) for each in records], f"{topic}-objects")

    with postgres18.database(prepare_database) as dsn:
        settings = settings_of(kafka, dsn, topic, ceph, bucket, free_port())
        with (
            Replica(tmp_path, settings) as service,
            emitter(tmp_path, settings, "notifications", **CREDENTIALS) as reading,
        ):
            service.wait_ready()
            sixth = len(files) // 6 + 1
            for start in range(0, len(files), sixth):
                some = files[start : start + sixth]
                notify(some[: sixth // 2])  # some are notified before they can be read
                put_all(lambda: ceph.client("s3"), bucket, some)
                notify(some[sixth // 2 :])
                if start + sixth < len(files):
                    reading.kill()
                    reading.start()
            assert_all_is_there(service, dsn, EXPOSURES, len(detector_names()))
