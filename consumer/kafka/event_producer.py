"""Produces events of the sources to Kafka.

Delivery guarantee: idempotent and acknowledged by all in-sync replicas. An event whose callback got None is on the
brokers; until then, or with an error, it may be missing. Sending it again may double it, which is harmless: raws are
idempotent by their identity.
"""

from collections.abc import Callable, Mapping

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from consumer.errors import FatalError, TransientError
from consumer.kafka.clients import new_client
from consumer.kafka.properties import Properties

Delivered = Callable[[TransientError | None], None]
"""Is called, from `EventProducer.poll` or `flush`, with None once the brokers have the event, else with the error."""

_PROPERTIES: Properties = {
    "enable.idempotence": True,
    "acks": "all",
    "linger.ms": 5,
    "compression.type": "lz4",
    "queue.buffering.max.messages": 200_000,
}


class EventProducer:
    """Sends events and reports each one's acknowledgement.

    Parameters
    ----------
    connection
        librdkafka's properties that reach the brokers; see `consumer.kafka.properties.connection_properties`.

    Raises
    ------
    ConfigurationError
        librdkafka refuses a property.
    """

    def __init__(self, connection: Mapping[str, str | int | float | bool]) -> None:
        self._producer = new_client(Producer, {**_PROPERTIES, **connection})

    def send(self, topic: str, key: str | bytes, value: bytes | None, delivered: Delivered) -> None:
        """Queue one event; waits while the queue is full.

        Parameters
        ----------
        topic
            Where to send it.
        key
            Decides on the partition.
        value
            The event; None is the tombstone of a compacted topic.
        delivered
            Called once, with the outcome.

        Raises
        ------
        FatalError
            The producer cannot go on: the brokers fenced it.
        """

        def report(error: KafkaError | None, _: Message) -> None:
            delivered(None if error is None else TransientError(f"the brokers did not take an event: {error}"))

        while True:
            try:
                self._producer.produce(topic, value, key, on_delivery=report)
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:
                raise FatalError(f"the producer cannot go on, start the process again: {error.args[0]}") from error
            else:
                self._producer.poll(0)
                return

    def poll(self, timeout_s: float = 0.0) -> None:
        """Serve callbacks; wait so long for the first."""
        self._producer.poll(timeout_s)

    def flush(self, timeout_s: float) -> int:
        """Wait for outstanding events; return how many are left."""
        left: int = self._producer.flush(timeout_s)
        return left
