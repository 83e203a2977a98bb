"""Group that is open although its deadline has passed by its own clock, or that nothing reads for.

Cause: its partition has no consumer, or its clock's position is gone. Starting a consumer closes it; ``--fix`` does not
touch open groups, because they are the service's.
"""

from collections.abc import Iterator

from consumer.read.audit.finding import Finding, FindingSeverity, Subject
from consumer.read.audit.night import Night

NAME = "group-open-too-long"
SEVERITY = FindingSeverity.ERROR


def find(night: Night) -> Iterator[Finding]:
    """Yield groups."""
    grace_ms = night.grace_s * 1000
    ours = {key.key for key in night.members}
    for group in night.open_groups.values():
        if group.key not in ours:
            continue
        if group.stream_time_ms is None or group.quiet_s is None:
            detail = "no stored position has the clock by which it closes"
        elif group.stream_time_ms >= group.deadline_ms + grace_ms:
            detail = "its deadline has passed by the clock of its partition"
        elif group.quiet_s > night.grace_s and group.now_ms - group.opened_ms > night.rules.closing.max_open_ms:
            detail = "it is older than max_open, and the position of its partition does not move"
        else:
            continue
        yield Finding(subject=Subject.GROUP, name=group.key, detail=detail)
