"""Events into the tables without a broker: the core and its transaction, driven by hand, one batch after the other."""

from collections.abc import Mapping, Sequence
from typing import Any

from consumer.config import Settings
from consumer.config.resolve import resolve_instruments
from consumer.events import Decoder, encode
from consumer.model import Exposure, LogPartition, Message, PartitionId, RawIngested
from consumer.postgres.batch_tables import BatchTransaction
from consumer.postgres.connection import Database
from consumer.postgres.migrate import store_visit_systems
from consumer.postgres.offsets import Positions
from consumer.service.apply_batch import apply_batch
from consumer.service.batch_builder import BatchBuilder
from consumer.service.leases import PartitionLease
from tests.support.service import settings_for

CLUSTER = "cluster-of-the-tests"
PARTITION = PartitionId("raw-ingested", 0)


def raws_of(exposures: Sequence[Exposure], detectors: Sequence[int] = (0,)) -> list[bytes]:
    """Encode one event for each detector of each exposure."""
    return [encode(RawIngested(exposure=each, detector=d)) for each in exposures for d in detectors]


class Feeder:
    """One partition of a log, and who reads it.

    Parameters
    ----------
    dsn
        Of a migrated database.
    instruments
        The section of the settings.
    partition
        Which one.
    group
        The name in which it is read.
    """

    def __init__(
        self,
        dsn: str,
        instruments: Mapping[str, Any],
        *,
        partition: PartitionId = PARTITION,
        group: str = "visit-consumer",
    ) -> None:
        self.settings = Settings(**settings_for("nowhere:1", dsn, instruments=instruments))
        self._partition = partition
        self._database = Database(self.settings.database, application_name="feeder")
        self._rules = resolve_instruments(self.settings)
        store_visit_systems(self._database, {name: each.rule.visit_systems for name, each in self._rules.items()})
        self._positions = Positions(self._database, consumer_group=group, owner="feeder")
        self._builder = BatchBuilder(Decoder(), self._rules, max_clock_skew_ms=2**50)
        self.log = LogPartition(CLUSTER, "", partition)
        self.claim()

    def claim(self) -> None:
        """Take the partition over, and go on where it stands."""
        stored = self._positions.claim(self.log)
        if stored.next_offset is None:
            stored = self._positions.begin(stored, 0)
        assert stored.next_offset is not None
        self.offset = stored.next_offset
        self._builder.add_partition(
            PartitionLease(self._partition, stored.id, stored.epoch, self.offset, stored.stream_time_ms, self.offset)
        )

    def feed(self, values: Sequence[bytes], *, at_ms: int, key: bytes | None = None) -> None:
        """Append messages to the log, and apply them as one batch.

        Raises
        ------
        FencedError
            When somebody has moved the position.
        """
        messages = [
            Message(self._partition, self.offset + number, at_ms, key, value) for number, value in enumerate(values)
        ]
        self._builder.put(messages, {}, at_ms)
        batch = self._builder.take()
        assert batch is not None
        with self._database.transaction() as session:
            apply_batch(BatchTransaction(session), batch, self._rules)
        self.offset += len(messages)

    def close(self) -> None:
        """End the session."""
        self._database.close()
