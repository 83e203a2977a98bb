"""Visit without the region of some detector of its camera.

Cause: rows were deleted, or their writing was cut short by another tool. ``--fix`` writes the visit again.
"""

from collections.abc import Iterator

from consumer.domain.number_ranges import numbers_as_ranges
from consumer.read.audit.finding import Finding, FindingSeverity, Subject
from consumer.read.audit.night import Night

NAME = "detector-region-missing"
SEVERITY = FindingSeverity.ERROR


def find(night: Night) -> Iterator[Finding]:
    """Yield visits."""
    for check in night.checks:
        if check.missing_detectors:
            detail = f"no region of detector {numbers_as_ranges(check.missing_detectors)}"
            yield Finding(subject=Subject.VISIT, name=check.visit, detail=detail, exposures=check.exposures)
