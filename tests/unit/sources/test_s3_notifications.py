"""Notifications of Ceph, AWS and MinIO: one key, three ways to write it, and what is no notification."""

import json
from pathlib import Path
from typing import Any

import pytest

from consumer.sources.ignored import IgnoredReason
from consumer.sources.model import RejectedError, RejectReason
from consumer.sources.s3_notifications import parse_notification

DATA = Path(__file__).parents[2] / "data" / "notifications"
KEY = "LSSTCam/20251121/MC_O_20251121_000156/MC_O_20251121_000156_R44_SW0 a+b%é.json"
ETAG = "99914b932bd37a50b983c5e7c90ae93b"


def recorded(name: str) -> bytes:
    return (DATA / f"{name}.json").read_bytes()


def changed(name: str, **changes: Any) -> bytes:
    """Change fields of the record, by their dotted paths with two underscores."""
    content = json.loads(recorded(name))
    for path, value in changes.items():
        *outer, last = path.split("__")
        inner = content["Records"][0]
        for each in outer:
            inner = inner[each]
        if value is None:
            del inner[last]
        else:
            inner[last] = value
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("ceph_put", ETAG),
        ("aws_put", "096fKKXTRTtl3on89fVO.nfljtsv6qko"),
        ("aws_through_sns", "096fKKXTRTtl3on89fVO.nfljtsv6qko"),
        ("minio_put", ETAG),
    ],
)
def test_each_store_names_the_same_object_in_its_own_way(name: str, tag: str) -> None:
    (notice,) = parse_notification(recorded(name)).created
    assert (notice.bucket, notice.key, notice.tag) == ("raws", KEY, tag)


def test_a_notification_within_a_json_string_is_read() -> None:
    nested = json.dumps(recorded("ceph_put").decode()).encode()
    (notice,) = parse_notification(nested).created
    assert notice.key == KEY


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (recorded("aws_test_event"), IgnoredReason.TEST_EVENT),
        (recorded("aws_removal"), IgnoredReason.NOT_CREATED),
        (changed("minio_put", eventName="s3:ObjectRemoved:Delete"), IgnoredReason.NOT_CREATED),
        (changed("ceph_put", eventName="ObjectTagging:Put"), IgnoredReason.NOT_CREATED),
    ],
)
def test_what_creates_no_object_is_ignored(body: bytes, reason: IgnoredReason) -> None:
    parsed = parse_notification(body)
    assert (parsed.created, parsed.ignored, parsed.rejected) == ((), (reason,), ())


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b'{"Records": [', "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "a list"),
        (b"{}", "no list of Records"),
        (b'{"Records": {}}', "no list of Records"),
        (json.dumps({"Records": [{}] * 1001}).encode(), "the limit is 1000"),
        (json.dumps(json.dumps(json.dumps(json.dumps(json.dumps({})))).encode().decode()).encode(), "a str"),
    ],
)
def test_what_is_no_notification_is_rejected(body: bytes, what: str) -> None:
    with pytest.raises(RejectedError, match=what) as caught:
        parse_notification(body)
    assert caught.value.reason is RejectReason.BAD_NOTIFICATION


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (changed("ceph_put", eventName=None), "no eventName"),
        (changed("ceph_put", eventSource="other:s3"), "none of ceph:s3, aws:s3, minio:s3"),
        (changed("ceph_put", s3__bucket__name=""), "no s3.bucket.name"),
        (changed("ceph_put", s3__object__key=None), "no s3.object.key"),
        (changed("ceph_put", s3="raws"), "no s3.bucket.name"),
        (changed("ceph_put", s3__object__key="a\x00b"), "control characters"),
        (changed("ceph_put", s3__object__key="é" * 513), "longer than 1024 bytes"),
        (changed("aws_put", s3__object__key="a%2"), "not URL-encoded"),
        (changed("aws_put", s3__object__key="a%ff"), "not URL-encoded UTF-8"),
        (changed("aws_put", s3__object__key="a%00"), "control characters"),
    ],
)
def test_a_bad_record_is_rejected_by_its_name(body: bytes, what: str) -> None:
    (error,) = parse_notification(body).rejected
    assert what in error.detail


def test_a_bad_record_harms_no_other_of_its_message() -> None:
    records = json.loads(recorded("ceph_put"))["Records"]
    parsed = parse_notification(json.dumps({"Records": [7, *records, {}]}).encode())
    assert [each.key for each in parsed.created] == [KEY]
    assert len(parsed.rejected) == 2
