"""The shapes of the API's answers, from which its OpenAPI document is made.

Times are UTC; angles degrees, ICRS. They are made from what `consumer.read` returns, attribute by attribute.
"""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Polygon = list[float]
"""ra, dec, ra, dec, ...: degrees, ICRS, counter-clockwise as seen from the origin, not closed."""


class _Answer(BaseModel):
    model_config = ConfigDict(from_attributes=True, frozen=True, use_attribute_docstrings=True)


class SiteAnswer(_Answer):
    """Where the telescope stands."""

    name: str
    latitude_deg: float
    longitude_deg: float
    """East positive."""
    min_altitude_deg: float


class AboutAnswer(_Answer):
    """The page itself."""

    version: str
    user: str | None
    """As the proxy names them."""
    site: SiteAnswer | None


class NightLineAnswer(_Answer):
    """One night of the list."""

    day_obs: int
    exposures: int
    visits: int


class NightsAnswer(_Answer):
    """Stored nights, the newest first."""

    nights: list[NightLineAnswer]
    next: int | None
    """Pass it as `before`; null at the end."""


class VisitLineAnswer(_Answer):
    """One visit."""

    instrument: str
    visit: int
    name: str
    day_obs: int
    seq_num: int | None
    physical_filter: str | None
    target_name: str | None
    observation_reason: str | None
    science_program: str | None
    exposure_time_s: float | None
    begin: datetime | None
    end: datetime | None
    ra_deg: float
    dec_deg: float
    complete: bool | None
    """Whether it has all exposures of its group; null where their number is unknown."""
    revision: int
    defined_at: datetime
    updated_at: datetime


class FilterCountAnswer(_Answer):
    """One instrument and filter of a night."""

    instrument: str
    physical_filter: str | None
    exposures: int
    visits: int
    complete: int


class LatencyAnswer(_Answer):
    """From the end of a visit's last exposure to its commit."""

    visits: int
    p50_s: float
    p99_s: float


class NightAnswer(_Answer):
    """A night in numbers."""

    at: datetime
    day_obs: int | None
    exposures: int
    visits: int
    complete: int
    incomplete: int
    counts: list[FilterCountAnswer]
    latency: LatencyAnswer | None
    last_visits: list[VisitLineAnswer]


class VisitPageAnswer(_Answer):
    """Visits of a night, by instrument and id."""

    visits: list[VisitLineAnswer]
    next: str | None
    """Pass it as `after`; null at the end."""


class FootprintAnswer(_Answer):
    """Where one visit looked."""

    instrument: str
    visit: int
    day_obs: int
    physical_filter: str | None
    complete: bool | None
    revision: int
    begin: datetime | None
    target_name: str | None
    polygon: Polygon


class FootprintsAnswer(_Answer):
    """Footprints of a night, by instrument and visit."""

    day_obs: int
    footprints: list[FootprintAnswer]
    next: str | None
    """Pass it as `after`; null at the end."""


class VisitExposureAnswer(_Answer):
    """One exposure of a visit."""

    exposure: int
    obs_id: str
    seq_num: int | None
    raws_arrived: int
    raws_expected: int | None


class DetectorAnswer(_Answer):
    """One detector of a visit."""

    detector: int
    raw: Literal["arrived", "missing", "unknown"]
    """`missing`: expected and absent in at least one exposure."""
    polygon: Polygon


class VisitAnswer(VisitLineAnswer):
    """A visit with its exposures and detectors."""

    group_key: str
    rule: str
    algorithm: str
    camera_version: str | None
    padding_pixels: int
    close_reason: str
    software_version: str
    polygon: Polygon
    visit_systems: list[int]
    exposures: list[VisitExposureAnswer]
    detectors: list[DetectorAnswer]


class ExplanationsAnswer(_Answer):
    """What became of an exposure, by instrument: as `visit-consumer explain --output json`."""

    explanations: list[dict[str, Any]]


class WaitingGroupAnswer(_Answer):
    """One open group."""

    instrument: str
    group: str
    exposures: int
    waits_for: str
    opened: datetime
    closes: datetime
    """Of the stream's clock."""
    stream_time: datetime | None
    topic: str | None
    partition: int | None


class GroupsAnswer(_Answer):
    """Open groups, the oldest first."""

    at: datetime
    total: int
    groups: list[WaitingGroupAnswer]


class ReplicaAnswer(_Answer):
    """One replica, by its last heartbeat."""

    owner: str
    consumer_group: str
    version: str
    life: Literal["alive", "frozen", "dead", "unknown"]
    state: str
    reasons: list[str]
    started_at: datetime
    silent_s: float


class PartitionAnswer(_Answer):
    """One partition of the log."""

    consumer_group: str
    topic: str
    partition: int
    state: str
    next_offset: int | None
    lag: int | None
    age_s: float
    """Since the stored position moved last."""
    stream_time: datetime | None
    breaker: str | None
    reader: str | None
    detail: str


class StatusAnswer(_Answer):
    """The whole service at one moment."""

    at: datetime
    version: str
    """Of the page's process."""
    schema_version: int
    read_only: bool
    problems: list[str]
    replicas: list[ReplicaAnswer]
    partitions: list[PartitionAnswer]
    open_groups: int
    open_dead_letters: int
    unsent_announcements: int
    oldest_unsent_s: float | None


class DeadLetterAnswer(_Answer):
    """One open dead letter."""

    id: int
    reason: str
    detail: str
    instrument: str | None
    exposure: int | None
    group: str | None
    topic: str | None
    partition: int | None
    offset: int | None
    recorded_at: datetime


class DeadLettersAnswer(_Answer):
    """Open dead letters, oldest first."""

    dead_letters: list[DeadLetterAnswer]
    next: int | None
    """Pass it as `after`; null at the end."""


class DeadLettersOfReasonAnswer(_Answer):
    """The open dead letters of one reason."""

    reason: str
    number: int
    last_at: datetime
    first: list[DeadLetterAnswer]


class FindingAnswer(_Answer):
    """What an audit found."""

    rule: str
    severity: str
    subject: str
    subjects: str
    found: int
    detail: str


class AuditAnswer(_Answer):
    """The last audit of an instrument's newest audited night."""

    instrument: str
    day_obs: int
    audited_at: datetime
    errors: int
    warnings: int
    findings: list[FindingAnswer]


class TroubleAnswer(_Answer):
    """What is wrong."""

    at: datetime
    problems: list[str]
    dead_letters: list[DeadLettersOfReasonAnswer]
    partitions: list[PartitionAnswer]
    """Those that are not read."""
    audits: list[AuditAnswer]


class ConeAnswer(_Answer):
    """Visits that cover a place, the newest night first."""

    visits: list[VisitLineAnswer]
    truncated: bool


class PositionAnswer(_Answer):
    """A place on the sky."""

    ra_deg: float
    dec_deg: float


class HitAnswer(_Answer):
    """One thing that was found."""

    kind: Literal["visit", "exposure", "group"]
    instrument: str
    id: int
    label: str
    day_obs: int | None


class FoundAnswer(_Answer):
    """What was found."""

    q: str
    position: PositionAnswer | None
    results: list[HitAnswer]
    truncated: bool


class StateAnswer(_Answer):
    """Event `state`."""

    at: datetime
    night: NightAnswer
    status: StatusAnswer


class VisitsAnswer(_Answer):
    """Event `visits`."""

    visits: list[FootprintAnswer]
