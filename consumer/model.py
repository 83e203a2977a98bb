"""The frozen types of each stage of the pipe, and what follows from one alone.

``Message -> RawIngested or ExposureIngested -> Exposure -> Group -> VisitDefinition -> VisitRecords``

Conventions: angles are degrees unless a name says otherwise; ``timespan_*`` are integer TAI nanoseconds since
1970-01-01T00:00:00 TAI, half-open; message and stream times are integer UTC milliseconds since the Unix epoch, as
Kafka has them. This module does no I/O and reads no clock.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import partial
from typing import NamedTuple, Protocol, cast


class PartitionId(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


class Message(NamedTuple):
    """One Kafka message as it was read: the payload travels together with the offset that it commits."""

    partition: PartitionId
    offset: int
    timestamp_ms: int
    """Append or create time, UTC milliseconds."""
    key: bytes | None
    value: bytes | None
    leader_epoch: int | None = None
    """Of the broker that wrote it; it grows with each election. None where the broker does not say."""


# A named tuple's own constructor takes three times as long; this one runs for every message.
new_message = cast(
    "Callable[[tuple[PartitionId, int, int, bytes | None, bytes | None, int | None]], Message]",
    partial(tuple.__new__, Message),
)
"""Make a `Message` of a tuple of its fields."""


class OffsetUpdate(NamedTuple):
    """One partition's part of the fence."""

    partition: PartitionId
    offset_id: int
    """Id of the position's row; stream time is kept under the same id."""
    epoch: int
    expected: int | None
    """The stored ``next_offset`` before the batch; None where nothing was written yet."""
    next_offset: int | None
    stream_time_ms: int
    """Largest message timestamp read, UTC milliseconds."""
    leader_epoch: int | None = None
    """Of the last message before ``next_offset``."""


class LogPartition(NamedTuple):
    """One partition of one log, for good: a recreated topic, or another cluster, is another log."""

    cluster_id: str
    topic_id: str
    partition: PartitionId


class StoredPosition(NamedTuple):
    """One row of ``consumer_offset``."""

    id: int
    epoch: int
    next_offset: int | None
    stream_time_ms: int
    breaker: str | None = None
    """Why the circuit breaker stopped reading; None while it is closed."""
    accept_until: int = 0
    """Bad messages below this offset are accepted by an operator."""
    leader_epoch: int | None = None
    """Of the last message before ``next_offset``; None where it is not known."""
    dead_letters_until: int | None = None
    """The last offset, from ``next_offset`` on, that has an open dead letter: it was read before."""
    lease_count: int = 1
    """How often the partition was leased since ``next_offset`` moved, this time included."""


class RebalanceListener(Protocol):
    """Hears from the group, inside `KafkaSource.poll`."""

    def assigned(self, partitions: Collection[PartitionId]) -> None:
        """Hear that these partitions are ours to claim."""

    def revoked(self, partitions: Collection[PartitionId]) -> None:
        """Hear that these partitions go to another member once this returns."""

    def lost(self, partitions: Collection[PartitionId]) -> None:
        """Hear that these partitions went to another member already."""


@dataclass(slots=True)
class Polled:
    """What one poll brought."""

    messages: list[Message] = field(default_factory=list)
    ends: dict[PartitionId, int] = field(default_factory=dict)
    """Partitions whose end was reached, and the offset there."""
    out_of_range: set[PartitionId] = field(default_factory=set)
    """Partitions whose next offset is not in the log any more; they deliver nothing until started again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """One opening of the shutter: the Butler's ``exposure`` dimension record (universe 8), and two fields more.

    Angles are degrees, ICRS for ``tracking_*``; times of exposure are seconds.
    """

    instrument: str
    id: int
    obs_id: str
    day_obs: int
    """Observing day, YYYYMMDD."""
    group: str
    physical_filter: str | None
    exposure_time: float | None
    dark_time: float | None
    observation_type: str | None
    observation_reason: str | None
    seq_num: int | None
    seq_start: int | None
    seq_end: int | None
    """Last ``seq_num`` of the group, inclusive."""
    target_name: str | None
    science_program: str | None
    tracking_ra: float | None
    tracking_dec: float | None
    sky_angle: float | None
    """Angle of the sky relative to the instrument, as the Butler defines it."""
    azimuth: float | None
    zenith_angle: float | None
    has_simulated: bool | None
    can_see_sky: bool | None
    """Null counts as true."""
    timespan_begin: int | None
    timespan_end: int | None
    group_size: int | None = None
    """Exposures that the group will have; null when the acquisition system does not say."""
    record_version: int = 0
    """Raised when an ingest service corrects the record; the highest wins."""

    @property
    def off_sky_reason(self) -> "SkipReason | None":
        """Why this exposure defines no visit, or None when it is on sky."""
        if self.can_see_sky is False:
            return SkipReason.CANNOT_SEE_SKY
        if self.tracking_ra is None or self.tracking_dec is None or self.sky_angle is None:
            return SkipReason.NO_POINTING
        return None

    @property
    def time_order(self) -> tuple[bool, int, int]:
        """Sort key: by ``(timespan_begin, id)``, unknown times last."""
        return (self.timespan_begin is None, self.timespan_begin or 0, self.id)


EXPOSURE_FIELDS: tuple[str, ...] = tuple(f.name for f in fields(Exposure))
"""Names of the exposure's fields, in declaration order."""

DEFINING_FIELDS: tuple[str, ...] = (
    "obs_id",
    "day_obs",
    "group",
    "seq_num",
    "seq_start",
    "seq_end",
    "group_size",
    "physical_filter",
    "tracking_ra",
    "tracking_dec",
    "sky_angle",
    "can_see_sky",
    "timespan_begin",
    "timespan_end",
)
"""Fields in which two raws of one exposure must agree; the others may differ between detectors' headers."""


