"""Single statements of a batch's transaction, where no course of a night would show what they keep."""

from consumer.model import OffsetUpdate, PartitionId
from consumer.postgres.batch_tables import BatchStore
from tests.support.nights import TOPIC, prepare, reader
from tests.support.postgres import PostgresServer

A = PartitionId(TOPIC, 0)


def test_stream_time_never_goes_back(postgres18: PostgresServer) -> None:
    with postgres18.database(prepare) as dsn, reader(dsn, {}) as one:
        one.claim([A])
        (lease,) = one.builder.leases
        store = BatchStore(one.database)
        for expected, after, time_ms, stored_ms in ((0, 1, 500, 500), (1, 2, 400, 500), (2, 3, 600, 600)):
            with store.transaction() as tables:
                tables.advance([OffsetUpdate(A, lease.offset_id, lease.epoch, expected, after, time_ms)])
            position = one.positions.read([lease.offset_id])[lease.offset_id]
            assert (position.next_offset, position.stream_time_ms) == (after, stored_ms)
