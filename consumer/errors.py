"""The errors of the package: one class for each response of the shell.

===================  =====================================================
class                response
===================  =====================================================
`BadMessageError`    the message becomes a dead letter, its neighbours go on
`GroupError`         the group is closed as failed, with a dead letter
`TransientError`     retried for ever with backoff, partitions paused
`FencedError`        the batch is dropped, the position is read again
`ConfigurationError`  the process ends at start, naming the key
`FatalError`         the process stops with a non-zero exit code
===================  =====================================================

This module imports nothing of the package and does no I/O.
"""

from collections.abc import Sequence
from enum import StrEnum


class VisitConsumerError(Exception):
    """Base of every error that this package raises on purpose."""


class DeadLetterReason(StrEnum):
    """Why an event, an exposure or a group became a dead letter; the label of ``dead_letters_total``."""

    EMPTY = "empty"
    """The message has no value."""
    UNKNOWN_FRAMING = "unknown_framing"
    """The first bytes are neither Confluent framing nor Avro single-object encoding."""
    UNKNOWN_FINGERPRINT = "unknown_fingerprint"
    """Single-object encoding with the fingerprint of a schema that is not known here."""
    UNKNOWN_SCHEMA_ID = "unknown_schema_id"
    """Confluent framing with an id that the registry does not know, or without a registry."""
    INCOMPATIBLE_SCHEMA = "incompatible_schema"
    """The writer's schema cannot be resolved against ours."""
    UNDECODABLE = "undecodable"
    """The bytes do not hold what the writer's schema promises: truncated, overlong or random."""
    TOO_LARGE = "too_large"
    """A message or a text field above the configured bound."""
    INVALID_FIELD = "invalid_field"
    """A decoded field has a value that no exposure can have."""
    UNKNOWN_INSTRUMENT = "unknown_instrument"
    """The instrument is not configured here."""
    CONTRADICTION = "contradiction"
    """The raw's exposure record differs, at equal version, from the one stored first."""
    NOT_ON_SKY = "not_on_sky"
    """An exposure that defines no visit, where the configuration says that this is an error."""
    VISIT_CONFLICT = "visit_conflict"
    """Another group owns the visit id or name that this group claims."""
    REGION_FAILED = "region_failed"
    """The sky regions of the group's visit cannot be computed."""
    GROUP_FAILED = "group_failed"
    """The group's visit definition cannot be computed, for another reason than its regions."""
    REFUSED_BY_DATABASE = "refused_by_database"
    """PostgreSQL refuses the rows of this one event (SQLSTATE class 22 or 23)."""
    POISON = "poison"
    """Processes that read this message died of it, also those that had nothing else in hand."""
    BUTLER_REFUSED = "butler_refused"
    """The Butler registry of a sink refuses the rows of this group's visit; it is stored here."""


class BadMessageError(VisitConsumerError):
    """One message cannot be used; it becomes a dead letter.

    Parameters
    ----------
    reason
        The class of the fault, for counting.
    detail
        What is wrong, naming the field and its value.
    instrument
        The instrument, where the message got far enough to know it.
    """

    def __init__(self, reason: DeadLetterReason, detail: str, *, instrument: str | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.instrument = instrument


class GroupError(VisitConsumerError):
    """One group cannot become visits; it is closed as failed, with a dead letter that names it."""

    def __init__(self, reason: DeadLetterReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class RegionError(GroupError):
    """The sky regions of one visit cannot be computed: no pointing, no header, no convex hull."""

    def __init__(self, detail: str) -> None:
        super().__init__(DeadLetterReason.REGION_FAILED, detail)


class TransientError(VisitConsumerError):
    """Database, broker or registry is unavailable; the same call may work later."""


class RegistryError(TransientError):
    """The schema registry cannot be asked now."""


class DataRefusedError(VisitConsumerError):
    """PostgreSQL refused a row of the batch (SQLSTATE class 22 or 23): bisect the batch."""

    def __init__(self, detail: str, *, sqlstate: str) -> None:
        super().__init__(detail)
        self.detail = detail
        self.sqlstate = sqlstate


class FencedError(VisitConsumerError):
    """The stored positions of a batch are not the expected ones; nothing of it was written.

    Attributes
    ----------
    committed
        Of a batch that was halved: the transactions that were committed before another replica took over.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.committed: list[object] = []


class ConfigurationError(VisitConsumerError):
    """A setting or a file named by one is wrong; says which key, which file, and what to do."""


class CameraError(ConfigurationError):
    """A camera file is wrong, or no camera version is valid for an exposure."""

    def __init__(self, message: str, further: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.further = further
        """The file's other faults, each as a message of its own."""


class FatalError(VisitConsumerError):
    """Going on would be wrong or useless; the process ends with a non-zero code."""
