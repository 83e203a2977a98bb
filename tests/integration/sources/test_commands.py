"""The commands of emitters on real parts and buckets of moto: notifications, scan, rejections, probes, signals."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from moto.server import ThreadedMotoServer

from consumer.kafka.mock_cluster import EmbeddedBroker
from tests.support.brokers import Broker, MockBroker
from tests.support.children import free_port
from tests.support.commands import invoke, invoke_json
from tests.support.emitters import emitter, expected_stored, raws_stored, source_settings, topics_of, visits_stored
from tests.support.object_writing import ceph_record
from tests.support.postgres import PostgresServer
from tests.support.service import Replica, Wire, prepare_database, produce
from tests.support.sidecars import DAY_OBS, expected_sensors, exposure_id, sidecars, write

CREDENTIALS: Mapping[str, str] = {
    "AWS_ACCESS_KEY_ID": "k",
    "AWS_SECRET_ACCESS_KEY": "hunter22",
    "AWS_DEFAULT_REGION": "us-east-1",
}
SOME = ["R22_S11", "R22_S12", "R01_S00"]


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(store: str) -> str:
    name = f"raws-{uuid4()}"
    client(store).create_bucket(Bucket=name)
    return name


def client(store: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=store,
        region_name="us-east-1",
        aws_access_key_id="k",
        aws_secret_access_key="hunter22",  # noqa: S106 - of a store in memory
    )


@pytest.fixture
def topic(mock_broker: Broker) -> str:
    name = f"commands-{uuid4()}"
    for each in (*topics_of(name), f"{name}-objects"):
        mock_broker.create_topic(each)
    return name


def settings_of(broker: Broker, dsn: str, topic: str, store: str, bucket: str, **source: Any) -> dict[str, Any]:
    return source_settings(
        broker.bootstrap,
        dsn,
        topic,
        buckets={bucket: {"prefixes": ["LSSTCam/"]}},
        endpoint_url=store,
        notifications={"topic": f"{topic}-objects", "group": f"{topic}-source"},
        **source,
    )


def test_notifications_on_kafka_become_visits_and_bad_ones_are_listed_and_retried(
    mock_broker: Broker,
    topic: str,
    postgres18: PostgresServer,
    store: str,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = [*sidecars(1, SOME), expected_sensors(1)]
    late, broken = sidecars(2, SOME[:2])
    for each in files:
        client(store).put_object(Bucket=bucket, Key=each.key, Body=each.content)
    client(store).put_object(Bucket=bucket, Key=broken.key, Body=b'{"INSTRUME": "Nothing"}')
    records = [ceph_record(bucket, each) for each in (late, broken, *files, *files)]
    elsewhere = ceph_record("elsewhere", files[0])
    with postgres18.database(prepare_database) as dsn:
        settings = settings_of(mock_broker, dsn, topic, store, bucket)
        with (
            Replica(tmp_path, settings) as service,
            emitter(tmp_path, settings, "notifications", **CREDENTIALS) as reading,
        ):
            bodies = [json.dumps({"Records": [each]}).encode() for each in (*records, elsewhere)]
            produce(mock_broker.bootstrap, [Wire(each) for each in (b"{}", *bodies)], f"{topic}-objects")
            service.wait_until(lambda: raws_stored(dsn) == 3, what="what can be read")
            service.wait_until(lambda: expected_stored(dsn) == 1, what="what is expected")
            client(store).put_object(Bucket=bucket, Key=late.key, Body=late.content)
            service.wait_until(lambda: raws_stored(dsn) == 4, what="what came late")
            reading.wait_until(
                lambda: reading.metric("visit_consumer_source_rejected_total") == 2, what="what was rejected"
            )
            assert reading.metric("visit_consumer_source_ignored_total", reason="outside") == 1
            assert reading.terminate()[0] == 0
            rejected = invoke_json("emit", "rejected", "list", "--config", reading.config)
            assert {(each["reason"], each["uri"]) for each in rejected} == {
                ("bad_notification", None),
                ("unknown_instrument", f"s3://{bucket}/{broken.key}"),
            }
            assert "hunter22" not in json.dumps(rejected) + reading.log_tail(1000)
            for name, value in CREDENTIALS.items():
                monkeypatch.setenv(name, value)
            invoke(
                "emit", "rejected", "retry", "--reason", "unknown_instrument", "--config", reading.config, exit_code=1
            )
            client(store).put_object(Bucket=bucket, Key=broken.key, Body=broken.content)
            invoke("emit", "rejected", "retry", "--reason", "unknown_instrument", "--config", reading.config)
            service.wait_until(lambda: raws_stored(dsn) == 5, what="what was retried")
            left = invoke_json("emit", "rejected", "list", "--config", reading.config)
            assert [each["reason"] for each in left] == ["bad_notification"]
            service.wait_until(lambda: visits_stored(dsn) == [exposure_id(1), exposure_id(2)], what="visits")


def test_a_scan_emits_what_the_tables_lack_of_a_folder_and_of_a_bucket(
    mock_broker: Broker, topic: str, postgres18: PostgresServer, store: str, bucket: str, tmp_path: Path
) -> None:
    raws = tmp_path / "raws"
    first, second, third = sidecars(1, SOME)
    for each in (first, second):
        write(raws, each)
    for each in (first, second, third):
        client(store).put_object(Bucket=bucket, Key=each.key, Body=each.content)
    with postgres18.database(prepare_database) as dsn:
        settings = settings_of(mock_broker, dsn, topic, store, bucket)
        with Replica(tmp_path, settings) as service:
            service.wait_ready()

            def scan(*arguments: str) -> str:
                with emitter(tmp_path, settings, "scan", *arguments, **CREDENTIALS) as scanning:
                    assert scanning.wait_end(timeout_s=60) == 0, scanning.log_tail()
                    return scanning.log_tail(5)

            assert "2 objects listed, 0 already in the tables, 2 passed on" in scan(str(raws))
            service.wait_until(lambda: raws_stored(dsn) == 2, what="the folder")
            assert "2 objects listed, 2 already in the tables, 0 passed on" in scan(
                str(raws), "--day-obs", str(DAY_OBS)
            )
            assert "0 objects listed" in scan(f"s3://{bucket}", "--day-obs", "20260902")
            assert "3 objects listed, 2 already in the tables, 1 passed on" in scan(
                f"s3://{bucket}", "--day-obs", str(DAY_OBS)
            )
            service.wait_until(lambda: raws_stored(dsn) == 3, what="the bucket")


def test_a_bucket_that_is_not_configured_is_not_scanned(
    mock_broker: Broker, topic: str, store: str, bucket: str, tmp_path: Path
) -> None:
    settings = settings_of(mock_broker, "dbname=unused", topic, store, bucket)
    for url in ("s3://elsewhere", "file:///etc", "http://127.0.0.1/x"):
        with emitter(tmp_path, settings, "scan", url, **CREDENTIALS) as scanning:
            assert scanning.wait_end(timeout_s=60) == 78
            assert "no bucket of the settings" in scanning.log_tail()


def test_the_listener_is_of_this_machine_asks_for_its_token_and_ends_in_time(
    mock_broker: Broker, topic: str, store: str, bucket: str, tmp_path: Path
) -> None:
    secret = tmp_path / "token"
    secret.write_text("a-long-token\n")
    settings = settings_of(
        mock_broker, "dbname=unused", topic, store, bucket, listen={"port": 0, "token_file": str(secret)}
    )
    with emitter(tmp_path, settings, "listen", **CREDENTIALS) as listening:
        url = listening.wait_for_line("taking notifications")["url"]
        assert url.startswith("http://127.0.0.1:")
        assert post(url) == 401
        assert post(url, "a-long-token") == 200
        secret.write_text("another-token\n")
        assert post(url, "a-long-token") == 401
        assert post(url, "another-token") == 200
        assert listening.get("/healthz").status == 200
        code, took_s = listening.terminate()
        assert (code, took_s < 10) == (0, True)
        assert 'token"' not in listening.log_tail(1000)


def test_while_the_brokers_are_away_a_push_is_answered_with_503(store: str, bucket: str, tmp_path: Path) -> None:
    topic = "away"
    with EmbeddedBroker() as host:
        for each in topics_of(topic):
            host.create_topic(each)
        settings = settings_of(MockBroker(host), "dbname=unused", topic, store, bucket, listen={"port": 0})
        listening = emitter(tmp_path, settings, "listen", **CREDENTIALS)
        listening.start()
        url = listening.wait_for_line("taking notifications")["url"]
        assert post(url, body=b"{}") == 200
    with listening:
        assert post(url, body=b"{}") == 503  # the brokers did not acknowledge in time
        began_s = time.monotonic()
        assert post(url, body=b"{}") == 503  # they are known to be away
        assert time.monotonic() - began_s < 1
        assert listening.get("/readyz").status == 503
        assert listening.get("/healthz").status == 200
        code, took_s = listening.terminate()
        assert (code, took_s < 10) == (0, True)


def post(url: str, token: str | None = None, body: bytes = b'{"Records": []}') -> int:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body, headers=headers), timeout=10) as answer:  # noqa: S310 - our own
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
