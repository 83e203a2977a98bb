"""Produces simulated nights to a topic, flat out or at a pace.

Delivery guarantee: when `produce_night` returns, the broker has acknowledged every message; the producer is idempotent,
so a retry neither doubles a message nor changes the order within a partition. When it raises, some may be missing.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaError, Message, Producer

from consumer.errors import ConfigurationError, TransientError
from consumer.kafka.clients import new_client
from consumer.kafka.properties import Properties
from consumer.simulation import SimulatedRaw, message_value

_FLUSH_S = 60.0
_POLL_EVERY = 1000
"""Messages between two looks at what the broker said, and two reports of progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast to produce; flat out when both are None.

    Raises
    ------
    ConfigurationError
        Both are given, or one is not positive.
    """

    exposures_per_s: float | None = None
    """Exposures begun each second, whatever the night's own gaps."""
    speed: float | None = None
    """1 is the night in its own time, 10 is ten times as fast."""

    def __post_init__(self) -> None:
        if self.exposures_per_s is not None and self.speed is not None:
            raise ConfigurationError("give a number of exposures per second or a speed, not both")
        for name in ("exposures_per_s", "speed"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigurationError(f"{name} is {value}: it must be greater than 0")

    def due_s(self, simulated: SimulatedRaw) -> float:
        """Return when to send a message, seconds after the first."""
        if self.exposures_per_s is not None:
            return simulated.ordinal / self.exposures_per_s
        return simulated.at_s / self.speed if self.speed is not None else 0.0


FLAT_OUT = Pace()


@dataclass(frozen=True, slots=True, kw_only=True)
class Produced:
    """What was sent and acknowledged."""

    messages: int
    exposures: int
    bad_messages: int
    seconds: float


def produce_night(
    connection: Mapping[str, str | int | float | bool],
    topic: str,
    raws: Iterable[SimulatedRaw],
    *,
    pace: Pace = FLAT_OUT,
    schema_id: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Produced:
    """Send messages and wait until the broker has them all.

    Parameters
    ----------
    connection
        librdkafka's properties that reach the brokers; see `consumer.kafka.properties.connection_properties`.
    topic
        Where to send them; key ``instrument/group``.
    raws
        See `consumer.simulation.simulate_night`; consumed as it goes, never held whole.
    pace
        When to send each.
    schema_id
        For Confluent framing; None is Avro single-object encoding.
    progress
        Called now and then with the number of messages sent so far.

    Raises
    ------
    ConfigurationError
        librdkafka refuses a property.
    TransientError
        The broker did not take a message, or did not answer within a minute after the last.
    """
    producer = new_client(Producer, {**_PRODUCER, **connection})
    return _Production(producer, topic, pace, schema_id).run(raws, progress)


_PRODUCER: Properties = {
    "enable.idempotence": True,
    "linger.ms": 20,
    "compression.type": "lz4",
    "queue.buffering.max.messages": 200_000,
    # A report for each good message would cost more than sending it; what is missing at the end was not delivered.
    "delivery.report.only.error": True,
}


class _Production:
    def __init__(self, producer: Producer, topic: str, pace: Pace, schema_id: int | None) -> None:
        self._producer = producer
        self._topic = topic
        self._pace = pace
        self._schema_id = schema_id
        self._failed = 0
        self._first_failure: KafkaError | None = None

    def run(self, raws: Iterable[SimulatedRaw], progress: Callable[[int], None] | None) -> Produced:
        began = time.monotonic()
        sent = bad = 0
        exposures = -1
        for simulated in raws:
            self._wait_until(began + self._pace.due_s(simulated))
            self._send(simulated.key, message_value(simulated, self._schema_id))
            sent += 1
            bad += simulated.spoilt is not None
            exposures = max(exposures, simulated.ordinal)
            if sent % _POLL_EVERY == 0:
                self._producer.poll(0)
                self._check()
                if progress is not None:
                    progress(sent)
        left = self._producer.flush(_FLUSH_S)
        self._check()
        if left:
            raise TransientError(f"{left} of {sent} messages were not acknowledged within {_FLUSH_S:.0f} s")
        if progress is not None:
            progress(sent)
        return Produced(messages=sent, exposures=exposures + 1, bad_messages=bad, seconds=time.monotonic() - began)

    def _wait_until(self, due: float) -> None:
        # poll serves the reports meanwhile; below a millisecond it would only cost time.
        while (left := due - time.monotonic()) > 0.001:  # noqa: PLR2004 - a millisecond
            self._producer.poll(min(left, 0.5))
            self._check()

    def _send(self, key: str, value: bytes) -> None:
        while True:
            try:
                self._producer.produce(self._topic, value, key, on_delivery=self._delivered)
            except BufferError:
                self._producer.poll(0.1)
                self._check()
            else:
                return

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._failed += 1
            self._first_failure = self._first_failure or error

    def _check(self) -> None:
        if self._first_failure is not None:
            raise TransientError(
                f"the broker refused {self._failed} messages, the first because: {self._first_failure}"
            )
