"""The fixtures' promises that no other test would notice broken: nothing outlives a run, nothing is lost in silence."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from tests.support.children import ended
from tests.support.kafka_broker import KafkaCluster
from tests.support.waiting import give_up_at

_ROOT = Path(__file__).parents[2]
_SUICIDE = """
import os, signal
from tests.support.postgres import PostgresServer, wheel_binaries
server = PostgresServer(wheel_binaries(), fast=True)
server.start()
print(server.pid, server.data_directory, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
_ONE_TEST = "tests/integration/test_broker_contract.py::test_watermarks_count_what_was_produced"


def _run_without_java(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one test of the contract where neither Java nor Maven is on the path."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", _ONE_TEST],
        cwd=_ROOT,
        env={"PATH": str(folder), "HOME": str(folder), **environment},
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_server_ends_with_a_killed_test_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SUICIDE], cwd=_ROOT, check=False, capture_output=True, text=True, timeout=120
    )
    pid, data = done.stdout.split()
    deadline = give_up_at(20)
    while not ended(int(pid)):
        assert time.monotonic() < deadline, f"PostgreSQL {pid} still runs"
        time.sleep(0.1)
    assert not (Path(data) / "postmaster.pid").exists()
    shutil.rmtree(Path(data).parent)


def test_without_kafka_the_last_lines_say_so(tmp_path: Path) -> None:
    done = _run_without_java(tmp_path)
    assert done.returncode == 0, done.stdout
    assert "NOT on Apache Kafka, only on the mock cluster" in done.stdout
    assert "java is not installed" in done.stdout
    assert "1 passed, 1 skipped" in done.stdout.splitlines()[-1]


def test_without_kafka_a_run_that_requires_it_fails(tmp_path: Path) -> None:
    done = _run_without_java(tmp_path, REQUIRE_APACHE_KAFKA="1")
    assert done.returncode == 1
    assert "1 passed, 1 error" in done.stdout.splitlines()[-1]


def test_topics_can_be_deleted_and_made_again(kafka: KafkaCluster) -> None:
    kafka.create_topic("made-twice", 3)
    with pytest.raises(Exception, match="already exists"):
        kafka.create_topic("made-twice", 3)
    kafka.delete_topic("made-twice")
    kafka.create_topic("made-twice", 5, config={"message.timestamp.type": "LogAppendTime"})


@pytest.mark.kafka
def test_a_killed_broker_keeps_its_messages_and_a_frozen_one_answers_nothing(kafka: KafkaCluster) -> None:
    # `kafka` is asked for only to skip where there is none: the run's broker is not for killing
    with KafkaCluster() as cluster:
        cluster.create_topic("kept", 1)
        producer = Producer({"bootstrap.servers": cluster.bootstrap, "acks": "all", "log_level": 0})
        producer.produce("kept", b"value")
        assert producer.flush(30) == 0
        pid = cluster.brokers[0].pid
        cluster.kill()
        assert ended(pid)
        cluster.start()
        assert cluster.bootstrap != kafka.bootstrap
        consumer = Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": "unused", "log_level": 0})
        assert consumer.get_watermark_offsets(TopicPartition("kept", 0), timeout=30) == (0, 1)
        cluster.pause()
        with pytest.raises(KafkaException):
            consumer.list_topics(timeout=2)
        cluster.resume()
        assert "kept" in consumer.list_topics(timeout=30).topics
        consumer.close()
