"""What one batch of events means for the tables: pure steps between the reads and the writes of its transaction.

``events -> updates -> merged exposures and changes -> closings -> candidate visits -> diff``

The transaction (`consumer.service.apply_batch`) loads what each step needs to know and writes what the steps decide.
Nothing here does I/O or reads a clock.
"""

from consumer.domain.exposure_updates import (
    Event,
    ExposureUpdate,
    MergedBatch,
    fold_raws,
    merge,
    new_event,
)
from consumer.domain.instrument import ExposureKey, Instrument, KnownExposure
from consumer.domain.visit_candidates import Candidate, Defined, define, group_dead_letter, order_matters
from consumer.domain.visit_diff import StoredVisit, VisitDiff, VisitKey, diff_visits

__all__ = [
    "Candidate",
    "Defined",
    "Event",
    "ExposureKey",
    "ExposureUpdate",
    "Instrument",
    "KnownExposure",
    "MergedBatch",
    "StoredVisit",
    "VisitDiff",
    "VisitKey",
    "define",
    "diff_visits",
    "fold_raws",
    "group_dead_letter",
    "merge",
    "new_event",
    "order_matters",
]
