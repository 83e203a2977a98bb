"""What the options of `DefineVisitsTask` do with a visit, and where this package differs from the original on purpose.

One table each: `consumer.task.define` looks its decisions up in `OUTCOMES`, the tests hold `DIFFERENCES` against what
the original did, and ``docs/define-visits-options.md`` is written from both. Pure.
"""

from enum import StrEnum, auto
from typing import NamedTuple


class Situation(StrEnum):
    """How a visit of the batch stands to what is stored."""

    NEW = "not stored"
    CLAIMED = "another group of the batch has the id"
    SAME = "stored with the same row"
    REGIONS_MISSING = "stored with the same row, detector regions are missing"
    ROW_DIFFERS = "stored with other values"
    REGION_DIFFERS = "stored with another region"


class OfflineChange(StrEnum):
    """What a batch does with one visit; each is counted in the field of `DefineResult` of its name."""

    SKIPPED = auto()
    NEW = auto()
    FULLY_UPDATED = auto()
    PARTIALLY_UPDATED = auto()


class OptionOutcome(NamedTuple):
    """One row: in a situation, with an option, this happens."""

    situations: frozenset[Situation]
    option: str | None
    """The field of `DefineOptions` that has to be true; None: none."""
    change: OfflineChange | None
    """None: a conflict is raised."""
    effect: str


_STORED = frozenset(Situation) - {Situation.NEW, Situation.CLAIMED}
_DIFFERS = frozenset({Situation.ROW_DIFFERS, Situation.REGION_DIFFERS})

OUTCOMES: tuple[OptionOutcome, ...] = (
    OptionOutcome(frozenset({Situation.NEW}), None, OfflineChange.NEW, "every row is written"),
    OptionOutcome(
        frozenset({Situation.CLAIMED}), "skip_conflicting", OfflineChange.SKIPPED, "the first group has the visit"
    ),
    OptionOutcome(frozenset({Situation.CLAIMED}), None, None, "visits with lower ids are stored already"),
    OptionOutcome(_STORED, "update_records", OfflineChange.FULLY_UPDATED, "rows and regions that differ are rewritten"),
    OptionOutcome(
        frozenset({Situation.REGIONS_MISSING}),
        "check_detector_regions",
        OfflineChange.FULLY_UPDATED,
        "the missing regions are written",
    ),
    OptionOutcome(_STORED - _DIFFERS, None, OfflineChange.SKIPPED, "nothing is written"),
    OptionOutcome(
        frozenset({Situation.REGION_DIFFERS}), "incremental", OfflineChange.FULLY_UPDATED, "every row is rewritten"
    ),
    OptionOutcome(
        frozenset({Situation.ROW_DIFFERS}),
        "incremental",
        OfflineChange.PARTIALLY_UPDATED,
        "the row is rewritten, detector regions stay",
    ),
    OptionOutcome(_DIFFERS, "skip_conflicting", OfflineChange.SKIPPED, "nothing is written"),
    OptionOutcome(_DIFFERS, None, None, "visits with lower ids are stored already"),
)
"""The first row whose situation and option hold decides."""


class Difference(NamedTuple):
    """One difference from the original that stays."""

    original: str
    ours: str
    reason: str
    scenarios: tuple[str, ...]
    """Scenarios of ``tests/data/options`` that show it."""


DIFFERENCES: tuple[Difference, ...] = (
    Difference(
        "`update_records` rewrites the row of a visit with the values of a further member, and does not make it one",
        "the further member becomes one",
        "a row that sums exposures which are not members is wrong",
        ("second_snap_update_records",),
    ),
    Difference(
        "`incremental` takes the region of the exposure that was given first",
        "the region of the earliest exposure",
        "the order in which exposures arrive must not show",
        ("incremental_second_snap_alone", "off_sky_member_incremental"),
    ),
    Difference(
        "`incremental` adds stored exposures of the group that are off sky",
        "they stay out",
        "an exposure off sky defines no visit, whenever it comes",
        ("off_sky_member_incremental",),
    ),
    Difference(
        "`incremental` of the counter looks at runs of the same numbers on other days",
        "days are apart",
        "counters begin again each day",
        ("counter_missing_other_day_incremental",),
    ),
    Difference(
        "the first exposure of a run is the one with the lowest number",
        "each whose number is `seq_start`",
        "an exposure's own visit, with its name, is defined at once: before the others of its run are known",
        ("backwards_counter", "duplicate_seq_num_counter"),
    ),
    Difference(
        "a visit without a common filter or without times is an error",
        "its columns are null",
        "one bad header must not stop a night; the sink of a Butler registry refuses such a visit",
        ("mixed_filters", "no_timespan"),
    ),
    Difference(
        "a member whose day_obs is not the visit's cannot be found by a query",
        "it is a member",
        "the rows are the same; the Butler's join hides it",
        ("day_obs_differs_in_group",),
    ),
    Difference(
        "an interval without a length is the empty interval, which has no begin",
        "it has its begin, and ends there",
        "the time is known",
        ("zero_length_timespan",),
    ),
)
