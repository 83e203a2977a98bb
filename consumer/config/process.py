"""Settings of the process: batches, breaker, announcements, retention, HTTP, logs, shutdown."""

from typing import Annotated, Literal

from pydantic import Field

from consumer.config.sections import Seconds, Section, TopicName


class BatchSettings(Section):
    """How many messages share one transaction."""

    max_messages: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Largest number of messages in one batch; the event of a whole exposure counts as 100 of them."""
    max_wait_s: Annotated[float, Field(gt=0, le=10)] = 0.02
    """A batch that is not full is written after this time; it is most of the latency of a quiet stream."""
    close_interval_s: Annotated[float, Field(gt=0, le=60)] = 1.0
    """How often the service looks, between batches, for groups that are due by time."""


class BreakerSettings(Section):
    """The circuit breaker: when most messages are bad, the service stops reading instead of writing dead letters."""

    enabled: bool = True
    """Whether the breaker is used; false: every bad message becomes a dead letter."""
    min_messages: Annotated[int, Field(ge=1, le=10_000)] = 100
    """A batch of fewer messages never opens the breaker; one that is mostly bad is held until it has this many."""
    max_bad_fraction: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Above this fraction of bad messages the service stores nothing of the batch, stops reading its partitions and
    becomes unready, until an operator runs `visit-consumer breaker reset`."""
    hold_s: Annotated[float, Field(ge=0, le=60)] = 2.0
    """How long a small batch that is mostly bad waits for more messages; then its bad messages become dead letters."""


class AnnounceSettings(Section):
    """Announcing each revision of a visit on Kafka, through the outbox."""

    topic: TopicName | None = None
    """Topic of visit-defined events; null: visits are not announced, and no outbox is written."""
    interval_s: Annotated[float, Field(gt=0, le=60)] = 0.25
    """Pause of the relay when the outbox is empty."""
    max_messages: Annotated[int, Field(ge=1, le=100_000)] = 500
    """Largest number of announcements that are sent and marked at once."""


class RetentionSettings(Section):
    """How long finished rows are kept; visits are kept for ever."""

    dead_letters_days: Annotated[float, Field(gt=0, le=36500)] = 90.0
    """Dead letters that were replayed, discarded or resolved. Open ones are kept for ever."""
    outbox_days: Annotated[float, Field(gt=0, le=36500)] = 7.0
    """Sent announcements."""
    interval_s: Seconds = 3600.0
    """How often old rows are removed."""


class HttpSettings(Section):
    """The read-only port: `/metrics`, `/healthz`, `/readyz` and a status page."""

    enabled: bool = True
    """Whether the port is open."""
    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address to listen on: this machine alone by default; a container needs `0.0.0.0` (or `::`)."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """Port to listen on; 0: any free port; the log shows its number."""
    stalled_after_s: Seconds = 30.0
    """`/healthz` fails when the loop has not turned for this time."""


class LogSettings(Section):
    """Logs, on standard error."""

    format: Literal["json", "human"] = "json"
    """JSON, one object on each line, or plain text for people."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is written."""


class ShutdownSettings(Section):
    """How long a shutdown may take."""

    timeout_s: Annotated[float, Field(ge=1, le=600)] = 8.0
    """A shutdown that takes longer is ended by force. Nothing is lost: the batch was not committed."""
