"""The source in a group: partitions may go away again before any of them was read."""

import threading
import time
from collections.abc import Collection

import pytest

from consumer.config import KafkaSettings
from consumer.kafka.properties import connection_properties, consumer_properties
from consumer.kafka.source import KafkaSource
from consumer.model import PartitionId
from tests.support.kafka_broker import KafkaCluster
from tests.support.waiting import give_up_at

TOPIC = "rebalance"


class Member:
    """A member that starts only some of what it is given."""

    def __init__(self, cluster: KafkaCluster, name: str, *, starts: Collection[int] = ()) -> None:
        settings = KafkaSettings(bootstrap_servers=cluster.bootstrap, topics=(TOPIC,), group=TOPIC)
        self.mine: set[int] = set()
        self._starts = starts
        self._pending: list[PartitionId] = []
        properties = consumer_properties(settings, client_id=name)
        self.source = KafkaSource(properties, connection_properties(settings), [TOPIC], self)

    def assigned(self, partitions: Collection[PartitionId]) -> None:
        self.mine |= {p.partition for p in partitions}
        self._pending += [p for p in partitions if p.partition in self._starts]

    def revoked(self, partitions: Collection[PartitionId]) -> None:
        self.mine -= {p.partition for p in partitions}

    def lost(self, partitions: Collection[PartitionId]) -> None:
        self.revoked(partitions)

    def turn(self) -> None:
        for partition in self._pending:
            self.source.start(partition, 0)
        self._pending.clear()
        self.source.poll(100, 0.1)


@pytest.mark.parametrize("starts", [(), (0,), (3,)], ids=["none", "the first", "the last"])
def test_partitions_that_were_never_started_can_be_revoked(kafka: KafkaCluster, starts: tuple[int, ...]) -> None:
    kafka.create_topic(TOPIC, 4)
    try:
        first = Member(kafka, "first", starts=starts)
        members = [first]
        until = give_up_at(40)
        while len(first.mine) < 4 and time.monotonic() < until:
            first.turn()
        second = Member(kafka, "second")
        members.append(second)
        while len(second.mine) < 2 and time.monotonic() < until:
            for member in members:
                member.turn()
        assert first.mine.isdisjoint(second.mine)
        assert first.mine | second.mine == {0, 1, 2, 3}
        for member in members:
            # As the service does: a library that does not come back is a failure, and keeps no process from ending.
            leaving = threading.Thread(target=member.source.close, daemon=True)
            leaving.start()
            leaving.join(60)
            assert not leaving.is_alive()
    finally:
        kafka.delete_topic(TOPIC)
