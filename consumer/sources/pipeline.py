"""The one way from an object to an event, whichever lister found the object."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from fsspec import AbstractFileSystem

from consumer.config import Settings
from consumer.config.instruments import KNOWN_INSTRUMENTS, InstrumentSettings
from consumer.events import RawEncoder, encode
from consumer.model import Exposure, ExposureIngested, Ingested
from consumer.regions import camera_set
from consumer.sources.corrections import Corrections
from consumer.sources.header_map import load_header_maps
from consumer.sources.header_reader import HeaderLimits, read_header
from consumer.sources.model import SourceObject, SourceRecord
from consumer.sources.objects import file_system_of, public_uri
from consumer.sources.translate import Translator


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceEvent:
    """One event, ready for Kafka."""

    topic: str
    key: str
    """``instrument/group``."""
    value: bytes
    """The event in Avro single-object encoding."""
    event: Ingested


class SourcePipeline:
    """Reads an object, translates its header and makes the event. For one thread at a time.

    Parameters
    ----------
    translator
        Of all instruments.
    topic
        Where events go.
    emits_exposures
        Whether an event speaks of an exposure, not of a raw.
    limits
        On what is read.
    now_us
        UTC microseconds since the Unix epoch, for ``ingested_at``.
    """

    def __init__(
        self,
        translator: Translator,
        *,
        topic: str,
        limits: HeaderLimits,
        now_us: Callable[[], int],
        emits_exposures: bool = False,
    ) -> None:
        self.translator = translator
        self.limits = limits
        self.topic = topic
        self.emits_exposures = emits_exposures
        self._now_us = now_us
        self._encoder = RawEncoder()

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
        if filesystem is None:
            filesystem, _ = file_system_of(source.uri)
        header = read_header(source, filesystem, self.limits)
        return self.translator.translate(header, public_uri(source.uri))

    def event(self, record: SourceRecord) -> SourceEvent:
        """Return the event of a record, a raw's or an exposure's as the settings have it.

        Raises
        ------
        RejectedError
            A raw's event is asked for, and the header names no detector.
        """
        if self.emits_exposures:
            detectors = None if record.detector is None else (record.detector,)
            return self.exposure_event(record.exposure, detectors)
        raw = record.raw(self._now_us())
        return self._addressed(record.exposure, raw, self._encoder.encode(raw))

    def exposure_event(
        self, exposure: Exposure, detectors: Iterable[int] | None = None, expected: Iterable[int] | None = None
    ) -> SourceEvent:
        """Return the event of a whole exposure.

        Parameters
        ----------
        exposure
            Its record.
        detectors
            Ids of those whose raws have arrived; None where the event says nothing of raws.
        expected
            Ids of those whose raws will arrive; None where they are not known.
        """
        event = ExposureIngested(
            exposure=exposure,
            detectors=None if detectors is None else frozenset(detectors),
            expected_detectors=None if expected is None else frozenset(expected),
            ingested_at=self._now_us(),
        )
        return self._addressed(exposure, event, encode(event))

    def _addressed(self, exposure: Exposure, event: Ingested, value: bytes) -> SourceEvent:
        key = f"{exposure.instrument}/{exposure.group}"
        return SourceEvent(topic=self.topic, key=key, value=value, event=event)


def build_pipeline(settings: Settings, *, now_us: Callable[[], int]) -> SourcePipeline:
    """Put the pipeline together from the settings.

    Raises
    ------
    ConfigurationError
        A header map, a file of corrections or a camera is wrong.
    """
    source = settings.source
    instruments = {name: InstrumentSettings(**known) for name, known in KNOWN_INSTRUMENTS.items()}
    instruments |= settings.instruments

    def detector_ids(name: str) -> Mapping[str, int]:
        if name not in instruments or not instruments[name].camera:
            return {}
        return {d.name: d.id for camera in camera_set(instruments[name].camera).cameras for d in camera.detectors}

    def needs_wcs(name: str) -> bool:
        regions = instruments[name].regions if name in instruments else None
        return regions is not None and (regions.algorithm != "single-raw-wcs" or regions.wcs_source == "header")

    translator = Translator(
        corrections=Corrections(source.corrections),
        detector_ids=detector_ids,
        header_maps=load_header_maps(source.header_maps),
        search_path=[str(folder) for folder in source.header_corrections],
        needs_wcs=needs_wcs,
    )
    return SourcePipeline(
        translator,
        topic=source.topic or settings.kafka.topics[0],
        limits=HeaderLimits(header_bytes=source.max_header_bytes),
        now_us=now_us,
        emits_exposures=source.emits == "exposure",
    )
