"""Visit whose stored hash, columns or regions differ from what its exposures define by the present settings.

Cause: it was made with another padding, rule, algorithm or camera, or its rows were altered. ``--fix`` writes it again.
"""

from collections.abc import Iterator

from consumer.read.audit.finding import Finding, FindingSeverity, Subject
from consumer.read.audit.night import Night

NAME = "visit-differs"
SEVERITY = FindingSeverity.ERROR


def find(night: Night) -> Iterator[Finding]:
    """Yield visits."""
    for check in night.checks:
        if check.differs:
            yield Finding(subject=Subject.VISIT, name=check.visit, detail=check.differs, exposures=check.exposures)
