"""Why an object or a notification is of no interest; why one is rejected, `consumer.sources.model` says."""

from enum import StrEnum


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
