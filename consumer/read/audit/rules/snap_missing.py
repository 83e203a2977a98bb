"""Snap that is absent in the ``seq_start..seq_end`` of a group that is not open.

Cause: an exposure was lost before the tables, or not taken. Nothing stored can mend it.
"""

from collections.abc import Iterator

from consumer.read.audit.finding import Finding, FindingSeverity, Subject
from consumer.read.audit.night import Night

NAME = "snap-missing"
SEVERITY = FindingSeverity.ERROR
_MOST = 10_000
"""A longer counter run is no group of snaps."""


def find(night: Night) -> Iterator[Finding]:
    """Yield sequence numbers."""
    for number, run in snaps_missing(night):
        detail = f"a snap of the group with seq_num {run[0]}..{run[1]} is absent"
        yield Finding(subject=Subject.SEQ_NUM, name=number, detail=detail)


def snaps_missing(night: Night) -> list[tuple[int, tuple[int, int]]]:
    """Return the numbers that are absent, each with the run that it is of."""
    stored = {each.known.record.seq_num for each in night.exposures}
    runs: dict[tuple[int, int], bool] = {}
    for each in night.exposures:
        start, end = each.known.record.seq_start, each.known.record.seq_end
        if start is not None and end is not None and start < end <= start + _MOST:
            waits = each.known.group.key in night.open_groups or not each.settled
            runs[start, end] = runs.get((start, end), False) or waits
    return [
        (number, run)
        for run, waits in sorted(runs.items())
        if not waits
        for number in range(run[0], run[1] + 1)
        if number not in stored
    ]
