"""Visit whose stored revision was not the last that was announced.

Only visits that were written since the oldest announcement that is kept are judged. ``--fix`` writes the visit again,
with a revision and an announcement of its own.
"""

from collections.abc import Iterator

from consumer.read.audit.finding import Finding, FindingSeverity, Subject
from consumer.read.audit.night import Night

NAME = "announcement-missing"
SEVERITY = FindingSeverity.ERROR


def find(night: Night) -> Iterator[Finding]:
    """Yield visits."""
    if night.announced is None:
        return
    members = {c.definition.id: frozenset(e.id for e in c.definition.exposures) for c in night.defined.candidates}
    for visit in night.visits.values():
        announced = night.announced.get(visit.id)
        if announced == visit.revision or (announced is None and not visit.kept):
            continue
        detail = f"revision {visit.revision} is stored, {announced or 'none'} was announced"
        exposures = members.get(visit.id, frozenset())
        yield Finding(subject=Subject.VISIT, name=visit.id, detail=detail, exposures=exposures)
