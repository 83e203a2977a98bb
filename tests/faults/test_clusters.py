"""Three brokers: the group's coordinator dies, the topic's leader dies, all restart, a failover loses messages."""

import contextlib
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from consumer.errors import TransientError
from consumer.kafka.log_inspector import LogInspector
from consumer.kafka.properties import Properties
from consumer.model import PartitionId
from tests.faults.conftest import Scene, night, refusals, set_scene
from tests.support.brokers import skips_without_kafka
from tests.support.commands import invoke_json
from tests.support.faults_table import FaultsTable
from tests.support.kafka_broker import KafkaBroker, KafkaCluster
from tests.support.load import Load
from tests.support.postgres import PostgresServer
from tests.support.service import Replica, Wire
from tests.support.summary import note
from tests.support.tables import assert_every_offset_is_explained, moves, read_log, snapshot, stored_positions

pytestmark = pytest.mark.kafka

PER_S = 200
PROPERTIES = {
    "min.insync.replicas": "2",
    # How soon a member of the newer protocol hears that another takes a partition over: five seconds by default
    "group.consumer.heartbeat.interval.ms": "1000",
}


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[KafkaCluster]:
    """Three brokers; what is acknowledged by all is on two of them at least."""
    with skips_without_kafka(request.config):
        cluster = KafkaCluster(3, properties=PROPERTIES)
    with cluster:
        note(request.config, "brokers", f"Apache Kafka {cluster.version}")
        yield cluster


@pytest.fixture
def scene(
    faults_table: FaultsTable, cluster: KafkaCluster, faulty_postgres: PostgresServer, tmp_path: Path
) -> Iterator[Scene]:
    """Set the scene of one case on three brokers that have every message."""
    with set_scene(faults_table, cluster, faulty_postgres, tmp_path, replication=3) as scene:
        yield scene


def _endless() -> Iterator[Wire]:
    return itertools.chain.from_iterable(night(number, number) for number in itertools.count(1))


def _load(scene: Scene) -> Load:
    return Load(scene.kafka.bootstrap, scene.topic, _endless(), per_s=PER_S)


def _coordinator(scene: Scene, replica: Replica, former: KafkaBroker | None = None) -> KafkaBroker:
    """Wait until the group has a coordinator, and another one than the former."""
    found: list[KafkaBroker] = []

    def answered() -> bool:
        asked = scene.kafka.coordinator(scene.topic)  # the group is named after the topic
        if asked is not None and asked is not former:
            found.append(asked)
        return bool(found)

    replica.wait_until(answered, what="a coordinator")
    return found[0]


def _led_without(scene: Scene, former: KafkaBroker) -> bool:
    leaders = scene.kafka.leaders(scene.topic).values()
    return None not in leaders and former not in leaders


def _coordinator_as_described(scene: Scene) -> int | None:
    admin = AdminClient({"bootstrap.servers": scene.kafka.bootstrap, "log_level": 0})
    described = admin.describe_consumer_groups([scene.topic])[scene.topic].result(30)
    return described.coordinator.id if described.members else None


def _judge_all(scene: Scene, replica: Replica, load: Load, recovery_s: float | None = None) -> None:
    """Hold the log to have every message that was acknowledged, and the tables to the log."""
    load.stop()
    assert len(read_log(scene.kafka.bootstrap, scene.topic)[0]) == load.acknowledged
    scene.judge(replica, recovery_s=recovery_s)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_coordinator_killed(scene: Scene, protocol: str) -> None:
    kafka = {"group_protocol": protocol}
    with scene.replica(kafka=kafka) as replica, _load(scene) as load:
        scene.until(replica, 200)
        former = _coordinator(scene, replica)
        assert former.node_id == _coordinator_as_described(scene)
        former.kill()
        scene.harmed()
        assert _coordinator(scene, replica, former).running
        # Only a coordinator lets somebody in and takes partitions from another.
        with scene.replica("heir", kafka=kafka) as heir:
            heir.wait_for_line("partition claimed")
            recovery_s = scene.since_harmed_s
            assert recovery_s is not None
            former.start()
            scene.kafka.wait_in_sync(scene.topic)
            _judge_all(scene, replica, load, recovery_s=recovery_s)
            assert heir.running


