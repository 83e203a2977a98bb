"""The one call that the writer works on for the loop."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from consumer.model import PartitionId
from consumer.service.batch import Batch


class Answered(Protocol):
    """As much of a future as the loop needs before it takes the answer."""

    def done(self) -> bool:
        """Return whether there is an answer."""

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the answer."""


@dataclass(slots=True)
class Pending:
    """A call that was given to the writer, and what to do with its answer."""

    future: Answered
    take: "Callable[[], Pending | None]"
    """Looks at the finished future; returns the call that follows from it, if any."""
    since_s: float
    """Of the monotonic clock."""
    batch: Batch | None = None
    partitions: frozenset[PartitionId] = field(default_factory=frozenset)
    """Those of which something is being written."""
