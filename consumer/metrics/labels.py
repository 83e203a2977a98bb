"""Values that labels take, and the buckets of histograms."""

from enum import StrEnum

NAMESPACE = "visit_consumer"
UNKNOWN = "unknown"
"""Label of an instrument that is not configured: a message must not be able to make new time series."""
LATENCY_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 1800, 7200)
STAGE_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
ROUND_TRIP_BUCKETS = (2, 4, 6, 8, 10, 12, 14, 20, 50)
BATCH_BUCKETS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000)


class EventOutcome(StrEnum):
    """Outcome of one message."""

    NEW = "new"
    """It says something new: a raw or an exposure, or which raws are expected."""
    REPEATED = "repeated"
    """All that it says was known already; nothing changed."""
    CONTRADICTING = "contradicting"
    """Its record differs from the one stored first: a dead letter."""
    BAD = "bad"
    """Not a usable event: a dead letter."""


class VisitResult(StrEnum):
    """Result of one visit that was defined."""

    NEW = "new"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    KEPT = "kept"
    """It would have been updated, but the instrument's setting keeps what is stored."""
    REMOVED = "removed"
    """Its group no longer defines it."""
    CONFLICT = "conflict"
    """Another group has its id or name: a dead letter."""


class Stage(StrEnum):
    """A stage of the work on one batch."""

    DECODE = "decode"
    GROUP = "group"
    REGION = "region"
    WRITE = "write"
    COMMIT = "commit"


class Rebalance(StrEnum):
    """How the consumer group changed the assignment."""

    ASSIGNED = "assigned"
    REVOKED = "revoked"
    LOST = "lost"


DB_ERROR_CLASSES = ("connection", "08", "22", "23", "28", "40", "42", "53", "55", "57", "58", "XX")
"""Classes of SQLSTATE that are known to occur, and ``connection`` where the server gave none."""