def test_one_of_three_brokers_hangs(scene: Scene) -> None:
    """It takes connections and says nothing: worse than one that is dead. Somebody is to start nevertheless."""
    with scene.replica() as replica, _load(scene) as load:
        scene.until(replica, 200)
        hangs = _coordinator(scene, replica)
        hangs.pause()
        replica.wait_until(lambda: _led_without(scene, hangs), what="other leaders")
        scene.harmed()
        with scene.replica("heir") as heir:
            heir.wait_for_line("partition claimed", number=2, timeout_s=60)
            recovery_s = scene.since_harmed_s
            assert recovery_s is not None
            load.stop()
            scene.until(heir, load.acknowledged)
            hangs.resume()
            scene.kafka.wait_in_sync(scene.topic)
            _judge_all(scene, heir, load, recovery_s=recovery_s)
            assert replica.running


@pytest.mark.long
def test_questions_about_a_log_while_each_of_three_brokers_hangs(cluster: KafkaCluster) -> None:
    cluster.create_topic("asked", replication=3)
    connection: Properties = {"bootstrap.servers": cluster.bootstrap, "log_level": 0}
    with contextlib.closing(LogInspector(connection, group="asks")) as asks:
        for broker in cluster.brokers:
            assert _answers(asks)
            broker.pause()
            try:
                begin = time.monotonic()
                while not _answers(asks):
                    assert time.monotonic() - begin < 30
            finally:
                broker.resume()
            cluster.wait_in_sync("asked")


def _answers(asks: LogInspector) -> bool:
    """Ask what a claim asks."""
    try:
        asks.identify("asked")
        for number in range(4):
            asks.watermarks(PartitionId("asked", number))
    except TransientError:
        return False
    return True


def test_leader_killed(scene: Scene) -> None:
    with scene.replica() as replica, _load(scene) as load:
        scene.until(replica, 200)
        leaders = scene.kafka.leaders(scene.topic)
        # Not the one of the other case: the group shall have nothing to do with it.
        coordinator = _coordinator(scene, replica)
        killed = next(each for each in leaders.values() if each is not None and each is not coordinator)
        led = [number for number, each in leaders.items() if each is killed]
        killed.kill()
        scene.harmed()
        replica.wait_until(lambda: _led_without(scene, killed), what="other leaders")
        # What had been fetched of the former leader does not count.
        ends = {each.partition: end for each, end in read_log(scene.kafka.bootstrap, scene.topic)[1].items()}
        replica.wait_until(
            lambda: all((stored_positions(scene.dsn)[number] or 0) > ends[number] for number in led),
            what=f"partitions {led} read of another leader",
            timeout_s=90,
        )
        recovery_s = scene.since_harmed_s
        assert recovery_s is not None
        _judge_all(scene, replica, load, recovery_s=recovery_s)
        assert not refusals(replica)


def test_rolling_restart(scene: Scene) -> None:
    with scene.replica() as replica, _load(scene) as load:
        scene.until(replica, 200)
        for broker in scene.kafka.brokers:
            broker.restart()
            scene.kafka.wait_in_sync(scene.topic)
        scene.harmed()
        _judge_all(scene, replica, load)
        assert not refusals(replica)


def _unsafe_topic(scene: Scene) -> tuple[KafkaBroker, KafkaBroker]:
    """Make the topic anew, on two brokers, where a laggard may become leader: the leader and the laggard."""
    leader, laggard, _ = scene.kafka.brokers
    scene.kafka.delete_topic(scene.topic)
    unsafe = {"min.insync.replicas": "1", "unclean.leader.election.enable": "true"}
    scene.kafka.create_topic(scene.topic, config=unsafe, replicas=[leader, laggard])
    return leader, laggard


def _read_what_one_broker_has_alone(scene: Scene, replica: Replica, leader: KafkaBroker, laggard: KafkaBroker) -> None:
    """Read 100 messages of each partition that both brokers have, and 50 that only the leader has."""
    scene.produce(_over_all_partitions(1, 20))
    scene.until(replica, 400)
    laggard.pause()
    # Only then is its last request answered, with nothing.
    alone = {number: {leader.node_id} for number in range(4)}
    replica.wait_until(lambda: scene.kafka.in_sync(scene.topic) == alone, what="a leader that is alone")
    scene.produce(_over_all_partitions(21, 30))
    scene.until(replica, 600)


