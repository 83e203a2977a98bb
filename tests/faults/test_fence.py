"""The fence itself, on PostgreSQL: a batch is written where its partitions stand as expected, at our epoch, or not."""

import pytest

from consumer.config import Settings
from consumer.errors import FencedError
from consumer.model import LogPartition, OffsetUpdate, PartitionId, StoredPosition
from consumer.postgres.batch_tables import BatchTransaction
from consumer.postgres.connection import Database
from consumer.postgres.offsets import Positions
from consumer.service.apply_batch import apply_batch
from consumer.service.batch import Batch
from tests.support.postgres import PostgresServer
from tests.support.service import prepare_database, settings_for

PARTITIONS = (PartitionId("fence", 0), PartitionId("fence", 1))


def _advance(partition: PartitionId, position: StoredPosition, by: int = 5, *, expected: int = 0) -> OffsetUpdate:
    return OffsetUpdate(partition, position.id, position.epoch, expected, expected + by, 1)


@pytest.mark.parametrize("fault", ["epoch", "position", "row", "none"])
def test_one_partition_that_is_not_as_expected_refuses_the_whole_batch(postgres18: PostgresServer, fault: str) -> None:
    with postgres18.database(prepare_database) as dsn:
        database = Database(Settings(**settings_for("nowhere:1", dsn)).database)
        positions = Positions(database, consumer_group="g", owner="o")
        held = [positions.begin(positions.claim(LogPartition("c", "t", p)), 0) for p in PARTITIONS]
        first, second = (_advance(p, position) for p, position in zip(PARTITIONS, held, strict=True))
        if fault == "epoch":
            positions.claim(LogPartition("c", "t", PARTITIONS[1]))
        elif fault == "position":
            second = _advance(PARTITIONS[1], held[1], expected=3)
        elif fault == "row":
            second = second._replace(offset_id=10**6)
        try:
            if fault == "none":
                with database.transaction() as session:
                    apply_batch(BatchTransaction(session), Batch(offset_updates=(first, second)), {})
            else:
                with pytest.raises(FencedError, match="1 of 2"), database.transaction() as session:
                    apply_batch(BatchTransaction(session), Batch(offset_updates=(first, second)), {})
            stored = positions.read([position.id for position in held])
            assert [each.next_offset for each in stored.values()] == ([5, 5] if fault == "none" else [0, 0])
        finally:
            database.close()
