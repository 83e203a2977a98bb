"""What stands in the log, and the log itself: retention, recreation, aborted transactions, copies, wrong clocks."""

import random
import time
from collections.abc import Sequence

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import TopicPartition

from tests.faults.conftest import Scene, night, refusals
from tests.support.commands import invoke_json
from tests.support.service import Wire
from tests.support.tables import names_of_logs, snapshot

pytestmark = pytest.mark.kafka

IN_2099_MS = 4_070_908_800_000
MAX_CLOCK_SKEW_MS = 60_000
"""The default of ``closing.max_clock_skew_s``."""


def _now_ms() -> int:
    return int(time.time() * 1000)


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
    begin_ms = _now_ms()
    waiting = night(1, 2, group="waits for a third", group_size=3)
    early = [each._replace(timestamp_ms=begin_ms, partition=0) for each in waiting]
    early += [
        each._replace(timestamp_ms=begin_ms, partition=number % 3)
        for number, each in enumerate(night(5, 6, group_size=1))
    ]
    # Kafka itself refuses such a stamp by default, where the topic does not say otherwise.
    scene.kafka.delete_topic(scene.topic)
    scene.kafka.create_topic(scene.topic, config={"message.timestamp.after.max.ms": str(2**63 - 1)})
    # Neither is due by a clock that is right, however slow this machine is
    closing = {"close_after_s": 600, "next_group_grace_s": 600}
    with scene.replica(instruments=grouped, closing=closing) as replica:
        scene.produce(early)
        scene.until(replica, 80)
        alone = night(7, 7, group="alone", group_size=1)
        scene.produce([each._replace(timestamp_ms=IN_2099_MS, partition=3) for each in alone])
        scene.until(replica, 100)
        assert replica.metric("visit_consumer_clock_skew_clamped_total") > 0
        found = snapshot(scene.dsn)
        assert [row[1] for row in found["open_group"]] == ["waits for a third"]
        # The replay gets the clock that the service had when it read the stamp, which is known to the second.
        read_ms = max(row[5] for row in found["consumer_offset"]) - MAX_CLOCK_SKEW_MS
        assert begin_ms <= read_ms <= _now_ms()
        last = night(3, 3, group="waits for a third", group_size=3)
        scene.produce([each._replace(partition=0) for each in last])
        scene.judge(replica, clock_ms=read_ms)
        assert {"alone", "waits for a third"} <= {row[4] for row in snapshot(scene.dsn)["visit"]}


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
    read = scene.log()
    scene.produce(_one_for_each_partition(11, 20))
    _delete_up_to(scene, 70)
    with replica:
        # Never a silent reset: unready, and the gap is named.
        replica.wait_until(lambda: len(refusals(replica)) == 4, what="four partitions that are not read")
        for detail in refusals(replica).values():
            assert "offsets 50 to 69" in detail
            assert "accept-gap" in detail
        replica.wait_until(lambda: replica.get("/readyz").status == 503, what="unready", timeout_s=5)
        assert replica.get("/healthz").status == 200
        assert scene.read() == 200
        # An operator's word, and what is left is read by the same process.
        moved = invoke_json("positions", "accept-gap", "--config", replica.config)
        assert sorted((each["before"], each["after"]) for each in moved) == [(50, 70)] * 4
        scene.harmed()
        scene.judge(replica, gone=[read])
        replica.wait_ready()
    assert len(snapshot(scene.dsn)["visit"]) == 16


def _recreate(scene: Scene, bad: Sequence[Wire]) -> None:
    scene.produce(_one_for_each_partition(1, 10))
    with scene.replica() as replica:
        scene.until(replica, 200)
        former = scene.log()
        scene.kafka.delete_topic(scene.topic)
        scene.kafka.create_topic(scene.topic)
        # The new log has passed the old positions by the time that it is seen.
        scene.produce([*_one_for_each_partition(11, 30), *bad])
        scene.harmed()
        replica.wait_until(
            lambda: not set(names_of_logs(scene.dsn).values()) & set(former.names.values()),
            what="claims of the new log",
        )
        scene.judge(replica, gone=[former], dead_letters=len(bad))
    assert len(snapshot(scene.dsn)["visit"]) == 30


def test_topic_deleted_and_recreated(scene: Scene) -> None:
    _recreate(scene, [])


def test_topic_deleted_and_recreated_with_bad_messages(scene: Scene) -> None:
    # Told once, though they may be met twice: where reading of the old log went on, and from the new one's start.
    _recreate(scene, [Wire(b"junk", partition=number) for number in range(4)])
