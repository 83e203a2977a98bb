"""Sends messages until the brokers have them, and reports each that they have.

Delivery: at least once. A message is repeated for ever, in no promised order, until every in-sync replica has it; only
then is `delivered` called. What was sent and not reported when the process ends may have arrived or not.
"""

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from consumer.errors import FatalError
from consumer.kafka.clients import new_client
from consumer.kafka.properties import Properties

_SILENT_AFTER_S = 3.0
"""Brokers that acknowledge nothing for so long, while something waits for them, are taken to be away."""
_REPEAT_AFTER_S = 1.0
_DEFAULTS: Properties = {"linger.ms": 5, "compression.type": "lz4"}
_PROMISED: Properties = {
    "enable.idempotence": True,
    "acks": "all",
    "message.timeout.ms": 0,  # none: what the brokers do not take now they may take later
}


class _Outgoing(NamedTuple):
    topic: str
    key: bytes
    value: bytes | None
    delivered: Callable[[], None]


class DeliveringProducer:
    """A producer that gives up no message. All of its methods are called by one thread.

    Parameters
    ----------
    connection
        Properties of librdkafka; see `consumer.kafka.properties.connection_properties`.
    """

    def __init__(self, connection: Properties) -> None:
        self._fatal: KafkaError | None = None
        self._refused: deque[_Outgoing] = deque()
        self._repeat_at_s = 0.0
        self._waiting = 0
        self._heard_at_s = monotonic()
        self.last_error: str | None = None
        """What the brokers, or librdkafka, said last; None when nothing since a message was delivered."""
        self.errors = 0
        """How many messages had to be sent again."""
        self._producer = new_client(Producer, {**_DEFAULTS, **connection, **_PROMISED, "error_cb": self._on_error})

    @property
    def undelivered(self) -> int:
        """How many messages the brokers have not acknowledged."""
        return self._waiting

    @property
    def away(self) -> bool:
        """Whether messages wait for brokers that do not answer."""
        return self.silent_s > _SILENT_AFTER_S

    @property
    def silent_s(self) -> float:
        """How long the brokers have acknowledged nothing while something waited for them, seconds."""
        return monotonic() - self._heard_at_s if self._waiting else 0.0

    def send(self, topic: str, key: bytes, value: bytes | None, delivered: Callable[[], None]) -> None:
        """Send a message; ``delivered`` is called within `poll`, once the brokers have it."""
        if self._waiting == 0:
            self._heard_at_s = monotonic()
        self._waiting += 1
        self._produce(_Outgoing(topic, key, value, delivered))

    def poll(self, timeout_s: float) -> None:
        """Report deliveries, and send again what was refused.

        Raises
        ------
        FatalError
            When librdkafka cannot go on: the process must end, and nothing that was reported is lost.
        """
        self._producer.poll(timeout_s)
        if self._fatal is not None:
            raise FatalError(f"Kafka client: {self._fatal.str()}")
        if self._refused and monotonic() >= self._repeat_at_s:
            again = list(self._refused)
            self._refused.clear()
            for each in again:
                self._produce(each)

    def _produce(self, message: _Outgoing) -> None:
        def report(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                self._refuse(message, error.str())
                return
            self._waiting -= 1
            self._heard_at_s = monotonic()
            self.last_error = None
            message.delivered()

        try:
            self._producer.produce(message.topic, value=message.value, key=message.key, on_delivery=report)
        except BufferError:
            self._refuse(message, "the producer's queue is full")
        except KafkaException as error:
            self._refuse(message, error.args[0].str())

    def _refuse(self, message: _Outgoing, reason: str) -> None:
        self.errors += 1
        self.last_error = reason
        self._refused.append(message)
        self._repeat_at_s = monotonic() + _REPEAT_AFTER_S

    def _on_error(self, error: KafkaError) -> None:
        self.last_error = error.str()
        if error.fatal() or error.code() == KafkaError._FATAL:  # noqa: SLF001 -- the library's own name
            self._fatal = error
