"""What the topic of rejections holds: objects that became no event, without those that became one later."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

from fastavro import schemaless_reader

from consumer.events import RAW_REJECTED
from consumer.kafka.whole_topic import StoredMessage

_HEADER_BYTES = len(RAW_REJECTED.single_object_header)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRejection:
    """One rejection; see `schemas/raw_rejected.avsc`."""

    reason: str
    detail: str
    uri: str | None
    command: str
    notification: str | None
    attempts: int
    rejected_at: datetime
    """UTC."""


def open_rejections(messages: Iterable[StoredMessage]) -> list[StoredRejection]:
    """Return the rejections that stand, the latest of each object, oldest first.

    Parameters
    ----------
    messages
        All of the topic; those of one key in order.
    """
    standing: dict[object, StoredRejection] = {}
    for number, message in enumerate(messages):
        key: object = message.key or number  # what names no object is no news of another
        standing.pop(key, None)
        for each in _decoded(message):
            standing[key] = each
    return sorted(standing.values(), key=lambda each: each.rejected_at)


def _decoded(message: StoredMessage) -> Iterator[StoredRejection]:
    value = message.value
    if value is None or value[:_HEADER_BYTES] != RAW_REJECTED.single_object_header:
        return  # it became an event; or it was written by another release, whose schema is not known here
    fields: Any = schemaless_reader(BytesIO(value[_HEADER_BYTES:]), RAW_REJECTED.parsed, None)
    at = datetime.fromtimestamp(fields.pop("rejected_at") / 1e6, UTC)
    yield StoredRejection(**fields, rejected_at=at)
