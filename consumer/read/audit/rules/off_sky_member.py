"""Exposure off sky whose neighbours in its group are on sky.

Cause: a header without pointing, most often. A corrected record mends it, once it is announced with a higher version.
"""

from collections.abc import Iterator

from consumer.read.audit.finding import Finding, FindingSeverity, Subject
from consumer.read.audit.night import Night

NAME = "off-sky-member"
SEVERITY = FindingSeverity.WARNING


def find(night: Night) -> Iterator[Finding]:
    """Yield exposures."""
    on_sky = {each.known.record.group for each in night.exposures if each.known.record.off_sky_reason is None}
    for each in night.exposures:
        reason = each.known.record.off_sky_reason
        if reason is not None and each.known.record.group in on_sky:
            detail = f"off sky ({reason}), others of its group are on sky"
            yield Finding(subject=Subject.EXPOSURE, name=each.known.record.id, detail=detail)
