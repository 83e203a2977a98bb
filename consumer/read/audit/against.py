"""Differences between a night of this schema and another record of it: another schema, or a list of exposures.

For a change-over from another tool: it runs beside the service, and both are compared. Regions compare within
1e-12 rad.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields

from consumer.model import Exposure, VisitRecords
from consumer.postgres.connection import Database
from consumer.postgres.offline_store import read_visits
from consumer.postgres.row_codecs import exposure_from_row
from consumer.read.audit.finding import Finding, FindingGroup, FindingSeverity, Subject, group_findings
from consumer.read.audit.night import compare

_AT_ONCE = 100

Differences = Mapping[str, list[Finding]]


def read_exposures(database: Database, instrument: str, day_obs: int) -> dict[int, Exposure]:
    """Read the exposures of a night by id; needs a session of the reader role."""
    with database.snapshot() as session:
        rows = session.rows("visits", "exposures_of_days", {"instrument": instrument, "days": [day_obs]})
    return {known.record.id: known.record for known in map(exposure_from_row, rows)}


def compare_exposures(ours: Mapping[int, Exposure], theirs: Mapping[int, Exposure]) -> list[FindingGroup]:
    """Compare exposures field by field; numbers have to be equal to the last bit."""
    missing = [_finding(Subject.EXPOSURE, id_, "the other has it") for id_ in sorted(theirs.keys() - ours.keys())]
    extra = [_finding(Subject.EXPOSURE, id_, "the other lacks it") for id_ in sorted(ours.keys() - theirs.keys())]
    differing = []
    for id_ in sorted(ours.keys() & theirs.keys()):
        names = [f.name for f in fields(Exposure) if getattr(ours[id_], f.name) != getattr(theirs[id_], f.name)]
        if names:
            differing.append(_finding(Subject.EXPOSURE, id_, f"differs in {', '.join(names)}"))
    return _groups({"against-missing": missing, "against-extra": extra, "against-differs": differing})


def compare_visits(ours: Database, theirs: Database, instrument: str, day_obs: int) -> list[FindingGroup]:
    """Compare the visits of a night in two schemas, a hundred at a time; needs sessions of the reader role."""
    found: dict[str, list[Finding]] = {"against-missing": [], "against-extra": [], "against-differs": []}
    own, other = (_ids(database, instrument, day_obs) for database in (ours, theirs))
    found["against-missing"] += [_finding(Subject.VISIT, id_, "the other has it") for id_ in sorted(other - own)]
    found["against-extra"] += [_finding(Subject.VISIT, id_, "the other lacks it") for id_ in sorted(own - other)]
    common = sorted(own & other)
    for start in range(0, len(common), _AT_ONCE):
        some = common[start : start + _AT_ONCE]
        here, there = (_visits(database, instrument, some) for database in (ours, theirs))
        for id_ in sorted(here.keys() & there.keys()):
            found["against-differs"] += [
                _finding(Subject.VISIT, id_, text) for text in _visit_differences(here[id_], there[id_])
            ]
    return _groups(found)


def _visit_differences(ours: VisitRecords, theirs: VisitRecords) -> Iterator[str]:
    lacks, extra = (
        sorted(set(one.regions.detectors) - set(another.regions.detectors))
        for one, another in ((theirs, ours), (ours, theirs))
    )
    if lacks or extra:
        yield f"detector regions: lacks {lacks}, has besides {extra}"
    check = compare(ours, theirs, keep_stored=False)
    if check is not None and (text := check.members_changed or check.differs):
        yield text


def _ids(database: Database, instrument: str, day_obs: int) -> set[int]:
    with database.snapshot() as session:
        wanted = {"instrument": instrument, "day_obs": day_obs, "group_keys": []}
        return {int(str(row[0])) for row in session.rows("audit", "visits", wanted)}


def _visits(database: Database, instrument: str, ids: list[int]) -> dict[int, VisitRecords]:
    with database.snapshot() as session:
        return read_visits(session, instrument, ids)


def _finding(subject: Subject, name: int, detail: str) -> Finding:
    return Finding(subject=subject, name=name, detail=detail)


def _groups(found: Differences) -> list[FindingGroup]:
    return [group for rule, each in found.items() for group in group_findings(rule, FindingSeverity.ERROR, each)]
