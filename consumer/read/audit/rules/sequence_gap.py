"""Sequence number that no stored exposure of the night has, although later ones have arrived.

Cause: an exposure was lost before the tables. Nothing stored can mend it. Numbers within the ``seq_start..seq_end``
of a stored exposure are the rule ``snap-missing``'s. Later exposures within the grace do not count yet.
"""

from collections.abc import Iterator
from itertools import pairwise

from consumer.read.audit.finding import Finding, FindingSeverity, Subject
from consumer.read.audit.night import Night
from consumer.read.audit.rules.snap_missing import snaps_missing

NAME = "sequence-gap"
SEVERITY = FindingSeverity.ERROR
_MOST = 100_000
"""A longer gap is a counter that was set anew."""


def find(night: Night) -> Iterator[Finding]:
    """Yield sequence numbers."""
    stored = sorted({e.known.record.seq_num for e in night.exposures if e.known.record.seq_num})
    settled = {e.known.record.seq_num for e in night.exposures if e.settled}
    snaps = {number for number, _ in snaps_missing(night)}
    for before, after in pairwise(stored):
        if after in settled and after - before <= _MOST:
            for number in range(before + 1, after):
                if number not in snaps:
                    detail = "no exposure has this number, and later ones arrived"
                    yield Finding(subject=Subject.SEQ_NUM, name=number, detail=detail)
