"""What one batch of events means for the tables: pure steps between the reads and the writes of its transaction.

``events -> sightings -> merged exposures and changes -> closings -> candidate visits -> verdicts``

The transaction (`consumer.service.apply_batch`) loads what each step needs to know and writes what the steps decide.
Nothing here does I/O or reads a clock.
"""

from consumer.domain.exposure_updates import Event, KnownExposure, Merged, Sighting, collate, merge, new_event
from consumer.domain.instrument import ExposureKey, InstrumentRules
from consumer.domain.visit_candidates import Candidate, Defined, define, group_dead_letter
from consumer.domain.visit_diff import StoredVisit, Verdicts, VisitKey, compare

__all__ = [
    "Candidate",
    "Defined",
    "Event",
    "ExposureKey",
    "InstrumentRules",
    "KnownExposure",
    "Merged",
    "Sighting",
    "StoredVisit",
    "Verdicts",
    "VisitKey",
    "collate",
    "compare",
    "define",
    "group_dead_letter",
    "merge",
    "new_event",
]
