"""The one way from an object to an event, whichever lister found the object."""

from collections.abc import Callable
from dataclasses import dataclass

from fsspec import AbstractFileSystem

from consumer.config import Settings
from consumer.sources.header_reader import HeaderLimits
from consumer.sources.model import SourceObject, SourceRecord
from consumer.sources.translate import Translator


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceEvent:
    """One event, ready for Kafka."""

    topic: str
    key: str
    """``instrument/group``."""
    value: bytes


class SourcePipeline:
    """Reads an object, translates its header and encodes the event.

    Parameters
    ----------
    translator
        Of all instruments.
    topic
        Where events go.
    limits
        On what is read.
    now_us
        UTC microseconds since the Unix epoch, for ``ingested_at``.
    """

    def __init__(self, translator: Translator, *, topic: str, limits: HeaderLimits, now_us: Callable[[], int]) -> None:
        raise NotImplementedError

    def read(self, source: SourceObject, filesystem: AbstractFileSystem | None = None) -> SourceRecord:
        """Return the record of one object.

        Parameters
        ----------
        source
            The object.
        filesystem
            Where it is; None: what fsspec makes of its URI.

        Raises
        ------
        SourceError
            `RejectedError`, or `NotReadableYetError` where trying again may help.
        """
        raise NotImplementedError

    def event(self, record: SourceRecord) -> SourceEvent:
        """Encode the event of a record, a raw's or an exposure's as the settings have it."""
        raise NotImplementedError


def build_pipeline(settings: Settings, *, now_us: Callable[[], int]) -> SourcePipeline:
    """Put the pipeline together from the settings.

    Raises
    ------
    ConfigurationError
        A header map, a file of corrections or a camera is wrong.
    """
    raise NotImplementedError
