"""Visit whose members, or their records, are other than those that it was made of, with the same settings.

Cause: exposures were changed, or memberships deleted, by another tool than the service. ``--fix``
defines the group again.
"""

from collections.abc import Iterator

from consumer.read.audit.finding import Finding, FindingSeverity, Subject
from consumer.read.audit.night import Night

NAME = "members-changed"
SEVERITY = FindingSeverity.ERROR


def find(night: Night) -> Iterator[Finding]:
    """Yield visits."""
    for check in night.checks:
        if check.members_changed:
            detail = check.members_changed
            yield Finding(subject=Subject.VISIT, name=check.visit, detail=detail, exposures=check.exposures)
