"""Questions about logs: which log a topic is, where its partitions begin and end, and whether they were replaced."""

from concurrent.futures import TimeoutError as FutureTimeoutError

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from consumer.errors import TransientError
from consumer.kafka.clients import new_client
from consumer.kafka.properties import Properties
from consumer.model import PartitionId

_REQUEST_TIMEOUT_S = 5.0
_BROKER_TIMEOUT_S = 3.0
"""A broker that leaves a request unanswered for so long loses its connection, and the next question goes to another.
Shorter than the question itself, which would end alone and leave the next one to the same broker."""
_MOCK_CLUSTER = "mockCluster"
"""How librdkafka's embedded cluster begins its id; it does not answer admin clients."""
_NO_TOPIC_ID = "AAAAAAAAAAAAAAAAAAAAAA"
"""How a broker without topic ids writes one: 16 zero bytes, base64."""


class UnknownTopicError(TransientError):
    """The brokers answer that there is no such topic, or not yet."""


class LogInspector:
    """Clients that ask and never join the group; implements `consumer.service.partitions.Log`.

    Parameters
    ----------
    connection
        Properties of librdkafka; see `consumer.kafka.properties.connection_properties`.
    group
        The consumer group in whose name is asked: access to a topic may be granted to it.
    """

    def __init__(self, connection: Properties, *, group: str) -> None:
        self._connection: Properties = {"socket.timeout.ms": round(_BROKER_TIMEOUT_S * 1000), **connection}
        self._admin = self._new_admin()
        self._asker = new_client(
            Consumer,
            {**self._connection, "group.id": group, "enable.auto.commit": False, "enable.partition.eof": True},
        )

    def watermarks(self, partition: PartitionId) -> tuple[int, int]:
        """Ask for the first offset of the log and the one after its last.

        Raises
        ------
        TransientError
            When the brokers cannot be asked now.
        """
        asked = TopicPartition(partition.topic, partition.partition)
        try:
            low, high = self._asker.get_watermark_offsets(asked, timeout=_REQUEST_TIMEOUT_S)
        except KafkaException as error:
            raise TransientError(f"offsets of {partition}: {error.args[0].str()}") from error
        return (low, high)

    def divergence(self, partition: PartitionId, leader_epoch: int, offset: int) -> int | None:
        """Find where a log differs from what was read of it, after an election that lost messages.

        Parameters
        ----------
        partition
            Of which everything below `offset` was read.
        leader_epoch
            Of the last message that was read.
        offset
            That is read next.

        Returns
        -------
        first
            The first offset that holds a message of a later leader; None where the last message is the one that was
            read, or is no message any more (a marker, or compacted).

        Raises
        ------
        TransientError
            When the brokers do not answer.
        """
        if not self._is_later(partition, offset - 1, leader_epoch, below=offset):
            return None
        first, last = self.watermarks(partition)[0], offset - 1
        while first < last:
            middle = (first + last) // 2
            if self._is_later(partition, middle, leader_epoch, below=offset):
                last = middle
            else:
                first = middle + 1
        return first

    def _is_later(self, partition: PartitionId, at: int, leader_epoch: int, *, below: int) -> bool:
        """Whether the first message from an offset on, below another one, is of a later leader."""
        self._asker.assign([TopicPartition(partition.topic, partition.partition, at)])
        try:
            message = self._asker.poll(_REQUEST_TIMEOUT_S)
        finally:
            self._asker.unassign()
        if message is None:
            raise TransientError(f"offset {at} of {partition} cannot be read: no answer")
        fault = message.error()
        if fault is not None:
            if fault.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 -- the library's own name
                return False
            raise TransientError(f"offset {at} of {partition} cannot be read: {fault.str()}")
        epoch, found = message.leader_epoch(), message.offset()
        return epoch is not None and found is not None and found < below and epoch > leader_epoch

    def ends(self, topic: str) -> dict[int, int]:
        """Ask for the offset after the last of each partition of a topic.

        Raises
        ------
        TransientError
            When the brokers cannot be asked now.
        """
        try:
            numbers = self._asker.list_topics(topic, timeout=_REQUEST_TIMEOUT_S).topics[topic].partitions
        except KafkaException as error:
            raise TransientError(f"partitions of topic {topic}: {error.args[0].str()}") from error
        return {number: self.watermarks(PartitionId(topic, number))[1] for number in sorted(numbers)}

    def identify(self, topic: str) -> tuple[str, str]:
        """Return the ids of the cluster and of the topic, which together name a log for good.

        A broker that has no topic ids, or does not let us describe the topic, gives an empty one.

        Raises
        ------
        UnknownTopicError
            When there is no such topic.
        TransientError
            When the brokers cannot be asked now.
        """
        try:
            cluster = self._asker.list_topics(topic, timeout=_REQUEST_TIMEOUT_S)
            cluster_id = str(cluster.cluster_id or "")
            fault = cluster.topics[topic].error if topic in cluster.topics else None
            if fault is not None and fault.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise UnknownTopicError(f"description of topic {topic}: {fault.str()}")
            if not cluster_id:
                raise TransientError(f"description of topic {topic}: the brokers do not know their cluster's id yet")
            if cluster_id.startswith(_MOCK_CLUSTER):
                return cluster_id, ""
            described = self._admin.describe_topics(TopicCollection([topic]), request_timeout=_REQUEST_TIMEOUT_S)
            topic_id = str(described[topic].result(2 * _REQUEST_TIMEOUT_S).topic_id)
        except FutureTimeoutError as error:
            self._admin = self._new_admin()
            raise TransientError(f"description of topic {topic}: no answer") from error
        except KafkaException as error:
            code = error.args[0].code()
            if code == KafkaError._TIMED_OUT:  # noqa: SLF001 -- the library's own name
                self._admin = self._new_admin()
            if code in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError._UNSUPPORTED_FEATURE):  # noqa: SLF001 -- the library's own name
                return cluster_id, ""
            raise TransientError(f"description of topic {topic}: {error.args[0].str()}") from error
        return cluster_id, "" if topic_id == _NO_TOPIC_ID else topic_id

    def _new_admin(self) -> AdminClient:
        """Make an admin client; one that got no answer keeps asking for the controller that it knew, for minutes."""
        return new_client(AdminClient, self._connection)

    def close(self) -> None:
        """End the clients."""
        self._asker.close()
