"""On-sky exposure without a visit that its closed group defines.

Cause: rows were deleted, or the group was lost before it closed. ``--fix`` defines the group again. An exposure whose
group is open waits, and is no finding.
"""

from collections.abc import Iterator

from consumer.read.audit.finding import Finding, FindingSeverity, Subject
from consumer.read.audit.night import Night

NAME = "exposure-without-visit"
SEVERITY = FindingSeverity.ERROR


def find(night: Night) -> Iterator[Finding]:
    """Yield exposures."""
    wanted: dict[int, list[int]] = {}
    for candidate in night.defined.candidates:
        for each in candidate.definition.exposures:
            wanted.setdefault(each.id, []).append(candidate.definition.id)
    for stored in night.exposures:
        known = stored.known
        exposure = known.record.id
        if known.record.off_sky_reason is not None or known.group.key in night.open_groups:
            continue
        missing = [visit for visit in wanted.get(exposure, ()) if visit not in night.visits]
        if missing:
            detail = "its group defines a visit that is not stored"
            yield Finding(subject=Subject.EXPOSURE, name=exposure, detail=detail, exposures=frozenset({exposure}))
        elif exposure not in wanted and exposure not in night.members_of_visits:
            yield Finding(subject=Subject.EXPOSURE, name=exposure, detail="its group defines no visit with it")