class SkipReason(StrEnum):
    """Why an exposure defines no visit without being wrong; the label of ``exposures_skipped_total``."""

    CANNOT_SEE_SKY = "cannot_see_sky"
    """The dome was closed, or the shutter: ``can_see_sky`` is false."""
    NO_POINTING = "no_pointing"
    """One of ``tracking_ra``, ``tracking_dec``, ``sky_angle`` is null."""
    FIRST_MISSING = "first_missing"
    """A counter group closed without its first exposure on sky: it gets no system-2 visit."""


class CloseReason(StrEnum):
    """Why a group was closed; the label of ``groups_closed_total`` and the column ``close_reason``."""

    COMPLETE = "complete"
    NEXT_GROUP = "next_group"
    IDLE = "idle"
    AGE = "age"


@dataclass(frozen=True, slots=True, kw_only=True)
class RawIngested:
    """One ``raw-ingested`` event: identity, the exposure's record, and what is the raw's own."""

    exposure: Exposure
    detector: int
    uri: str | None = None
    ingested_at: int | None = None
    """When the ingest service announced it, UTC microseconds since the Unix epoch; for people, not for rules."""
    wcs: str | None = None
    """The raw's FITS WCS cards, 80 characters each without separators; None where it has none."""
    naxis1: int | None = None
    """True width in pixels: ``ZNAXIS1`` of a compressed raw."""
    naxis2: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposureIngested:
    """One ``exposure-ingested`` event: what one `RawIngested` for each of its detectors would say."""

    exposure: Exposure
    detectors: frozenset[int] | None = None
    """Ids of the detectors whose raws have been ingested; None where the event says nothing about raws."""
    expected_detectors: frozenset[int] | None = None
    """Ids of all detectors whose raws the exposure will have; None where they are unknown."""
    uri: str | None = None
    ingested_at: int | None = None
    """When the service announced it, UTC microseconds since the Unix epoch; for people, not for rules."""


Ingested = RawIngested | ExposureIngested
"""What a message of the events' topics may say."""


class GroupKey(NamedTuple):
    """Names one group: the instrument and the text that its grouping rule derives from an exposure."""

    instrument: str
    key: str


class VisitSystem(NamedTuple):
    """A self-consistent set of visits, as the Butler numbers them."""

    id: int
    name: str


ONE_TO_ONE = VisitSystem(0, "one-to-one")
BY_GROUP_METADATA = VisitSystem(1, "by-group-metadata")
BY_SEQ_START_END = VisitSystem(2, "by-seq-start-end")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The exposures of one group that have arrived, on sky or not, in time order."""

    key: GroupKey
    exposures: tuple[Exposure, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitDefinition:
    """One visit as a grouping rule defines it: which exposures, under which id and name, in which systems."""

    instrument: str
    id: int
    name: str
    visit_systems: tuple[int, ...]
    """Ids of the visit systems that it belongs to, ascending."""
    exposures: tuple[Exposure, ...]
    """On-sky members in time order; never empty."""
    complete: bool | None
    """Whether the group had all its exposures; None where its size is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRegion:
    """What one raw's own WCS says: the input of region algorithms that read headers.

    Exactly one of ``region`` and ``pointing`` is set, by the algorithm's need.
    """

    instrument: str
    exposure: int
    detector: int
    region: bytes | None = None
    """The raw's padded corners on the sky as an ``lsst.sphgeom.ConvexPolygon`` encoding."""
    pointing: tuple[float, float, float] | None = None
    """Boresight right ascension, declination and sky angle, degrees, ICRS."""
    record_version: int = 0
    """That of the exposure's record which came with the raw: a correction replaces the WCS too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitRegions:
    """The regions of one visit and of each of its detectors, ``lsst.sphgeom`` encodings of convex polygons, ICRS."""

    visit: bytes
    detectors: tuple[int, ...]
    """Detector ids, ascending."""
    detector_regions: tuple[bytes, ...]
    """One encoding for each of ``detectors``."""
    htm7: tuple[int, ...]
    """Ids of the level-7 HTM trixels that the visit's region may overlap, ascending."""
    camera_version: str | None = None
    """Name and version of the geometry that was used; None where only headers were."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitAggregate:
    """What a visit's row says of its exposures together; see `consumer.domain.visit_records.aggregate`."""

    day_obs: int
    seq_num: int | None
    physical_filter: str | None
    exposure_time: float | None
    target_name: str | None
    observation_reason: str | None
    science_program: str | None
    azimuth: float | None
    zenith_angle: float | None
    timespan_begin: int | None
    timespan_end: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitRecords:
    """Every row of one visit, finished before the transaction that writes it."""

    definition: VisitDefinition
    group: GroupKey
    aggregate: VisitAggregate
    regions: VisitRegions
    inputs_hash: bytes
    """Equal hash, row untouched; see `consumer.domain.visit_records.inputs_hash`."""
    rule: str
    algorithm: str
    padding: int
    close_reason: CloseReason


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """One event, exposure or group that was dead-lettered, with all that is needed to explain and to replay it."""

    reason: str
    detail: str
    instrument: str | None = None
    exposure: int | None = None
    group_key: str | None = None
    message: Message | None = None


def in_time_order(exposures: Sequence[Exposure]) -> tuple[Exposure, ...]:
    """Sort exposures by ``(timespan_begin, id)``, unknown times last."""
    return tuple(sorted(exposures, key=lambda e: e.time_order))
