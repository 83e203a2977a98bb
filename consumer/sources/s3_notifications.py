"""Notifications of object stores, as Ceph, AWS and MinIO write them, to the objects that they name. Pure.

All three have one envelope, ``{"Records": [...]}``, with one JSON object for each object, but differ in the key: AWS
and MinIO encode it as in a query (``+`` is a blank), Ceph does not. ``eventSource`` names the writer, so nothing is
guessed.
Sources: https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html,
https://docs.ceph.com/en/latest/radosgw/notifications/ and https://min.io/docs/minio/linux/administration/monitoring.html
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_plus

from consumer.sources.ignored import IgnoredReason
from consumer.sources.model import RejectedError, RejectReason

MAX_NOTIFICATION_BYTES: Final = 1_048_576
MAX_KEY_BYTES: Final = 1024
"""What S3 allows."""
_MAX_NESTING: Final = 4
"""JSON in a string in JSON: a queue behind a topic behind a bucket needs three levels."""
_MAX_RECORDS: Final = 1000
_MAX_TEXT: Final = 65_536
_ENCODED_KEYS: Final = {"ceph:s3": False, "aws:s3": True, "minio:s3": True}
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectNotice:
    """An object that a notification says was created."""

    bucket: str
    key: str
    """Decoded: the object's own name."""
    tag: str
    """Differs when the object's content does: its version, else its entity tag."""
    text: str
    """The record, as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedNotification:
    """What one message or request holds."""

    created: tuple[ObjectNotice, ...] = ()
    ignored: tuple[IgnoredReason, ...] = ()
    """Why others of its records are of no interest, one for each."""
    rejected: tuple[RejectedError, ...] = ()
    """What is wrong with others of its records, one for each."""


def parse_notification(body: bytes) -> ParsedNotification:
    """Parse one message or request; one bad record does not harm the others.

    Raises
    ------
    RejectedError
        If it is no notification.
    """
    content: Any = body
    if len(body) > MAX_NOTIFICATION_BYTES:
        raise _rejected(f"it has {len(body)} bytes, the limit is {MAX_NOTIFICATION_BYTES}")
    for _ in range(_MAX_NESTING):
        if isinstance(content, bytes | str):
            content = _load(content)
        elif isinstance(content, dict) and "Records" not in content and isinstance(content.get("Message"), str):
            content = content["Message"]  # of Amazon SNS, whose envelope says nothing that matters here
        else:
            break
    if not isinstance(content, dict):
        raise _rejected(f"it holds a {type(content).__name__}, not an object with Records")
    records = content.get("Records")
    if records is None and content.get("Event") == "s3:TestEvent":
        return ParsedNotification(ignored=(IgnoredReason.TEST_EVENT,))
    if not isinstance(records, list):
        raise _rejected("it has no list of Records")
    if len(records) > _MAX_RECORDS:
        raise _rejected(f"it has {len(records)} Records, the limit is {_MAX_RECORDS}")
    parsed = [*_parse(records)]
    return ParsedNotification(
        created=tuple(each for each in parsed if isinstance(each, ObjectNotice)),
        ignored=tuple(each for each in parsed if isinstance(each, IgnoredReason)),
        rejected=tuple(each for each in parsed if isinstance(each, RejectedError)),
    )


def _load(text: bytes | str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise _rejected(f"it is no JSON ({error})") from error


def _parse(records: list[Any]) -> Iterator[ObjectNotice | IgnoredReason | RejectedError]:
    for record in records:
        try:
            yield _notice(record)
        except RejectedError as error:
            yield error


def _notice(record: Any) -> ObjectNotice | IgnoredReason:
    event = _text(record, "eventName")
    if not event.removeprefix("s3:").startswith("ObjectCreated:"):
        return IgnoredReason.NOT_CREATED
    source = _text(record, "eventSource")
    if source not in _ENCODED_KEYS:
        known = ", ".join(_ENCODED_KEYS)
        raise _rejected(f"eventSource is {source[:100]!r}, none of {known}: it says how the key is encoded")
    bucket = _text(record, "s3", "bucket", "name")
    key = _text(record, "s3", "object", "key")
    inner = record["s3"]["object"]
    tag = next((str(inner[name]) for name in ("versionId", "eTag", "sequencer") if inner.get(name)), "")
    return ObjectNotice(
        bucket=bucket,
        key=_decoded(key) if _ENCODED_KEYS[source] else _checked(key),
        tag=tag[:200],
        text=json.dumps(record)[:_MAX_TEXT],
    )


def _decoded(key: str) -> str:
    if _BAD_PERCENT.search(key):
        raise _rejected(f"key {key[:200]!r} is not URL-encoded: a % is followed by no two hexadecimal digits")
    try:
        return _checked(unquote_plus(key, errors="strict"))
    except UnicodeDecodeError as error:
        raise _rejected(f"key {key[:200]!r} is not URL-encoded UTF-8") from error


def _checked(key: str) -> str:
    if not key.isprintable() or len(key.encode("utf-8", "surrogatepass")) > MAX_KEY_BYTES:
        raise _rejected(f"key {key[:200]!r} has control characters, or is longer than {MAX_KEY_BYTES} bytes")
    return key


def _text(record: Any, *path: str) -> str:
    value = record
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    if not isinstance(value, str) or not value:
        raise _rejected(f"a record has no {'.'.join(path)}")
    return value


def _rejected(detail: str) -> RejectedError:
    return RejectedError(RejectReason.BAD_NOTIFICATION, detail, uri="notification")
