"""Polls Kafka into the batch builder, and pauses delivery while there is no room."""

from collections.abc import Collection

from consumer.errors import TransientError
from consumer.model import Message, PartitionId
from consumer.service.batch_builder import BatchBuilder
from consumer.service.reporter import Reporter
from consumer.service.runtime import Runtime
from consumer.service.source import Source

_PAUSE_AFTER_S = 1.0
"""A writer that is busy for so long makes the poller pause the partitions and go on polling, to keep the membership."""
_MAX_GATHERED_BYTES = 32 * 1024 * 1024
"""A batch of large messages is full before it has its number of them; librdkafka bounds what one poll adds."""


class Poller:
    """Polls, decodes, and computes regions ahead of the transaction.

    Parameters
    ----------
    source, builder, reporter
        Where messages come from, where they go, and what reports it.
    runtime
        Clocks of the machine.
    max_messages
        Of a batch; the event of a whole exposure counts as `~consumer.service.gathered.EXPOSURE_COUNTS_AS` of them.
    max_wait_s
        How long one poll waits for messages.
    """

    def __init__(
        self,
        source: Source,
        builder: BatchBuilder,
        reporter: Reporter,
        runtime: Runtime,
        *,
        max_messages: int,
        max_wait_s: float,
    ) -> None:
        self._source = source
        self._builder = builder
        self._reporter = reporter
        self._runtime = runtime
        self._max_messages = max_messages
        self._max_wait_s = max_wait_s
        self.paused = False
        """Whether delivery is paused because the next batch is full."""
        self._held: frozenset[PartitionId] = frozenset()
        self._weight_of_one = 1
        """What a message that was polled last counts as, on average: how many are polled follows from it."""

    @property
    def full(self) -> bool:
        """Whether the next batch has no room left, and delivery is not paused yet."""
        return self._room <= 0 and not self.paused

    @property
    def _room(self) -> int:
        return self._max_messages - self._builder.gathered.weight if self._builder.bytes < _MAX_GATHERED_BYTES else 0

    def poll(self, *, busy_s: float, in_hand: Message | None) -> Collection[PartitionId]:
        """Poll once, unless the batch is full and room is expected soon.

        Parameters
        ----------
        busy_s
            For how long the writer has worked on its call, seconds; 0 when it is idle.
        in_hand
            The oldest message that is being written.

        Returns
        -------
        out_of_range
            Partitions whose next offset is not in the log any more.
        """
        if self.full:
            if busy_s < _PAUSE_AFTER_S:  # a batch that is written soon makes room
                return ()
            self._source.pause()
            self.paused = True
        elif self._room > 0 and self.paused:
            self._source.resume()
            self.paused = False
            self._held = frozenset()
        polled = self._source.poll(max(self._room // self._weight_of_one, 1), self._max_wait_s)
        started = self._runtime.stopwatch_s()
        messages, weight = self._builder.gathered.messages, self._builder.gathered.weight
        try:
            self._builder.put(polled.messages, polled.ends, self._runtime.now_ms())
            self._reporter.no_event_waits()
        except TransientError as error:
            # The messages wait in the builder; the loop goes on serving the group and asks again.
            self._reporter.events_wait(error)
        if (more := self._builder.gathered.messages - messages) > 0:
            self._weight_of_one = (self._builder.gathered.weight - weight) // more
        self._hold(self._builder.stalled)
        decoded = self._runtime.stopwatch_s()
        self._builder.prefetch()
        self._reporter.gathered(
            in_hand or self._builder.oldest,
            self._builder.take_clamped(),
            decode_s=decoded - started,
            region_s=self._runtime.stopwatch_s() - decoded,
        )
        return polled.out_of_range

    def _hold(self, stalled: frozenset[PartitionId]) -> None:
        """Let partitions that wait for the registry deliver no more, and the others go on."""
        if stalled != self._held and not self.paused:
            self._source.resume()
            if stalled:
                self._source.pause(stalled)
            self._held = stalled
