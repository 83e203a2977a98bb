"""What is gathered for the next batch: events, bad messages, and how much of a batch they fill."""

from collections.abc import Collection
from dataclasses import dataclass, field

from consumer.domain import Event
from consumer.model import DeadLetter, ExposureIngested, Message, PartitionId
from consumer.service.batch import bytes_of

EXPOSURE_COUNTS_AS = 100
"""Messages of a batch's `max_messages` that the event of a whole exposure fills: it has the rows of all its detectors
written. Batches of 50 to 130 of them are the fastest for LSSTCam's 205; all that a poll brings in one batch costs
40 % of the speed, as nothing then goes on beside the transaction (`tests/benchmarks`)."""


@dataclass(slots=True)
class Gathered:
    """Events and dead letters in the order in which they were read."""

    events: list[Event] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    exposures: int = 0
    """Events of whole exposures among them."""

    @property
    def messages(self) -> int:
        """Number of messages."""
        return len(self.events) + len(self.dead_letters)

    @property
    def weight(self) -> int:
        """Number of messages, where the event of a whole exposure counts as `EXPOSURE_COUNTS_AS`."""
        return self.messages + self.exposures * (EXPOSURE_COUNTS_AS - 1)

    @property
    def oldest(self) -> Message | None:
        """The message that has been gathered for longest; None when nothing is."""
        gathered = self.events or self.dead_letters
        return gathered[0].message if gathered else None

    @property
    def bytes(self) -> int:
        """Bytes of the keys and values of all of them; counted anew."""
        return bytes_of([*(e.message for e in self.events), *(x.message for x in self.dead_letters)])

    def without(self, partitions: Collection[PartitionId]) -> "Gathered":
        """Return what is of other partitions, and of none."""
        events = [e for e in self.events if e.message.partition not in partitions]
        letters = [x for x in self.dead_letters if x.message is None or x.message.partition not in partitions]
        return Gathered(events, letters, sum(isinstance(e.ingested, ExposureIngested) for e in events))
