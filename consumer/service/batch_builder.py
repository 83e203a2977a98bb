"""From polled messages to the next batch: positions, stream clocks, decoding; no I/O of its own.

One `BatchBuilder` belongs to the loop. It holds, for each partition that is ours, where the next batch starts and the
partition's stream time, and the events that are gathered for that batch while the one before is being written.
"""

from collections import deque
from collections.abc import Collection, Iterable, Mapping

from consumer.domain import Instrument, new_event
from consumer.errors import BadMessageError, DeadLetterReason, TransientError
from consumer.events import Decoder
from consumer.model import (
    DeadLetter,
    Exposure,
    ExposureIngested,
    Ingested,
    Message,
    PartitionId,
    RawIngested,
    RawRegion,
)
from consumer.regions import RegionAlgorithm
from consumer.service.batch import Batch, bytes_of
from consumer.service.gathered import Gathered
from consumer.service.leases import PartitionLease
from consumer.service.partition_reader import PartitionReader, offset_updates
from consumer.service.region_prefetch import RegionPrefetch


class BatchBuilder:
    """Gathers decoded events between two batches.

    Parameters
    ----------
    decoder
        Of this loop alone.
    rules
        By instrument; events of others are dead letters.
    max_clock_skew_ms
        How far ahead of the wall clock a message may be stamped.
    """

    def __init__(self, decoder: Decoder, rules: Mapping[str, Instrument], *, max_clock_skew_ms: int) -> None:
        self._decoder = decoder
        self._rules = rules
        self._max_clock_skew_ms = max_clock_skew_ms
        self._readers: dict[PartitionId, PartitionReader] = {}
        self._waiting: deque[Message] = deque()
        self._ends: dict[PartitionId, int] = {}
        self._bytes = 0
        self._gathered = Gathered()
        self._prefetch = RegionPrefetch(rules)
        self._clamped = 0

    @property
    def gathered(self) -> Gathered:
        """What is gathered for the next batch; to be read alone."""
        return self._gathered

    @property
    def bytes(self) -> int:
        """Bytes of the keys and values of all messages that are gathered or wait."""
        return self._bytes

    @property
    def stalled(self) -> frozenset[PartitionId]:
        """Partitions whose messages wait: the schema registry does not answer, or they are to be tried first."""
        return frozenset(message.partition for message in self._waiting)

    @property
    def partitions(self) -> frozenset[PartitionId]:
        """The partitions that are ours."""
        return frozenset(self._readers)

    @property
    def leases(self) -> list[PartitionLease]:
        """The leases that are held, as they were acquired."""
        return [reader.lease for reader in self._readers.values()]

    @property
    def expected(self) -> dict[int, int | None]:
        """What is to be stored as next offset once everything that was taken is committed, by id of the position."""
        return {reader.lease.offset_id: reader.expected for reader in self._readers.values()}

    @property
    def caught_up(self) -> bool:
        """Whether every partition that is ours was read to its end."""
        return all(reader.at_end for reader in self._readers.values())

    @property
    def unaccepted(self) -> list[DeadLetter]:
        """The bad messages that were gathered and that no operator has accepted: what the circuit breaker counts."""
        return [
            letter
            for letter in self._gathered.dead_letters
            if letter.message is not None
            and letter.message.offset >= self._readers[letter.message.partition].lease.accept_until
        ]

    @property
    def gathered_from(self) -> set[PartitionId]:
        """The partitions of which something is gathered."""
        return {r.lease.partition for r in self._readers.values() if r.next_offset != r.expected}

    @property
    def oldest(self) -> Message | None:
        """The message that has been gathered for longest; None when nothing is."""
        return self._gathered.oldest or next(iter(self._waiting), None)

    def take_clamped(self) -> int:
        """Return how many messages were stamped too far ahead since this was asked last."""
        clamped, self._clamped = self._clamped, 0
        return clamped

    def add_partition(self, lease: PartitionLease) -> None:
        """Take a partition over, from where its row says; what was gathered from it is read again."""
        self.drop_partitions([lease.partition])
        start = lease.next_offset
        self._readers[lease.partition] = PartitionReader(lease, start, start, lease.stream_time_ms, lease.leader_epoch)

    def drop_partitions(self, partitions: Collection[PartitionId]) -> list[PartitionLease]:
        """Forget partitions and all that was gathered from them; return the leases that were held."""
        held = [self._readers.pop(p).lease for p in partitions if p in self._readers]
        self._gathered = self._gathered.without(partitions)
        self._waiting = deque(m for m in self._waiting if m.partition not in partitions)
        self._bytes = bytes_of(self._waiting) + self._gathered.bytes
        self._ends = {p: offset for p, offset in self._ends.items() if p not in partitions}
        return held

    def put(self, messages: Iterable[Message], ends: Mapping[PartitionId, int], now_ms: int) -> None:
        """Take in what was polled.

        Parameters
        ----------
        messages
            In the order in which they were read; those of partitions that are not ours are dropped.
        ends
            Partitions whose end was reached, and the offset there. It passes transaction markers, which are no
            messages, so that the position passes them too.
        now_ms
            The wall clock, UTC milliseconds.

        Raises
        ------
        TransientError
            When the schema registry cannot be asked now. Only the partitions that need it wait, and nothing is lost:
            call again, with nothing new.
        """
        arrived = list(messages)
        self._bytes += bytes_of(arrived)
        self._waiting.extend(arrived)
        self._ends.update(ends)
        stalled = self._decode_waiting(now_ms + self._max_clock_skew_ms)
        for partition in [p for p in self._ends if p not in stalled]:
            offset = self._ends.pop(partition)
            reader = self._readers.get(partition)
            # A message that was read after the end was reported has moved the end.
            if reader is not None and (reader.next_offset is None or offset >= reader.next_offset):
                reader.next_offset = offset
                reader.at_end = True
        for error in filter(None, stalled.values()):
            raise error

    def untried(self) -> tuple[PartitionLease, list[Message]] | None:
        """Return messages of one partition that are to be tried next, and the lease for it; None without any."""
        for partition, reader in self._readers.items():
            waiting = [m for m in self._waiting if m.partition == partition] if reader.lease.trial_until else []
            if waiting and reader.next_offset == reader.expected and reader.is_untried(waiting[0].offset):
                return reader.trial, [m for m in waiting if reader.is_untried(m.offset)]
        return None

    def trust(self, partition: PartitionId, until: int) -> None:
        """Read messages below an offset here, which were tried."""
        self._readers[partition].tried_until = until

    def refuse(self, partition: PartitionId, reason: DeadLetterReason, detail: str) -> None:
        """Make a dead letter of the message that is to be tried next."""
        message = next(m for m in self._waiting if m.partition == partition)
        self._waiting.remove(message)
        self._gathered.dead_letters.append(DeadLetter(reason=reason, detail=detail, message=message))
        reader = self._readers[partition]
        reader.next_offset, reader.leader_epoch = message.offset + 1, message.leader_epoch

    def prefetch(self) -> None:
        """Compute regions that the next batch will ask for; see `consumer.service.region_prefetch`."""
        self._prefetch.compute()

    def take(self) -> Batch | None:
        """Take what was gathered as a batch; None when no position moved."""
        moved = [r for r in self._readers.values() if r.next_offset != r.expected]
        if not moved:
            return None
        batch = Batch(
            offset_updates=offset_updates(moved),
            events=tuple(self._gathered.events),
            dead_letters=tuple(self._gathered.dead_letters),
            stream_times_ms={r.lease.offset_id: r.stream_time_ms for r in moved},
            rereads=any(r.rereads for r in moved),
            prefetched=self._prefetch.take(),
        )
        self._gathered = Gathered()
        self._bytes = bytes_of(self._waiting)
        for reader in moved:
            reader.expected = reader.next_offset
        return batch

    def tick(self, now_ms: int) -> Batch | None:
        """Make a batch that moves nothing but the clocks of the partitions that were read to their end.

        A partition of which something is gathered has no part in it: the clock of a message comes before the wall
        clock. None where there is nothing to do.
        """
        stalled = self.stalled
        idle = [
            r
            for r in self._readers.values()
            if r.at_end and r.next_offset == r.expected and r.lease.partition not in stalled
        ]
        if not idle:
            return None
        return Batch(
            offset_updates=offset_updates(idle),
            stream_times_ms={r.lease.offset_id: max(r.stream_time_ms, now_ms) for r in idle},
        )

    def still_idle(self, tick: Batch) -> Batch | None:
        """Return the part of an earlier tick whose partitions are where they were, with nothing gathered since."""
        present = self.tick(0)
        same = set(tick.offset_updates) & set(() if present is None else present.offset_updates)
        return tick.restricted_to({advance.offset_id for advance in same})

    def _decode_waiting(self, latest_ms: int) -> dict[PartitionId, TransientError | None]:  # noqa: C901 - a call costs time
        """Decode what waits, in order; return the partitions that go on waiting, and why. Runs for every event.

        Raws of one exposure follow each other, and their decoder gives them one `Exposure` object. So what depends on
        the partition or on the exposure alone is looked up only when that object changes.
        """
        waiting, decode, gathered = self._waiting, self._decoder.decode, self._gathered
        keep = gathered.events.append
        stalled: dict[PartitionId, TransientError | None] = {}
        to_try = {partition for partition, reader in self._readers.items() if reader.lease.trial_until}
        still_waiting: deque[Message] = deque()
        partition: PartitionId | None = None
        reader: PartitionReader | None = None
        exposure: Exposure | None = None
        observing: RegionAlgorithm | None = None
        while waiting:
            message = waiting[0]
            if message.partition is not partition:
                partition = message.partition
                reader = self._readers.get(partition)
            offset = message.offset
            if reader is None or (reader.next_offset is not None and offset < reader.next_offset):
                waiting.popleft()
                continue
            if (stalled and partition in stalled) or (partition in to_try and reader.is_untried(offset)):
                stalled.setdefault(message.partition, None)
                still_waiting.append(waiting.popleft())
                continue
            event: Ingested | None = None
            region: RawRegion | None = None
            try:
                event = decode(message.value)
                if event.exposure is not exposure:
                    observing = self._observing(event.exposure)
                    exposure = event.exposure
                    gathered.exposures += isinstance(event, ExposureIngested)
                if observing is not None and isinstance(event, RawIngested):
                    region = observing.observe(event)
            except BadMessageError as error:
                event = None
                gathered.dead_letters.append(
                    DeadLetter(reason=error.reason, detail=error.detail, instrument=error.instrument, message=message)
                )
            except TransientError as error:
                stalled[message.partition] = error
                still_waiting.append(waiting.popleft())
                continue
            waiting.popleft()
            if message.timestamp_ms > reader.stream_time_ms:
                self._clamped += reader.advance_clock(message.timestamp_ms, latest_ms)
            if event is not None:
                keep(new_event((message, reader.lease.offset_id, reader.stream_time_ms, event, region)))
            reader.next_offset = offset + 1
            reader.leader_epoch = message.leader_epoch
            reader.at_end = False
        self._waiting = still_waiting
        return stalled

    def _observing(self, exposure: Exposure) -> RegionAlgorithm | None:
        """Take in an exposure's object that was not the last one's; return who wants to see its raws."""
        rules = self._rules.get(exposure.instrument)
        if rules is None:
            raise BadMessageError(
                DeadLetterReason.UNKNOWN_INSTRUMENT,
                f"instrument {exposure.instrument!r} is not configured: add it to the key 'instruments'",
            )
        self._prefetch.note(exposure)
        return rules.algorithm if rules.algorithm.needs_headers else None
