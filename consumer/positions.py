"""How a batch moves the stored position of a partition; shared by what gathers batches and what writes them."""

from typing import NamedTuple

from consumer.model import PartitionId


class Advance(NamedTuple):
    """One partition's part of the fence."""

    partition: PartitionId
    clock: int
    """Id of the position's row; also the id of the partition's stream clock."""
    epoch: int
    expected: int | None
    """The stored ``next_offset`` before the batch; None where nothing was written yet."""
    next_offset: int | None
    stream_time_ms: int
    """Largest message timestamp read, UTC milliseconds."""