def test_failover_that_loses_its_tail(scene: Scene) -> None:
    """A laggard becomes leader: the log ends below the position, and only an operator's word goes on from there."""
    leader, laggard = _unsafe_topic(scene)
    with scene.replica() as replica:
        _read_what_one_broker_has_alone(scene, replica, leader, laggard)
        leader.kill()
        laggard.resume()
        replica.wait_until(lambda: len(refusals(replica)) == 4, what="four partitions not read", timeout_s=90)
        for detail in refusals(replica).values():
            assert "the log ends before it, at 100: it lost its tail" in detail
            assert "accept-gap" in detail
        replica.wait_until(lambda: replica.get("/readyz").status == 503, what="unready", timeout_s=5)
        assert replica.get("/healthz").status == 200
        assert stored_positions(scene.dsn) == dict.fromkeys(range(4), 150)
        _accept_gap(replica)
        # A process that starts looks at once; one that runs, every 15 seconds.
        assert replica.terminate()[0] == 0
        replica.start()
        scene.harmed()
        scene.produce(_over_all_partitions(31, 50))
        ends = dict.fromkeys(range(4), 200)
        replica.wait_until(lambda: stored_positions(scene.dsn) == ends, what="the end", timeout_s=90)
        replica.wait_ready()
        assert_every_offset_is_explained(scene.dsn, scene.settings, [scene.log()])
        # What had been stored of the tail is kept.
        assert len(snapshot(scene.dsn)["visit"]) == 50
        assert not snapshot(scene.dsn)["dead_letter"]
        # The one way back is the operator's, by an epoch of its own.
        assert [move[2:] for move in moves(scene.dsn) if move[3] < (move[2] or 0)] == [(150, 100)] * 4
        scene.tell(1000)


def test_failover_whose_log_has_grown_past_the_position(scene: Scene) -> None:
    """The offsets are there again, with other messages: what was elected without the tail has been written to since."""
    leader, laggard = _unsafe_topic(scene)
    with scene.replica() as replica:
        _read_what_one_broker_has_alone(scene, replica, leader, laggard)
        assert replica.terminate()[0] == 0
        leader.kill()
        laggard.resume()
        # Past the stored position 150, before anybody looks: offsets 100 to 199 are other messages now.
        scene.produce(_over_all_partitions(31, 50))
        replica.start()
        replica.wait_until(lambda: len(refusals(replica)) == 4, what="four partitions not read", timeout_s=90)
        for detail in refusals(replica).values():
            assert "offsets 100 to 149 of" in detail
            assert "has grown past the stored position 150" in detail
            assert "accept-gap" in detail
        assert stored_positions(scene.dsn) == dict.fromkeys(range(4), 150)
        shown = invoke_json("positions", "show", "--log", "--config", replica.config)
        assert {row["state"] for row in shown} == {"replaced"}
        done = invoke_json("positions", "accept-gap", "--config", replica.config)
        assert [(row["before"], row["after"], row["done"]) for row in done] == [(150, 100, True)] * 4
        assert replica.terminate()[0] == 0
        replica.start()
        scene.harmed()
        ends = dict.fromkeys(range(4), 200)
        replica.wait_until(lambda: stored_positions(scene.dsn) == ends, what="the end", timeout_s=90)
        replica.wait_ready()
        assert len(snapshot(scene.dsn)["visit"]) == 50
        assert not snapshot(scene.dsn)["dead_letter"]
        scene.tell(1000)


def _over_all_partitions(first: int, last: int) -> list[Wire]:
    return [each._replace(partition=number % 4) for number, each in enumerate(night(first, last))]


def _accept_gap(replica: Replica) -> None:
    shown = invoke_json("positions", "show", "--log", "--config", replica.config)
    assert {row["state"] for row in shown} == {"beyond_end"}
    done = invoke_json("positions", "accept-gap", "--config", replica.config)
    assert [(row["before"], row["after"], row["done"]) for row in done] == [(150, 100, True)] * 4
