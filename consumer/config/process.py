"""Settings of the process: batches, breaker, announcements, retention, HTTP, logs, shutdown."""

from typing import Annotated, Literal

from pydantic import Field

from consumer.config.sections import Seconds, Section, TopicName


class BatchSettings(Section):
    """How many messages share one transaction."""

    max_messages: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Most messages of one batch."""
    max_wait_s: Annotated[float, Field(gt=0, le=10)] = 0.02
    """A batch that is not full is written after so long; most of the latency of a quiet stream."""
    close_interval_s: Annotated[float, Field(gt=0, le=60)] = 1.0
    """How often groups that are due by time are looked for between batches."""


class BreakerSettings(Section):
    """The circuit breaker: when most messages are bad, the fault is not theirs, and nothing is set aside."""

    enabled: bool = True
    """Whether to stop at all; false: every bad message becomes a dead letter."""
    min_messages: Annotated[int, Field(ge=1, le=10_000)] = 100
    """A batch of fewer messages never opens the breaker; one that is mostly bad is held until it has so many."""
    max_bad_fraction: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Above this fraction nothing of the batch is kept, its partitions are not read, and the process turns unready,
    until an operator says go on (`visit-consumer breaker reset`)."""
    hold_s: Annotated[float, Field(ge=0, le=60)] = 2.0
    """So long a small batch that is mostly bad is held for more messages; then its bad messages become dead letters."""


class AnnounceSettings(Section):
    """Announcing each revision of a visit on Kafka, through the outbox."""

    topic: TopicName | None = None
    """Topic of visit-defined events; null: visits are not announced, and no outbox is written."""
    interval_s: Annotated[float, Field(gt=0, le=60)] = 0.25
    """Pause of the relay when the outbox is empty."""
    max_messages: Annotated[int, Field(ge=1, le=100_000)] = 500
    """Most announcements sent and marked at once."""


class RetentionSettings(Section):
    """How long settled rows are kept; the visits themselves are kept for ever."""

    dead_letters_days: Annotated[float, Field(gt=0, le=36500)] = 90.0
    """Dead letters that were replayed or discarded. Those that nobody has settled stay."""
    outbox_days: Annotated[float, Field(gt=0, le=36500)] = 7.0
    """Announcements that were sent."""
    interval_s: Seconds = 3600.0
    """How often old rows are removed."""


class HttpSettings(Section):
    """The read-only port: `/metrics`, `/healthz`, `/readyz` and a status page."""

    enabled: bool = True
    """Whether to listen at all."""
    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address to listen on: this machine alone by default; a container needs `0.0.0.0` (or `::`)."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """Port to listen on; 0: a free one, which the log names."""
    stalled_after_s: Seconds = 30.0
    """`/healthz` fails when the loop has not turned for so long."""


class LogSettings(Section):
    """Logs, on standard error."""

    format: Literal["json", "human"] = "json"
    """One JSON object a line, or lines for people."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least important level that is written."""


class ShutdownSettings(Section):
    """What SIGTERM may take."""

    timeout_s: Annotated[float, Field(ge=1, le=600)] = 8.0
    """After so long a shutdown that hangs is ended by force; nothing is lost, since the batch was not committed."""
