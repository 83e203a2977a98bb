"""The rules by name. A rule is one module: its documentation, ``NAME``, ``SEVERITY`` and the pure function ``find``."""

from collections.abc import Iterator, Mapping
from typing import Protocol, cast

from consumer.read.audit.finding import Finding, FindingSeverity
from consumer.read.audit.night import Night
from consumer.read.audit.rules import (
    announcement_missing,
    dead_letter_open,
    detector_region_missing,
    exposure_without_visit,
    group_open_too_long,
    members_changed,
    off_sky_member,
    raw_missing,
    sequence_gap,
    snap_missing,
    visit_differs,
)


class Rule(Protocol):
    """What a module of a rule has."""

    NAME: str
    SEVERITY: FindingSeverity

    @staticmethod
    def find(night: Night) -> Iterator[Finding]:
        """Yield what breaks the rule."""
        ...


_MODULES = (
    exposure_without_visit,
    detector_region_missing,
    raw_missing,
    sequence_gap,
    snap_missing,
    group_open_too_long,
    visit_differs,
    members_changed,
    announcement_missing,
    dead_letter_open,
    off_sky_member,
)
RULES: Mapping[str, Rule] = {module.NAME: cast("Rule", module) for module in _MODULES}
"""In the order in which they are reported."""
