"""Settings of what emitters read: buckets and folders, what is what there, and how often something is tried again."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from consumer.config.sections import (
    HttpUrlText,
    Seconds,
    SecretFile,
    Section,
    TopicName,
    current_secret,
    one_source,
)

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")


def _pattern(text: str) -> str:
    """Refuse what is no regular expression."""
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is no regular expression ({error})") from error
    return text


def _prefix(text: str) -> str:
    """Refuse a prefix that no key has."""
    if text.startswith("/") or ".." in text.split("/"):
        raise ValueError(f"{text!r} is no prefix of keys: they begin with no slash and hold no ..")
    return text


Pattern = Annotated[str, AfterValidator(_pattern)]
Prefix = Annotated[str, AfterValidator(_prefix)]


class PatternSettings(Section):
    """What an object is, by its key: regular expressions over the whole key within its bucket or folder, in this order.

    What none matches is ignored. The defaults fit Rubin's keys, and FITS files of other observatories.
    """

    ignored: Pattern | None = r".*_(?:guider|shutterMotionProfile\w*)\.\w+|(?:.*/)?[._][^/]*"
    """Keys to ignore, even if another pattern matches too: guider files, hidden files."""
    expected_sensors: Pattern | None = r".*_expectedSensors\.json"
    """Files that list the detectors which will bring a raw of an exposure."""
    sidecar: Pattern | None = (
        r"(?P<raw>(?:.*/)?(?P<obs_id>[A-Z]{2}_[A-Z]_(?P<day_obs>\d{8})_\d{6})_(?P<detector>R\d\d_S\w\d))\.json|.*\.ya?ml"
    )
    """Headers beside raws. The group `raw` is what a sidecar and its FITS file share (without it, the key without its
    extensions); the groups `obs_id`, `day_obs` and `detector`, where the key has them, let `emit scan` see without
    reading what the tables lack."""
    raw: Pattern = (
        r"(?P<raw>(?:.*/)?(?P<obs_id>[A-Z]{2}_[A-Z]_(?P<day_obs>\d{8})_\d{6})_(?P<detector>R\d\d_S\w\d))\.fits(?:\.fz|\.gz)?"
        r"|.*\.fits?(?:\.fz|\.gz)?"
    )
    """Raws: FITS files of one detector each; groups as in `sidecar`."""


class PlaceSettings(Section):
    """What buckets and folders have in common."""

    prefixes: Annotated[tuple[Prefix, ...], Field(min_length=1)] = ("",)
    """Only keys that begin with one of these are read."""
    patterns: PatternSettings = PatternSettings()
    """Patterns that tell raws, sidecars and other files apart by their keys."""


class BucketSettings(PlaceSettings):
    """One bucket."""


class FolderSettings(PlaceSettings):
    """One folder of this machine."""

    path: Path
    """Absolute. Symbolic links that lead out of it are not followed."""

    @model_validator(mode="after")
    def _absolute(self) -> Self:
        if not self.path.is_absolute():
            raise ValueError(f"path {self.path} is not absolute")
        return self


class RetrySettings(Section):
    """When an object that cannot be read yet is tried again: it is missing, empty, cut off, forbidden, out of reach."""

    first_s: Seconds = 0.5
    """Pause before the second attempt; each further one is twice as long."""
    max_s: Seconds = 60.0
    """Longest pause."""
    give_up_s: Seconds = 900.0
    """An object that still cannot be read this long after the first attempt is rejected."""


class NotificationSettings(Section):
    """`emit notifications`: notifications of object stores on Kafka, on the brokers of the section `kafka`."""

    topic: TopicName = "object-notifications"
    """Topic that carries them, in the form of Ceph, AWS or MinIO."""
    group: Annotated[str, Field(min_length=1, max_length=249)] = "visit-consumer-source"
    """Consumer group."""


class ListenSettings(Section):
    """`emit listen`: notifications by HTTP POST, to `/` or `/notifications`."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address to listen on: this machine alone by default; a container needs `0.0.0.0` (or `::`)."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8082
    """Port to listen on; 0: any free port; the log shows its number."""
    token: SecretStr | None = None
    """Bearer token that requests must carry; from the environment only. Null, and no file: they need none."""
    token_file: SecretFile | None = None
    """File that holds the token; it is read at every request, so a new token needs no restart."""
    max_body_bytes: Annotated[int, Field(ge=1024, le=10_000_000)] = 1_048_576
    """A longer request is refused."""

    def current_token(self) -> SecretStr | None:
        """Return the token as it is now; see `consumer.config.sections.current_secret`."""
        return current_secret(self.token, self.token_file)

    @model_validator(mode="after")
    def _one_token(self) -> Self:
        one_source("source.listen", self.token, self.token_file, name="token")
        return self


def _bucket(name: str) -> str:
    """Refuse what is no name of a bucket."""
    if not _BUCKET.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a bucket")
    return name


class ListerSettings(Section):
    """What emitters list and read, and where that goes which becomes no event."""

    buckets: Mapping[Annotated[str, AfterValidator(_bucket)], BucketSettings] = {}
    """Buckets that may be read, by name; notifications of other buckets are ignored."""
    folders: tuple[FolderSettings, ...] = ()
    """Folders that may be read; `emit watch` and `emit scan` take others as arguments."""
    endpoint_url: HttpUrlText | None = None
    """Address of the buckets' store; null: Amazon's. Credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY,
    or from the other standard AWS sources (credentials file, instance role)."""
    rejected_topic: TopicName = "raw-rejected"
    """Topic for rejected objects, with the reason."""
    waiting_topic: TopicName = "raw-waiting"
    """Compacted topic of objects that cannot be read yet. Both topics are created where they are missing."""
    retry: RetrySettings = RetrySettings()
    """When what cannot be read yet is tried again."""
    list_every_s: Annotated[float, Field(gt=0, le=86400)] = 300.0
    """`emit watch`: how often the folders are listed again, for what the kernel did not report."""
    readers: Annotated[int, Field(ge=1, le=256)] = 16
    """How many objects of buckets are read at the same time."""
    notifications: NotificationSettings = NotificationSettings()
    """`emit notifications`."""
    listen: ListenSettings = ListenSettings()
    """`emit listen`."""
    http_port: Annotated[int, Field(ge=0, le=65535)] = 8081
    """Port of an emitter's `/metrics`, `/healthz` and `/readyz`, on http.host; 0: any free port."""

    @model_validator(mode="after")
    def _each_folder_once(self) -> Self:
        paths = [each.path for each in self.folders]
        if len(set(paths)) != len(paths):
            raise ValueError("folders names a path twice; keep one, with several prefixes")
        return self
