"""Answers that are put together from several things that were read."""

from consumer import __version__
from consumer.page.answers import DeadLetter, DeadLettersOfReason, Partition, Status, Trouble, Visit, VisitLine
from consumer.read.overview import Overview
from consumer.read.trouble import AuditLines, DeadLetterLine
from consumer.read.visit_rows import VisitParts

_READ = "reading"


def status_of(overview: Overview) -> Status:
    """Return the whole service at one moment."""
    own = {name: getattr(overview, name) for name in Status.model_fields if hasattr(overview, name)}
    own["version"] = __version__
    own["open_groups"] = overview.n_open_groups
    own["open_dead_letters"] = sum(each.number for each in overview.dead_letters)
    return Status.model_validate(own)


def trouble_of(overview: Overview, first: list[DeadLetterLine], audits: list[AuditLines]) -> Trouble:
    """Return what is wrong."""
    letters = [
        DeadLettersOfReason(
            reason=each.reason,
            number=each.number,
            last_at=each.last_at,
            first=[DeadLetter.model_validate(one) for one in first if one.reason == each.reason],
        )
        for each in overview.dead_letters
    ]
    partitions = [Partition.model_validate(each) for each in overview.partitions if each.state != _READ]
    own = {"at": overview.at, "problems": overview.problems, "audits": audits}
    return Trouble.model_validate(own | {"dead_letters": letters, "partitions": partitions})


def visit_of(parts: VisitParts) -> Visit:
    """Return a visit with its exposures and detectors."""
    line = VisitLine.model_validate(parts.row)
    own = {name: getattr(parts, name) for name in Visit.model_fields if hasattr(parts, name)}
    return Visit.model_validate(own | line.model_dump() | {"polygon": parts.row.polygon})
