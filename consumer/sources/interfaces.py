"""What the pipeline takes from listers, and what it asks of readers, translators, producers and the machine."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from consumer.sources.expected_sensors import ExpectedSensors
from consumer.sources.model import Header, SourceRecord
from consumer.sources.places import Place


class EmitCommand(StrEnum):
    """What found an object; the label of ``source_objects_total``."""

    FILES = "files"
    WATCH = "watch"
    NOTIFICATIONS = "notifications"
    LISTEN = "listen"
    SCAN = "scan"
    RETRY = "retry"


def _nothing() -> None:
    """Acknowledge nothing: a folder or a bucket is listed again."""


class FoundObject(NamedTuple):
    """What a lister found."""

    place: Place
    key: str
    tag: str
    """Differs when the content does; empty where the lister does not know."""
    command: EmitCommand
    notification: str | None = None
    """What named it, for a rejection."""
    done: Callable[[], None] = _nothing
    """Acknowledges it; called once, by the pipeline's thread."""

    @property
    def uri(self) -> str:
        """Its address, without credentials."""
        return self.place.uri(self.key)


class Stopping(Protocol):
    """Set once, when the process ends; see `threading.Event`."""

    def is_set(self) -> bool:
        """Return whether the process ends."""
        ...

    def wait(self, timeout: float | None = None) -> bool:
        """Sleep for so many seconds at most; return whether the process ends."""
        ...


class MessageProducer(Protocol):
    """Sends messages until the brokers have them; see `consumer.kafka.delivery`."""

    @property
    def undelivered(self) -> int:
        """How many messages the brokers have not acknowledged."""
        ...

    def send(self, topic: str, key: bytes, value: bytes | None, delivered: Callable[[], None]) -> None:
        """Send a message; ``delivered`` is called within `poll`."""
        ...

    def poll(self, timeout_s: float) -> None:
        """Report deliveries."""
        ...


class EmitterProducer(MessageProducer, Protocol):
    """And tells how it fares."""

    last_error: str | None
    """What the brokers said last; None when nothing since a message was delivered."""
    errors: int
    """How many messages had to be sent again."""

    @property
    def away(self) -> bool:
        """Whether messages wait for brokers that do not answer."""
        ...

    @property
    def silent_s(self) -> float:
        """How long the brokers have acknowledged nothing while something waited for them, seconds."""
        ...


class ObjectReader(Protocol):
    """Reads what objects say. Called by several threads at once."""

    def read_raw(self, place: Place, key: str) -> Header:
        """Read the header of a raw or of its sidecar.

        Raises
        ------
        NotReadableYetError, RejectedError
            If it cannot be read yet, or is no such thing.
        """
        ...

    def read_expected_sensors(self, place: Place, key: str) -> ExpectedSensors:
        """Read a file of expected sensors; raises as `read_raw` does."""
        ...

    def read_raw_beside(self, place: Place, key: str, obs_id: str) -> Header | None:
        """Read the header of any raw of an exposure, beside its file of expected sensors; None: there is none yet."""
        ...


class HeaderTranslator(Protocol):
    """Makes records of headers. Called by one thread."""

    def translate(self, header: Header, uri: str) -> SourceRecord:
        """Translate one header; raises `RejectedError`."""
        ...


DetectorIds = Callable[[str, Iterable[str]], tuple[int, ...]]
"""Looks up detectors of an instrument by their names; see `consumer.sources.detector_names`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the pipeline has of the machine."""

    wall_ms: Callable[[], int]
    """UTC milliseconds since the Unix epoch."""
    stopwatch_s: Callable[[], float]
    """For durations, seconds."""
    random: Callable[[], float]
    """Returns numbers in [0, 1)."""
    read_elsewhere: Callable[[Callable[[], None]], None]
    """Runs a read of a bucket in another thread."""
