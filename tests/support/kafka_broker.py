"""Apache Kafka as child processes of the tests: KRaft mode, every process both broker and controller, ports of its own.

The brokers forget nothing between `KafkaBroker.kill` and `KafkaBroker.start`: storage is formatted once, ports stay.
Their delays are shortened (no wait before the first rebalance, small internal topics); nothing that decides what is
stored differs from the defaults. Measured on two cores: 4 s to format and start one broker, 9 s for three, 3 s to
restart one in order, 6 s to start one again after a kill.
"""

import base64
import contextlib
import fcntl
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # exported, but not in __all__
from confluent_kafka.cimpl import NewPartitions, NewTopic

from tests.support import jars
from tests.support.children import Child, ServerError, free_port
from tests.support.waiting import give_up_at

POM = Path(__file__).parents[1] / "kafka" / "pom.xml"
_START_TIMEOUT_S = 90
_STOP_TIMEOUT_S = 60
_ADMIN_TIMEOUT_S = 30
_CLASSES = "classes.jsa"
_OFFSETS_TOPIC = "__consumer_offsets"
_OFFSETS_PARTITIONS = 4
# A broker of the tests lives for seconds and does little: start fast, stay small.
_JVM = (
    "-Xms64m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-Dorg.apache.logging.log4j.level=WARN",
)
_PROPERTIES = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.min.heartbeat.interval.ms": "200",
    "offsets.topic.num.partitions": str(_OFFSETS_PARTITIONS),
    "transaction.state.log.num.partitions": "4",
    # A restarted or lost broker is noticed in seconds instead of nine
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "3000",
    "controlled.shutdown.enable": "true",
    # Messages of past nights stay, unless a topic says otherwise (retention.ms); then they go within seconds
    "log.retention.ms": "-1",
    "log.initial.task.delay.ms": "500",
    "log.retention.check.interval.ms": "1000",
    "num.recovery.threads.per.data.dir": "1",
}


