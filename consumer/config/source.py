"""Settings of emitters."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from consumer.config.sections import HttpUrlText, Section, TopicName
from consumer.config.source_places import (
    BucketSettings,
    FolderSettings,
    ListenSettings,
    NotificationSettings,
    RetrySettings,
    check_bucket,
)


class SourceSettings(Section):
    """From raws to events: `visit-consumer emit`."""

    emits: Literal["raw", "exposure"] = "raw"
    """An event for each raw, or one for those of an exposure that arrive together."""
    topic: TopicName | None = None
    """Where events go; null: the first of kafka.topics."""
    rejected_topic: TopicName = "raw-rejected"
    """Where objects go that become no event."""
    waiting_topic: TopicName = "raw-waiting"
    """Compacted topic of objects that cannot be read yet; it is created where it is missing."""
    endpoint_url: HttpUrlText | None = None
    """Address of the buckets' store; null: Amazon's. Credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what
    else Amazon's tools read."""
    buckets: Mapping[Annotated[str, AfterValidator(check_bucket)], BucketSettings] = {}
    """Buckets that may be read, by name; no notification makes an emitter read another."""
    folders: tuple[FolderSettings, ...] = ()
    """Folders that may be read; `emit watch` takes others as arguments."""
    retry: RetrySettings = RetrySettings()
    """When what cannot be read yet is tried again."""
    list_every_s: Annotated[float, Field(gt=0, le=86400)] = 300.0
    """`emit watch`: how often the folders are listed again, for what the kernel did not report."""
    notifications: NotificationSettings = NotificationSettings()
    """`emit notifications`."""
    listen: ListenSettings = ListenSettings()
    """`emit listen`."""
    readers: Annotated[int, Field(ge=1, le=256)] = 16
    """How many objects of buckets are read at the same time."""
    http_port: Annotated[int, Field(ge=0, le=65535)] = 8081
    """Port of an emitter's `/metrics`, `/healthz` and `/readyz`, at http.host; 0: any free port."""
