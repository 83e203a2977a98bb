"""Announcements of visits that operators change: into the outbox, as the service's own."""

from time import time_ns

from consumer.announcements import encode_announcement
from consumer.config import Settings
from consumer.model import VisitRecords
from consumer.settling import Announce


def announcer(settings: Settings) -> Announce | None:
    """Give what encodes announcements, or None where visits are not announced."""
    return _announcement_now if settings.announce.topic else None


def _announcement_now(records: VisitRecords, revision: int) -> bytes:
    return encode_announcement(records, revision, defined_at_us=time_ns() // 1000)
