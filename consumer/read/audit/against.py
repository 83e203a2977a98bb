"""Differences between a night of this schema and another record of it. Regions compare within 1e-12 rad."""

from collections.abc import Collection, Iterator, Mapping

from consumer.domain.number_ranges import numbers_as_ranges
from consumer.model import Exposure, VisitRecords
from consumer.postgres.connection import Database
from consumer.postgres.offline_store import read_visits
from consumer.postgres.row_codecs import exposure_from_row
from consumer.read.audit.finding import Finding, FindingGroup, FindingSeverity, Subject, group_findings
from consumer.read.audit.night import compare
from consumer.read.raws import stored_detectors

_AT_ONCE = 100

Differences = Mapping[str, list[Finding]]


def read_exposures(database: Database, instrument: str, day_obs: int) -> dict[int, Exposure]:
    """Read the exposures of a night by id; needs a session of the reader role."""
    with database.snapshot() as session:
        rows = session.rows("visits", "exposures_of_days", {"instrument": instrument, "days": [day_obs]})
    return {known.record.id: known.record for known in map(exposure_from_row, rows)}


def compare_exposures(
    ours: Mapping[int, Exposure], theirs: Mapping[int, Exposure], names: Collection[str]
) -> list[FindingGroup]:
    """Compare exposures in the fields that both records have; numbers have to be equal to the last bit."""
    missing = [_finding(Subject.EXPOSURE, id_, "the other has it") for id_ in sorted(theirs.keys() - ours.keys())]
    extra = [_finding(Subject.EXPOSURE, id_, "the other lacks it") for id_ in sorted(ours.keys() - theirs.keys())]
    differing = []
    for id_ in sorted(ours.keys() & theirs.keys()):
        other = [name for name in sorted(names) if getattr(ours[id_], name) != getattr(theirs[id_], name)]
        if other:
            differing.append(_finding(Subject.EXPOSURE, id_, f"differs in {', '.join(other)}"))
    return group_differences({"against-missing": missing, "against-extra": extra, "against-differs": differing})


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
    return group_differences(found)


def night_visits(database: Database, instrument: str, day_obs: int) -> Iterator[Mapping[int, VisitRecords]]:
    """Yield the visits of a night by id, a hundred at a time; needs a session of the reader role."""
    ids = sorted(_ids(database, instrument, day_obs))
    for start in range(0, len(ids), _AT_ONCE):
        yield _visits(database, instrument, ids[start : start + _AT_ONCE])


def compare_raws(
    database: Database, theirs: Mapping[str, Collection[int]], instrument: str, day_obs: int
) -> list[FindingGroup]:
    """Compare which raws have arrived of the exposures of a night with another record of raws.

    Parameters
    ----------
    database
        A session of the reader role.
    theirs
        Ids of detectors by the observatory's name of the exposure.
    instrument, day_obs
        Which night.
    """
    with database.snapshot() as session:
        rows = session.rows("visits", "exposures_of_days", {"instrument": instrument, "days": [day_obs]})
    ours = {known.record.obs_id: known for known in map(exposure_from_row, rows)}
    # Names that are none of ours, but of an exposure of another camera with detectors of the same names.
    others = stored_detectors(database, theirs.keys() - ours.keys(), [day_obs])
    missing = [
        _finding(Subject.EXPOSURE, name, f"the other has {len(theirs[name])} raws of it")
        for name in sorted(theirs.keys() - ours.keys() - others.keys())
    ]
    extra, differing = [], []
    for name, known in sorted(ours.items()):
        arrived = {n for n in range(known.detectors.bit_length()) if known.detectors >> n & 1}
        there = set(theirs.get(name, ()))
        if arrived and not there:
            extra.append(_finding(Subject.EXPOSURE, known.record.id, "the other has no raws of it"))
            continue
        for text, found in (("lacks the raws of", arrived - there), ("has besides raws of", there - arrived)):
            if found:
                detail = f"the other {text} detectors {numbers_as_ranges(found)}"
                differing.append(_finding(Subject.EXPOSURE, known.record.id, detail))
    return group_differences({"against-missing": missing, "against-extra": extra, "against-differs": differing})


def group_differences(found: Differences) -> list[FindingGroup]:
    """Bring together differences by their kind."""
    return [group for rule, each in found.items() for group in group_findings(rule, FindingSeverity.ERROR, each)]


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


def _finding(subject: Subject, name: int | str, detail: str) -> Finding:
    return Finding(subject=subject, name=name, detail=detail)
