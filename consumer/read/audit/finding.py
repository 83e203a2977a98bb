"""What a rule finds, and how findings are brought together for people."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from consumer.domain.number_ranges import numbers_as_ranges


class FindingSeverity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """The tables are wrong, or data are missing."""
    WARNING = "warning"
    """It may be as intended: look at it."""


class Subject(StrEnum):
    """What a finding is about."""

    EXPOSURE = "exposure"
    VISIT = "visit"
    SEQ_NUM = "seq_num"
    GROUP = "group"
    DEAD_LETTER = "dead letter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One fault."""

    subject: Subject
    name: int | str
    """Id of the subject, its sequence number, or the group's key."""
    detail: str
    exposures: frozenset[int] = frozenset()
    """Ids of stored exposures; defining their groups again mends the fault. Empty: nothing stored can mend it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingGroup:
    """Findings of one rule that say the same of several subjects."""

    rule: str
    severity: FindingSeverity
    subject: Subject
    subjects: str
    """In ranges, such as ``12-40, 44``."""
    found: int
    detail: str


def group_findings(rule: str, severity: FindingSeverity, findings: Iterable[Finding]) -> list[FindingGroup]:
    """Bring together the findings of one rule that say the same, in the order of the first of each."""
    same: dict[tuple[Subject, str], list[int | str]] = {}
    for each in findings:
        same.setdefault((each.subject, each.detail), []).append(each.name)
    return [
        FindingGroup(
            rule=rule, severity=severity, subject=subject, subjects=_ranges(names), found=len(names), detail=detail
        )
        for (subject, detail), names in same.items()
    ]


def _ranges(names: Iterable[int | str]) -> str:
    """Write names, numbers that follow one another as a range: ``12-40, 44``."""
    texts = sorted({each for each in names if isinstance(each, str)})
    numbers = numbers_as_ranges(each for each in names if isinstance(each, int))
    return ", ".join([numbers] * bool(numbers) + texts)
