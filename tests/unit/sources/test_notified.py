"""A notification is acknowledged once all of its records are."""

import json
from collections import Counter

import pytest

from consumer.sources.interfaces import EmitCommand
from consumer.sources.notified import NotificationIntake
from consumer.sources.s3_notifications import MAX_NOTIFICATION_BYTES
from tests.support.emitting import Bench, header, key_of


@pytest.fixture
def bench() -> Bench:
    return Bench()


class Acknowledged(Counter[str]):
    """Counts acknowledgements of one message."""

    def __call__(self) -> None:
        self["times"] += 1


def body(*keys: str, bucket: str = "raws") -> bytes:
    records = [
        {
            "eventSource": "ceph:s3",
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": bucket}, "object": {"key": key, "eTag": "a"}},
        }
        for key in keys
    ]
    return json.dumps({"Records": records}).encode()


def intake(bench: Bench) -> NotificationIntake:
    return NotificationIntake(bench.pipeline, bench.places, bench.metrics, EmitCommand.NOTIFICATIONS)


def test_a_message_of_two_objects_is_acknowledged_once_both_are(bench: Bench) -> None:
    done = Acknowledged()
    bench.store.objects = {key_of(1): header(1), key_of(2): header(2)}
    intake(bench).take(body(key_of(1), key_of(2)), done)
    bench.pipeline.step(0)
    first, second = bench.reads_elsewhere
    bench.reads_elsewhere.clear()
    first()
    bench.run()
    assert done["times"] == 0
    second()
    bench.run()
    assert done["times"] == 1
    assert len(bench.raws()) == 2


def test_another_bucket_is_not_read_whatever_a_notification_says(bench: Bench) -> None:
    done = Acknowledged()
    intake(bench).take(body(key_of(), bucket="secrets"), done)
    bench.run()
    assert done["times"] == 1
    assert not bench.store.reads
    assert bench.count("ignored_total", reason="outside") == 1


@pytest.mark.parametrize(
    "message",
    [b"{}", b" " * (MAX_NOTIFICATION_BYTES + 1), b'{"Records": [{}]}'],
    ids=["no Records", "too long", "an empty record"],
)
def test_what_is_no_notification_is_acknowledged_once_the_brokers_have_its_rejection(
    bench: Bench, message: bytes
) -> None:
    done = Acknowledged()
    bench.producer.answering = False
    intake(bench).take(message, done)
    bench.run()
    assert done["times"] == 0
    bench.producer.answering = True
    bench.run()
    assert done["times"] == 1
    (rejection,) = bench.rejections()
    assert rejection["reason"] == "bad_notification"
    assert rejection["uri"] is None
    assert len(rejection["notification"]) <= 65_536


def test_a_message_without_records_is_acknowledged_at_once(bench: Bench) -> None:
    done = Acknowledged()
    intake(bench).take(b'{"Records": []}', done)
    assert done["times"] == 1
