"""What stands in the log, and the log itself: retention, recreation, aborted transactions, copies, wrong clocks."""

import json
import random
import time
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import TopicPartition

from consumer.events import encode_record, parse_writer_schema, record_of, schema_text
from consumer.model import RawIngested
from tests.faults.conftest import Scene, night
from tests.support.exposures import exposure
from tests.support.service import Wire
from tests.support.tables import snapshot

pytestmark = pytest.mark.kafka

IN_2099_MS = 4_070_908_800_000


def test_copies_shuffled_across_partitions(scene: Scene) -> None:
    copies = [each._replace(partition=number % 4) for each in night(1, 30) for number in range(10)]
    random.Random(7).shuffle(copies)  # noqa: S311 - a test's order
    scene.produce(copies)
    with scene.replica() as one, scene.replica("other"):
        scene.harmed()
        scene.judge(one)
    assert len(snapshot(scene.dsn)["visit"]) == 30


def test_aborted_transactions_are_never_visits(scene: Scene) -> None:
    producer = Producer(
        {"bootstrap.servers": scene.kafka.bootstrap, "transactional.id": scene.topic, "log_level": 0, "linger.ms": 5}
    )
    producer.init_transactions(30)
    with scene.replica() as replica:
        for number in range(6):
            producer.begin_transaction()
            for each in night(number * 10 + 1, number * 10 + 10):
                producer.produce(scene.topic, each.value, each.key)
            producer.flush(30)
            producer.abort_transaction(30) if number % 2 else producer.commit_transaction(30)
        scene.harmed()
        scene.judge(replica)
    assert len(snapshot(scene.dsn)["visit"]) == 30


def test_a_message_stamped_2099(scene: Scene) -> None:
    # It moves no clock but its partition's, and that by a minute at most: groups that wait are not closed by it.
    grouped = {"LSSTCam": {"group_exposures": "by-group-metadata"}}
    waiting = night(1, 2, group="waits for a third", group_size=3)
    early = [each._replace(timestamp_ms=int(time.time() * 1000)) for each in waiting]
    # Kafka itself refuses such a stamp by default, where the topic does not say otherwise.
    scene.kafka.delete_topic(scene.topic)
    scene.kafka.create_topic(scene.topic, config={"message.timestamp.after.max.ms": str(2**63 - 1)})
    with scene.replica(instruments=grouped, closing={"close_after_s": 600}) as replica:
        scene.produce(early)
        scene.until(replica, 40)
        scene.produce([each._replace(timestamp_ms=IN_2099_MS) for each in night(7, 7, group="alone", group_size=1)])
        scene.until(replica, 60)
        assert replica.metric("visit_consumer_clock_skew_clamped_total") > 0
        found = snapshot(scene.dsn)
        assert [row[1] for row in found["open_group"]] == ["waits for a third"]
        assert all(row[5] < time.time() * 1000 + 61_000 for row in found["consumer_offset"])
        scene.produce(night(3, 3, group="waits for a third", group_size=3))
        scene.until(replica, 80)
        assert sorted(row[4] for row in snapshot(scene.dsn)["visit"]) == ["alone", "waits for a third"]
        scene.tell(80)


def test_schema_evolution(scene: Scene) -> None:
    schema: dict[str, Any] = json.loads(schema_text("raw_ingested"))
    fields = schema["fields"]
    added = {**schema, "fields": [*fields, {"name": "weather", "type": "string", "default": ""}]}
    removed = {**schema, "fields": [f for f in fields if f["name"] != "uri"]}
    changed = {**schema, "fields": [{**f, "type": "string"} if f["name"] == "detector" else f for f in fields]}
    texts = [json.dumps(each) for each in (added, removed, changed)]
    values = [
        encode_record(
            {**record_of(RawIngested(exposure=exposure(n, instrument="LSSTCam"), detector=d)), **extra},
            parse_writer_schema(text),
        )
        for n, text, extra in zip((1, 2, 3), texts, ({"weather": "fine"}, {}, {"detector": "7"}), strict=True)
        for d in range(20)
    ]
    scene.produce([*[Wire(value) for value in values], *night(4, 6)])
    with scene.replica() as replica:
        scene.harmed()
        # Without a registry these schemas are unknown here: dead letters, with their bytes, for a later replay.
        scene.judge(replica, dead_letters=60)


def _delete_up_to(scene: Scene, offset: int) -> None:
    admin = AdminClient({"bootstrap.servers": scene.kafka.bootstrap, "log_level": 0})
    asked = admin.delete_records([TopicPartition(scene.topic, number, offset) for number in range(4)])
    for future in asked.values():
        future.result(30)


def _one_for_each_partition(first: int, last: int) -> list[Wire]:
    return [each._replace(partition=number % 4) for number, each in enumerate(night(first, last))]


def test_retention_passed_the_stored_offset(scene: Scene) -> None:
    scene.produce(_one_for_each_partition(1, 10))
    replica = scene.replica()
    with replica:
        scene.until(replica, 200)
    scene.produce(_one_for_each_partition(11, 20))
    _delete_up_to(scene, 70)
    with replica:
        # Never a silent reset: unready, and the gap is named.
        replica.wait_for_line("partition cannot be read", number=4)
        detail = replica.lines("partition cannot be read")[0]["detail"]
        assert "offsets 50 to 69" in detail
        assert "accept-gap" in detail
        replica.wait_until(lambda: replica.get("/readyz").status == 503, what="unready", timeout_s=5)
        assert replica.get("/healthz").status == 200
        assert scene.read() == 200
        scene.tell(400)


def test_topic_deleted_and_recreated(scene: Scene) -> None:
    scene.produce(_one_for_each_partition(1, 10))
    with scene.replica() as replica:
        scene.until(replica, 200)
        scene.kafka.delete_topic(scene.topic)
        scene.kafka.create_topic(scene.topic)
        # The new log has passed the old positions by the time that it is seen.
        scene.produce(_one_for_each_partition(11, 30))
        scene.harmed()

        def whole() -> bool:
            with scene.connect() as connection:
                rows = connection.execute(
                    "SELECT sum(next_offset) FROM visits.consumer_offset GROUP BY topic_id ORDER BY min(id)"
                ).fetchall()
            return len(rows) == 2 and rows[1] == (400,)

        replica.wait_until(whole, what="the end of the new log", timeout_s=60)
        assert len(snapshot(scene.dsn)["visit"]) == 30
        assert not snapshot(scene.dsn)["dead_letter"]
        scene.tell(600)
        logs = {(row[2], row[3]) for row in snapshot(scene.dsn)["consumer_offset"]}
        assert len(logs) == 8
