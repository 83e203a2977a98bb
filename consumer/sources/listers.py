"""The listers that run until they are told to stop: notifications from Kafka, and notifications by HTTP."""

from collections.abc import Callable
from functools import partial

from consumer.kafka.notification_consumer import NotificationConsumer
from consumer.sources.interfaces import Stopping
from consumer.sources.live_pipeline import LivePipeline
from consumer.sources.notified import NotificationIntake

_AT_ONCE = 500
_LOOK_EVERY_S = 0.2


def read_notifications(
    consumer: NotificationConsumer, intake: NotificationIntake, pipeline: LivePipeline, stopping: Stopping
) -> None:
    """Read notifications from Kafka until the process ends.

    Raises
    ------
    FatalError
        When librdkafka cannot go on.
    """
    try:
        while not stopping.is_set():
            consumer.pause(paused=not pipeline.has_room)
            for each in consumer.poll(_AT_ONCE, _LOOK_EVERY_S):
                intake.take(each.value, partial(consumer.acknowledge, each))
    finally:
        consumer.close()


class PushedNotifications:
    """Takes notifications that were pushed by HTTP; see `consumer.web.notification_port.NotificationSink`.

    Parameters
    ----------
    intake, pipeline
        Take them.
    brokers_away
        Whether the brokers do not answer: then nothing is taken that could not be acknowledged.
    """

    def __init__(self, intake: NotificationIntake, pipeline: LivePipeline, brokers_away: Callable[[], bool]) -> None:
        self._intake = intake
        self._pipeline = pipeline
        self._brokers_away = brokers_away

    def accept(self, body: bytes, done: Callable[[], None]) -> bool:
        """Take one body; return False where it cannot be taken now."""
        if self._brokers_away() or not self._pipeline.has_room:
            return False
        self._intake.take(body, done)
        return True
