"""Answers that are put together from several things that were read."""

from consumer import __version__
from consumer.page.answers import (
    DeadLetterAnswer,
    DeadLettersOfReasonAnswer,
    PartitionAnswer,
    StatusAnswer,
    TroubleAnswer,
    VisitAnswer,
    VisitLineAnswer,
)
from consumer.read.overview import Overview
from consumer.read.trouble import AuditLines, DeadLetterLine
from consumer.read.visit_rows import VisitParts

_READ = "reading"


def status_of(overview: Overview) -> StatusAnswer:
    """Return the whole service at one moment."""
    own = {name: getattr(overview, name) for name in StatusAnswer.model_fields if hasattr(overview, name)}
    own["version"] = __version__
    own["open_groups"] = overview.n_open_groups
    own["open_dead_letters"] = sum(each.number for each in overview.dead_letters)
    return StatusAnswer.model_validate(own)


def trouble_of(overview: Overview, first: list[DeadLetterLine], audits: list[AuditLines]) -> TroubleAnswer:
    """Return what is wrong."""
    letters = [
        DeadLettersOfReasonAnswer(
            reason=each.reason,
            number=each.number,
            last_at=each.last_at,
            first=[DeadLetterAnswer.model_validate(one) for one in first if one.reason == each.reason],
        )
        for each in overview.dead_letters
    ]
    partitions = [PartitionAnswer.model_validate(each) for each in overview.partitions if each.state != _READ]
    own = {"at": overview.at, "problems": overview.problems, "audits": audits}
    return TroubleAnswer.model_validate(own | {"dead_letters": letters, "partitions": partitions})


def visit_of(parts: VisitParts) -> VisitAnswer:
    """Return a visit with its exposures and detectors."""
    line = VisitLineAnswer.model_validate(parts.row)
    own = {name: getattr(parts, name) for name in VisitAnswer.model_fields if hasattr(parts, name)}
    return VisitAnswer.model_validate(own | line.model_dump() | {"polygon": parts.row.polygon})
