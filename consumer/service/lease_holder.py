"""Acquires, checks and gives up the leases of this replica, and starts and stops reading with them.

`partitions` says what state each partition is in; this module does what follows from it: it asks PostgreSQL (through
the writer's thread), hands partitions to Kafka's client and to the batch builder, and tells the reporter.
"""

from collections.abc import Callable, Collection, Sequence

from consumer.logs import get_logger
from consumer.model import DeadLetter, PartitionId, StoredPosition
from consumer.service.batch import Batch
from consumer.service.batch_builder import BatchBuilder
from consumer.service.leases import (
    PartitionLease,
    acquire_leases,
    check_leases,
    may_follow_another_log,
    recreated_logs,
    replaced_logs,
)
from consumer.service.partitions import Partitions
from consumer.service.pending import Pending
from consumer.service.reporter import Reporter
from consumer.service.runtime import Runtime
from consumer.service.source import Source
from consumer.service.ticks import TickScheduler
from consumer.service.writer import Writer

_ASK_AGAIN_S = 1.0
"""When brokers that did not answer are asked again."""
_REFUSED_AGAIN_S = 15.0
"""How often a partition is asked for again whose position lies outside the log, or that the breaker stopped."""


class LeaseHolder:
    """The leases of one replica. What it asks of PostgreSQL comes back as the loop's one pending call.

    Parameters
    ----------
    source, writer, builder, ticks, reporter
        The parts that a lease concerns.
    runtime
        Clocks of the machine.
    start_at_end
        Where a topic that was never read starts; see `acquire_leases`.
    session_timeout_s
        Of the consumer group: when a partition that another replica has fenced, but that is still assigned to this
        one, is leased again.
    """

    def __init__(
        self,
        source: Source,
        writer: Writer,
        builder: BatchBuilder,
        ticks: TickScheduler,
        reporter: Reporter,
        runtime: Runtime,
        *,
        start_at_end: bool,
        session_timeout_s: float,
    ) -> None:
        self._source = source
        self._writer = writer
        self._positions = writer.positions
        self._builder = builder
        self._ticks = ticks
        self._reporter = reporter
        self._runtime = runtime
        self._start_at_end = start_at_end
        self._session_timeout_s = session_timeout_s
        self._log = get_logger(__name__)
        self.partitions = Partitions()

    def assign(self, partitions: Collection[PartitionId]) -> None:
        """Add partitions that the group assigned; one that is assigned once more is leased once more."""
        self._builder.drop_partitions(partitions)
        self.partitions.assign(partitions, self._runtime.monotonic_s())

    def remove(self, partitions: Collection[PartitionId]) -> None:
        """Drop partitions that went to another replica, and what was gathered from them."""
        self.partitions.remove(partitions)
        self._builder.drop_partitions(partitions)
        self._reporter.gone(partitions)

    def acquire_due(self, now_s: float) -> Pending | None:
        """Ask for the leases that are due; None where none is."""
        due = self.partitions.ask_due(now_s)
        if not due:
            return None
        asked = self._writer.ask(
            lambda: acquire_leases(
                self._source,
                self._positions,
                due,
                start_at_end=self._start_at_end,
                wanted=self.partitions.is_claiming,
            )
        )

        def take() -> None:
            for each in asked.result():
                if isinstance(each, PartitionLease):
                    self._begin(each)
                    continue
                ask_at_s = self._runtime.monotonic_s() + (_REFUSED_AGAIN_S if each.lasting else _ASK_AGAIN_S)
                if not self.partitions.refuse(each.partition, each.detail, ask_at_s, breaker=each.breaker):
                    continue
                if each.position is not None and each.end is not None:
                    self._reporter.refused(each.partition, each.position, each.end)
                log = self._log.error if each.lasting else self._log.warning
                log("partition cannot be read", partition=each.partition, detail=each.detail)

        return Pending(asked, take, now_s)

    def check(self, now_s: float) -> Pending:
        """Ask whether the database answers, and whether another process has moved a position that is held here.

        That may be another replica, an operator, or a failover to a server that lost the last transactions. A writing
        replica finds out by the fence; one that waits at the end of a log would not until the next message.
        """
        held, expected = self._builder.leases, self._builder.expected
        asked = self._writer.ask(lambda: self._positions.read([lease.offset_id for lease in held]))

        def take() -> Pending | None:
            stored: dict[int, StoredPosition] = asked.result()
            self._reporter.answered()
            moved = {
                lease.partition
                for lease in held
                if lease.offset_id not in stored
                or (stored[lease.offset_id].epoch, stored[lease.offset_id].next_offset)
                != (lease.epoch, expected[lease.offset_id])
            } & self._builder.partitions
            if not moved:
                return None
            self._log.warning("position claimed or moved by another", partitions=partition_names(moved))
            return self.read_again(moved)

        return Pending(asked, take, now_s)

    def read_again(self, partitions: Collection[PartitionId]) -> Pending:
        """Read the rows of fenced partitions: go on where a lost answer left us, or leave them to their new owner."""
        self.partitions.fence(partitions)
        held = self._builder.drop_partitions(partitions)
        self._source.stop(partitions)
        asked = self._writer.ask(
            lambda: check_leases(self._source, held, self._positions.read([lease.offset_id for lease in held]))
        )

        def take() -> None:
            checked = asked.result()
            for lease in checked.renewed:
                self._begin(lease)
            now_s = self._runtime.monotonic_s()
            for partition in checked.lost:
                self.partitions.refuse(partition, "another replica has claimed it", now_s + self._session_timeout_s)
            for partition in checked.doubtful:
                self.partitions.refuse(partition, "its log may hold other messages than were read", now_s)

        return Pending(asked, take, self._runtime.monotonic_s())

    def release(self, partitions: Collection[PartitionId]) -> None:
        """Lease partitions anew, and read them from where they are stored: their log was truncated or recreated."""
        self._builder.drop_partitions(partitions)
        self._source.stop(partitions)
        self.partitions.release(partitions, self._runtime.monotonic_s())

    def confirm_logs(self, batch: Batch, write: Callable[[], Pending], now_s: float) -> Pending:
        """Write a batch, but ask the brokers first where it may be of other logs than were leased.

        That is where it holds dead letters: those of a recreated topic would be stored twice, under the name of the
        former log, where reading went on, and again when the new one is read from its start. And where the first
        messages after a lease are of a later leader than was asked then, which may lack what was read before.
        """
        leases = {lease.partition: lease for lease in self._builder.leases}
        mine = [(leases[u.partition], u) for u in batch.offset_updates if u.partition in leases]
        followed = [lease for lease, update in mine if may_follow_another_log(lease, update)]
        held = [lease for lease, _ in mine] if batch.dead_letters else []
        if not (held or followed):
            return write()
        partitions = {update.partition for update in batch.offset_updates}
        asked = self._writer.ask(lambda: (recreated_logs(self._source, held), replaced_logs(self._source, followed)))

        def take() -> Pending | None:
            recreated, replaced = asked.result()
            if not (recreated or replaced):
                return write()
            if recreated:
                self._log.warning("topic recreated", partitions=partition_names(recreated))
            if replaced:
                self._log.warning("messages replaced by a later leader", partitions=partition_names(replaced))
            self.release(partitions)
            return None

        return Pending(asked, take, now_s, batch)

    def trip(self, bad: Sequence[DeadLetter], now_s: float) -> Pending:
        """Drop what is gathered, and read no more of the partitions that the bad messages came from."""
        messages = self._builder.gathered.messages
        detail = (
            f"the circuit breaker is open: {len(bad)} of {messages} messages are bad, the last because of "
            f"{bad[-1].reason}: {bad[-1].detail}. None of them was dead-lettered; mend the cause, or say "
            "'visit-consumer breaker reset'"
        )
        stopped = {letter.message.partition for letter in bad if letter.message is not None}
        self._log.error("the circuit breaker opens", partitions=partition_names(stopped), detail=detail)
        dropped = self._builder.gathered_from | stopped
        held = self._builder.drop_partitions(dropped)
        self._source.stop(dropped)
        for partition in stopped:
            self.partitions.trip(partition, detail, now_s + _REFUSED_AGAIN_S)
        self.partitions.release(dropped - stopped, now_s)
        epochs = {lease.offset_id: lease.epoch for lease in held if lease.partition in stopped}
        tripped = self._writer.ask(lambda: self._positions.trip(epochs, detail))

        def take() -> None:
            tripped.result()
            self._reporter.answered()

        return Pending(tripped, take, now_s)

    def _begin(self, lease: PartitionLease) -> None:
        if not self.partitions.lease(lease.partition):
            return
        self._ticks.forget(lease.offset_id)
        self._builder.add_partition(lease)
        self._source.start(lease.partition, lease.start)
        self._reporter.claimed(lease.partition, lease.start)
        self._log.info("partition claimed", partition=lease.partition, start=lease.start, epoch=lease.epoch)


def partition_names(partitions: Collection[PartitionId]) -> list[str]:
    """Format partitions for log lines, sorted."""
    return [f"{p.topic}[{p.partition}]" for p in sorted(partitions)]
