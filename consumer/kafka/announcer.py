"""Sends announcements and waits until the brokers have them.

Delivery: an announcement that `KafkaAnnouncer.send` returns was acknowledged by every in-sync replica. Any other may
have arrived or not, and is to be sent again.
"""

from collections.abc import Callable, Sequence
from time import monotonic

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from consumer.events.visit_defined import Announcement, Sent
from consumer.kafka.clients import new_client
from consumer.kafka.properties import ACKNOWLEDGED_WITHIN_S, Properties, announcer_properties

_LOOK_EVERY_S = 0.1


class KafkaAnnouncer:
    """An idempotent producer to the announcements' topic.

    Parameters
    ----------
    connection
        Properties of librdkafka; see `consumer.kafka.properties.connection_properties`.
    topic
        Where to send to.
    """

    def __init__(self, connection: Properties, topic: str) -> None:
        self._topic = topic
        self._complaint = "no answer"
        self._producer = new_client(Producer, {**announcer_properties(connection), "error_cb": self._on_error})

    def send(self, announcements: Sequence[Announcement], stopping: Callable[[], bool]) -> Sent:
        """Send announcements and wait for the acknowledgements.

        Parameters
        ----------
        announcements
            No two of one visit: the order within a call is not kept when one of them fails.
        stopping
            Asked now and then; once it says so, nothing more is waited for.

        Returns
        -------
        sent
            Which of them the brokers have, and what became of the others.
        """
        acknowledged: list[int] = []
        failures: list[str] = []
        for each in announcements:
            self._produce(each, acknowledged, failures)
        end_s = monotonic() + ACKNOWLEDGED_WITHIN_S + 1
        while len(acknowledged) + len(failures) < len(announcements) and not stopping() and monotonic() < end_s:
            self._producer.poll(_LOOK_EVERY_S)
        return Sent(acknowledged, failures[0] if failures else self._complaint)

    def abandon(self) -> None:
        """Drop what is not acknowledged yet; it must not arrive after what another producer sends."""
        self._producer.purge(in_queue=True, in_flight=True, blocking=False)

    def _produce(self, each: Announcement, acknowledged: list[int], failures: list[str]) -> None:
        def delivered(error: KafkaError | None, _: Message) -> None:
            if error is None:
                acknowledged.append(each.id)
            else:
                failures.append(error.str())

        try:
            self._producer.produce(self._topic, value=each.payload, key=each.key, on_delivery=delivered)
        except KafkaException as error:
            failures.append(error.args[0].str())
        except BufferError:
            failures.append("the producer's queue is full")

    def _on_error(self, error: KafkaError) -> None:
        self._complaint = error.str()
