"""Why an object becomes no event, or not yet."""

from enum import StrEnum

from consumer.errors import VisitConsumerError


class IgnoredReason(StrEnum):
    """Why an object or a notification is of no interest; the label of ``source_ignored_total``."""

    DUPLICATE = "duplicate"
    """The brokers have the event of its raw."""
    GONE = "gone"
    """A file that was deleted, or renamed, as soon as it had come."""
    NO_PATTERN = "no_pattern"
    """Its key matches no pattern, or that of what is ignored."""
    NOT_CREATED = "not_created"
    """A notification of something else: a removal, a tag."""
    OUTSIDE = "outside"
    """It lies in no configured bucket or folder, or below none of its prefixes."""
    TEST_EVENT = "test_event"
    """Sent by a store when notifications are configured."""


class WaitingReason(StrEnum):
    """Why an object cannot be read yet; in the end it is rejected for the same reason."""

    MISSING = "missing"
    EMPTY = "empty"
    INCOMPLETE = "incomplete"
    """Cut off, in the middle of a header or of a JSON text."""
    FORBIDDEN = "forbidden"
    """Its store refuses to let it be read."""
    UNREACHABLE = "unreachable"
    """Its store does not answer, or fails."""
    NO_HEADER = "no_header"
    """A file of expected sensors of which no raw has come."""


class RejectionReason(StrEnum):
    """Why an object or a notification becomes no event; the label of ``source_rejected_total``."""

    MISSING = "missing"
    EMPTY = "empty"
    INCOMPLETE = "incomplete"
    FORBIDDEN = "forbidden"
    UNREACHABLE = "unreachable"
    NO_HEADER = "no_header"
    BAD_NOTIFICATION = "bad_notification"
    BAD_EXPECTED_SENSORS = "bad_expected_sensors"
    NO_FILE = "no_file"
    """A pipe, a device or a folder, or a symbolic link that leads out of its place."""
    TOO_LARGE = "too_large"
    """A header or a side file beyond the limits."""
    FAILED = "failed"
    """A library failed on it in a way that is not known."""


class NotReadableError(VisitConsumerError):
    """An object cannot be read yet; it waits."""

    def __init__(self, reason: WaitingReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class RejectedError(VisitConsumerError):
    """An object, or a notification, becomes no event."""

    def __init__(self, reason: RejectionReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