def _load_classes_fast(classpath: Path) -> None:
    """Write once what the JVM makes of Kafka's classes: a third of what a broker costs to start. A throw-away one does.

    Source: https://docs.oracle.com/en/java/javase/17/vm/class-data-sharing.html
    """
    archive = classpath / _CLASSES
    if archive.exists():
        return
    with (classpath / "classes.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if archive.exists():
            return
        folder = Path(tempfile.mkdtemp(prefix="visit-consumer-kafka-classes-"))
        properties = {"offsets.topic.replication.factor": "1", **_PROPERTIES}
        broker = KafkaBroker(1, folder / "node-1", classpath, {}, properties)
        broker.properties["controller.quorum.voters"] = f"1@{broker.address('CONTROLLER')}"
        partial = folder / archive.name
        try:
            broker.format("k" * 22)
            broker.launch(f"-XX:ArchiveClassesAtExit={partial}")
            broker.wait_ready()
            broker.stop()
            if partial.exists():
                shutil.move(partial, archive.with_suffix(".new"))
                archive.with_suffix(".new").rename(archive)
        except ServerError:
            broker.kill()  # the tests' own brokers will say what is wrong
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def kafka_version(folder: Path) -> str:
    """Return the version in the name of Kafka's own jar, such as ``4.4.0``."""
    name = next(folder.glob("kafka_2.13-*.jar")).stem
    return name.removeprefix("kafka_2.13-")


class KafkaBroker:
    """One process of a cluster. Made by `KafkaCluster`; started, stopped, killed, paused by tests.

    Parameters
    ----------
    node_id
        From 1.
    folder
        Where its properties, data and output go.
    classpath
        The folder of Kafka's jars.
    listeners
        Names of listeners besides ``PLAINTEXT`` and their security protocols, such as ``{"TLS": "SSL"}``.
    properties
        Server properties that are added or replace the default ones.

    Attributes
    ----------
    ports
        Listener name to port on 127.0.0.1; ``CONTROLLER`` is one of them.
    advertised
        Listener name to the ``host:port`` that clients are told, when it is not the broker's own: a proxy's. To be set
        before `start`.
    properties
        Server properties; changes count from the next `start`.
    """

    def __init__(
        self, node_id: int, folder: Path, classpath: Path, listeners: Mapping[str, str], properties: Mapping[str, str]
    ) -> None:
        self.node_id = node_id
        self.folder = folder
        self.properties = dict(properties)
        self.advertised: dict[str, str] = {}
        self._protocols = {"PLAINTEXT": "PLAINTEXT", **listeners, "CONTROLLER": "PLAINTEXT"}
        self.ports = {name: free_port() for name in self._protocols}
        self._classpath = classpath
        self._child: Child | None = None
        self._paused = False
        folder.mkdir(parents=True)

    def address(self, listener: str = "PLAINTEXT") -> str:
        """Return the broker's own ``host:port`` of a listener (not the advertised one)."""
        return f"127.0.0.1:{self.ports[listener]}"

    @property
    def pid(self) -> int:
        """The process id of the running broker."""
        return self._running().pid

    @property
    def running(self) -> bool:
        """Whether the process is there (a paused one is)."""
        return self._child is not None and self._child.running

    @property
    def answers(self) -> bool:
        """Whether the process is there and not paused."""
        return self.running and not self._paused

    def format(self, cluster_id: str, arguments: Sequence[str] = ()) -> None:
        """Format the storage, once; ``arguments`` such as ``--add-scram`` are StorageTool's."""
        tool = ["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(self._write_properties())]
        command = self._java(*tool, *arguments)
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_START_TIMEOUT_S)
        if done.returncode != 0:
            raise ServerError(f"StorageTool: {done.stdout[-1000:]}{done.stderr[-1000:]}")

    def launch(self, *options: str) -> None:
        """Start the process, with more options of the JVM, and return at once; `wait_ready` waits."""
        if self.running:
            raise ServerError(f"broker {self.node_id} runs already")
        java, *arguments = self._java("kafka.Kafka", str(self._write_properties()))
        self._child = Child([java, *options, *arguments], self.folder / "broker.log")
        self._paused = False

    def wait_ready(self) -> None:
        """Wait until the broker answers, is one of the cluster's, and serves each partition that it is said to lead."""
        admin = AdminClient({"bootstrap.servers": self.address(), "log_level": 0, "reconnect.backoff.max.ms": 200})

        end: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # theirs

        def serves() -> bool:
            try:
                cluster = admin.list_topics(timeout=1)
                led = [
                    TopicPartition(name, number)
                    for name, topic in cluster.topics.items()
                    for number, partition in topic.partitions.items()
                    if partition.leader == self.node_id
                ]
                if led:
                    for asked in admin.list_offsets(dict.fromkeys(led, end)).values():
                        asked.result(_ADMIN_TIMEOUT_S)
            except KafkaException:
                return False
            return self.node_id in cluster.brokers

        self._running().wait_until(serves, what=f"Kafka broker {self.node_id}", timeout_s=_START_TIMEOUT_S)

    def start(self) -> None:
        """Start the broker and wait until it serves clients."""
        self.launch()
        self.wait_ready()

    def stop(self) -> None:
        """Let the broker shut down in order (SIGTERM): it hands over what it leads."""
        if self._child is not None:
            self._child.signal(signal.SIGTERM)
            self._child.wait(_STOP_TIMEOUT_S)

    def kill(self) -> None:
        """End the broker at once (SIGKILL), also a paused one."""
        if self._child is not None:
            self._child.signal(signal.SIGKILL)
            self._child.wait(_STOP_TIMEOUT_S)

    def restart(self) -> None:
        """Stop in order, and start again on the same ports and storage."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze the process (SIGSTOP): connections stay open, nothing answers."""
        self._running().signal(signal.SIGSTOP)
        self._paused = True
        # The signal takes the threads one by one, and one that still runs may still answer.
        self._running().wait_until(self._all_threads_stopped, what="a frozen process", timeout_s=_ADMIN_TIMEOUT_S)

    def resume(self) -> None:
        """Let a frozen process go on (SIGCONT)."""
        self._running().signal(signal.SIGCONT)
        self._paused = False

    def log_tail(self, lines: int = 50) -> str:
        """Return the last lines of the broker's output."""
        return self._running().log_tail(lines)

    def _all_threads_stopped(self) -> bool:
        try:
            threads = [file.read_text() for file in Path(f"/proc/{self.pid}/task").glob("*/stat")]
        except (FileNotFoundError, ProcessLookupError):
            return False  # one ended while it was looked at
        return {each.rpartition(")")[2].split()[0] for each in threads} == {"T"}

    def _running(self) -> Child:
        if self._child is None:
            raise ServerError(f"broker {self.node_id} was never started")
        return self._child

    def _java(self, *arguments: str) -> list[str]:
        # Its libraries are unpacked there, and stay when it is killed
        own = [f"-Djava.io.tmpdir={self.folder}"]
        if (archive := self._classpath / _CLASSES).exists():
            own.append(f"-XX:SharedArchiveFile={archive}")
        return ["java", *_JVM, *own, "-cp", f"{self._classpath}/*", *arguments]

    def _write_properties(self) -> Path:
        own = {
            "node.id": str(self.node_id),
            "log.dirs": str(self.folder / "data"),
            "listeners": ",".join(f"{name}://{self.address(name)}" for name in self.ports),
            "advertised.listeners": ",".join(
                f"{name}://{self.advertised.get(name, self.address(name))}"
                for name in self.ports
                if name != "CONTROLLER"
            ),
            "listener.security.protocol.map": ",".join(f"{name}:{value}" for name, value in self._protocols.items()),
        }
        file = self.folder / "server.properties"
        file.write_text("".join(f"{key}={value}\n" for key, value in {**own, **self.properties}.items()))
        return file


class KafkaCluster:
    """A number of brokers with shared metadata, and the topics on them. A context manager that starts and ends them.

    Parameters
    ----------
    n_brokers
        Brokers; internal topics are replicated to at most three of them.
    listeners, properties
        As for `KafkaBroker`, the same for all.
    format_arguments
        Further arguments of StorageTool's ``format``.

    Raises
    ------
    tests.support.jars.JarsUnavailableError
        When Kafka's jars cannot be had.
    ServerError
        When a broker does not start.
    """

    def __init__(
        self,
        n_brokers: int = 1,
        *,
        listeners: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        format_arguments: Sequence[str] = (),
    ) -> None:
        classpath = jars.resolve(POM)
        _load_classes_fast(classpath)
        self.name = "apache"
        self.version = kafka_version(classpath)
        # A first byte of its own, because an id that begins with "-" is an option to StorageTool
        self.cluster_id = base64.urlsafe_b64encode(b"k" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
        self._format_arguments = format_arguments
        self._folder = Path(tempfile.mkdtemp(prefix="visit-consumer-kafka-"))
        replicas = str(min(n_brokers, 3))
        given = {
            **_PROPERTIES,
            "offsets.topic.replication.factor": replicas,
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": replicas,
            "share.coordinator.state.topic.min.isr": "1",
            **(properties or {}),
        }
        self.brokers = [
            KafkaBroker(node, self._folder / f"node-{node}", classpath, listeners or {}, given)
            for node in range(1, n_brokers + 1)
        ]
        voters = ",".join(f"{broker.node_id}@{broker.address('CONTROLLER')}" for broker in self.brokers)
        for broker in self.brokers:
            broker.properties.setdefault("controller.quorum.voters", voters)
        self._formatted = False

    @property
    def bootstrap(self) -> str:
        """The addresses of all brokers' plaintext listeners, for ``bootstrap.servers``."""
        return self.bootstrap_of("PLAINTEXT")

    def bootstrap_of(self, listener: str) -> str:
        """Return the addresses of a named listener, as clients shall dial them: the advertised ones."""
        return ",".join(broker.advertised.get(listener, broker.address(listener)) for broker in self.brokers)

    def start(self) -> None:
        """Format the storage the first time, start all brokers side by side, and wait until all serve."""
        if not self._formatted:
            for broker in self.brokers:
                broker.format(self.cluster_id, self._format_arguments)
            self._formatted = True
        for broker in self.brokers:
            broker.launch()
        for broker in self.brokers:
            broker.wait_ready()

    def stop(self) -> None:
        """Stop all brokers in order (SIGTERM), one after the other."""
        for broker in self.brokers:
            broker.stop()

    def kill(self) -> None:
        """End all brokers at once (SIGKILL)."""
        for broker in self.brokers:
            broker.kill()

    def restart(self) -> None:
        """Stop all brokers in order, and start them again."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze all brokers (SIGSTOP)."""
        for broker in self.brokers:
            broker.pause()

    def resume(self) -> None:
        """Let all frozen brokers go on (SIGCONT)."""
        for broker in self.brokers:
            broker.resume()

    def close(self) -> None:
        """End all brokers and remove what they stored."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def create_topic(
        self,
        name: str,
        partitions: int = 4,
        config: Mapping[str, str] | None = None,
        replication: int = 1,
        *,
        replicas: Sequence[KafkaBroker] = (),
    ) -> None:
        """Create a topic and wait until every partition has a leader.

        Parameters
        ----------
        name, partitions, replication
            The topic; ``replication`` at most the number of brokers.
        config
            Topic settings such as ``{"message.timestamp.type": "LogAppendTime", "retention.ms": "1000"}``.
        replicas
            Who keeps every partition, the leader first; none: as the cluster likes.

        Raises
        ------
        confluent_kafka.KafkaException
            When the brokers refuse, for example because the topic exists.
        """
        admin = self._admin()
        where: dict[str, Any] = {"replication_factor": replication}
        if replicas:
            where = {"replica_assignment": [[broker.node_id for broker in replicas]] * partitions}
        topic = NewTopic(name, num_partitions=partitions, config=dict(config or {}), **where)
        admin.create_topics([topic])[name].result(_ADMIN_TIMEOUT_S)
        self._wait_for_leaders(admin, name, partitions)

    def add_partitions(self, name: str, total: int) -> None:
        """Raise the number of a topic's partitions to a total, and wait until every one has a leader."""
        admin = self._admin()
        admin.create_partitions([NewPartitions(name, total)])[name].result(_ADMIN_TIMEOUT_S)
        self._wait_for_leaders(admin, name, total)

    def delete_topic(self, name: str) -> None:
        """Delete a topic and wait until no broker lists it, so that it can be created again under the same name."""
        admin = self._admin()
        admin.delete_topics([name])[name].result(_ADMIN_TIMEOUT_S)
        _wait(lambda: name not in admin.list_topics(timeout=_ADMIN_TIMEOUT_S).topics, f"topic {name} is still listed")

    def leaders(self, topic: str) -> dict[int, KafkaBroker | None]:
        """Return who leads each partition of a topic; None where nobody does."""
        described = self._admin().list_topics(topic, timeout=_ADMIN_TIMEOUT_S).topics[topic].partitions
        brokers = {broker.node_id: broker for broker in self.brokers}
        return {number: brokers.get(each.leader) for number, each in described.items()}

    def in_sync(self, topic: str) -> dict[int, set[int]]:
        """Return the ids of the brokers that have all messages of each partition of a topic."""
        described = self._admin().list_topics(topic, timeout=_ADMIN_TIMEOUT_S).topics[topic].partitions
        return {number: set(each.isrs) for number, each in described.items()}

    def wait_in_sync(self, topic: str) -> None:
        """Wait until every broker has all messages of a topic that all of them keep, and knows it.

        One that was frozen says at first what it knew before; so each is asked, and all have to agree.
        """
        everybody = {broker.node_id for broker in self.brokers}

        def agreed() -> bool:
            first, *others = (self._view(topic, broker) for broker in self.brokers)
            return all(in_sync == everybody for _, in_sync in first.values()) and all(each == first for each in others)

        _wait(agreed, f"topic {topic} has laggards")

    @staticmethod
    def _view(topic: str, broker: KafkaBroker) -> dict[int, tuple[int, set[int]]]:
        """Ask one broker who leads each partition of a topic, and who has all messages of it."""
        admin = AdminClient({"bootstrap.servers": broker.address(), "log_level": 0})
        described = admin.list_topics(topic, timeout=_ADMIN_TIMEOUT_S).topics[topic].partitions
        return {number: (each.leader, set(each.isrs)) for number, each in described.items()}

    def coordinator(self, group: str) -> KafkaBroker | None:
        """Return who coordinates a consumer group: the leader of the partition that keeps its offsets; None: nobody.

        Not asked with ``describe_consumer_groups``: where the coordinator is dead, librdkafka 2.16 answers that with
        the end of the process (an assertion of ``rd_kafka_enq_once_del_source_return``).
        """
        return self.leaders(_OFFSETS_TOPIC)[abs(_java_hash(group)) % _OFFSETS_PARTITIONS]

    def ends(self, topic: str) -> dict[int, int]:
        """Return where each partition of a topic ends, as soon as each has a leader that can tell.

        A broker that was frozen for longer than its session serves clients before its controller has noticed, and then
        for a moment leads nothing.
        """
        admin = self._admin()
        found: dict[int, int] = {}

        def told() -> bool:
            found.update(self._ends(admin, topic))
            return True

        _wait(told, f"topic {topic} does not tell where it ends")
        return found

    @staticmethod
    def _ends(admin: AdminClient, topic: str) -> dict[int, int]:
        numbers = admin.list_topics(topic, timeout=_ADMIN_TIMEOUT_S).topics[topic].partitions
        end: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # theirs
        asked = admin.list_offsets({TopicPartition(topic, number): end for number in numbers})
        return {each.partition: answer.result(_ADMIN_TIMEOUT_S).offset for each, answer in asked.items()}

    def _admin(self) -> AdminClient:
        """Make a client that begins with those who answer: one that is frozen would take its time."""
        answering = [broker.address() for broker in self.brokers if broker.answers]
        return AdminClient({"bootstrap.servers": ",".join(answering), "log_level": 0})

    @staticmethod
    def _wait_for_leaders(admin: AdminClient, name: str, partitions: int) -> None:
        def led() -> bool:
            topic = admin.list_topics(timeout=_ADMIN_TIMEOUT_S).topics.get(name)
            return topic is not None and sum(part.leader >= 0 for part in topic.partitions.values()) == partitions

        _wait(led, f"topic {name} has partitions without a leader")

    def __enter__(self) -> Self:
        """Start the cluster."""
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the cluster and remove its files."""
        with contextlib.suppress(ServerError):
            self.resume()  # a test may have left a broker frozen
        self.close()


def _wait(condition: Callable[[], bool], complaint: str) -> None:
    """Wait for an answer that is yes; brokers that cannot answer just now are asked again."""
    deadline = give_up_at(_ADMIN_TIMEOUT_S)
    while True:
        said = ""
        try:
            if condition():
                return
        except KafkaException as error:
            said = f": {error.args[0].str()}"
        if time.monotonic() > deadline:
            raise ServerError(f"{complaint} after {_ADMIN_TIMEOUT_S} s{said}")
        time.sleep(0.05)


def _java_hash(text: str) -> int:
    """Give Java's ``String.hashCode`` of an ASCII text."""
    number = 0
    for each in text:
        number = (31 * number + ord(each)) & 0xFFFFFFFF
    return number - 2**32 if number >= 2**31 else number
