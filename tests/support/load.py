"""A night that goes on while something is harmed: raws produced at a pace, acknowledged by all replicas in sync."""

import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaError, Producer
from confluent_kafka import Message as KafkaMessage

from tests.support.children import ServerError
from tests.support.service import Wire

_DELIVERY_TIMEOUT_S = 60


class Load:
    """Produces from a thread of its own between ``with`` and `stop`, or the end of the messages.

    Delivery: exactly once, as long as the brokers have a leader again within a minute; each message that was not
    acknowledged makes `stop` fail.

    Parameters
    ----------
    bootstrap, topic
        Where to.
    messages
        In their order; may be endless.
    per_s
        Messages a second.

    Attributes
    ----------
    acknowledged
        Messages that all replicas in sync have.
    """

    def __init__(self, bootstrap: str, topic: str, messages: Iterable[Wire], *, per_s: float) -> None:
        self.acknowledged = 0
        self._topic = topic
        self._messages = messages
        self._pause_s = 1 / per_s
        self._failed: list[str] = []
        self._ending = threading.Event()
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,  # and acks=all with it
                "linger.ms": 5,
                "delivery.timeout.ms": _DELIVERY_TIMEOUT_S * 1000,
                "request.timeout.ms": 3000,  # a leader that hangs is given up
                "socket.timeout.ms": 3000,
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
            }
        )
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def stop(self) -> None:
        """Produce no more, and wait until everything is acknowledged.

        Raises
        ------
        ServerError
            When something was not.
        """
        self._ending.set()
        self.finish()

    def finish(self) -> None:
        """Wait until all messages are produced and acknowledged; as `stop` otherwise."""
        self._thread.join()
        left = self._producer.flush(_DELIVERY_TIMEOUT_S)
        if left or self._failed:
            raise ServerError(f"{left} messages were not delivered; {self._failed[:3]}")

    def _run(self) -> None:
        for each in self._messages:
            self._producer.produce(
                self._topic, each.value, each.key, partition=each.partition, on_delivery=self._delivered
            )
            self._producer.poll(0)
            if self._ending.wait(self._pause_s):
                return

    def _delivered(self, error: KafkaError | None, _: KafkaMessage) -> None:
        if error is None:
            self.acknowledged += 1
        else:
            self._failed.append(str(error))

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Produce no more; what was not acknowledged is forgotten."""
        self._ending.set()
        self._thread.join()
        self._producer.purge()
        self._producer.flush(_DELIVERY_TIMEOUT_S)
