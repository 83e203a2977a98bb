"""A pipeline without servers: a clock that is set, objects in memory, brokers that answer when they are told to."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from io import BytesIO
from typing import Any, NamedTuple

import fastavro
from prometheus_client import CollectorRegistry

from consumer.config.source_places import PatternSettings
from consumer.events import EXPOSURE_INGESTED, RAW_INGESTED, RAW_REJECTED
from consumer.metrics.source import SourceMetrics
from consumer.sources.configured import compiled
from consumer.sources.expected_sensors import ExpectedSensors, parse_expected_sensors
from consumer.sources.ignored import IgnoredReason
from consumer.sources.interfaces import DetectorIds, EmitCommand, FoundObject, HeaderTranslator, Machine, ObjectReader
from consumer.sources.live_pipeline import LivePipeline
from consumer.sources.model import Header, NotReadableYetError, RejectedError, RejectReason, SourceRecord
from consumer.sources.outlet import Outlet, SourceTopics
from consumer.sources.places import Place, Places
from consumer.sources.retries import RetryPolicy
from consumer.sources.waiting import WaitingObject
from tests.support.exposures import exposure

TOPICS = SourceTopics(events="raw-ingested", rejected="raw-rejected", waiting="raw-waiting")
BUCKET = Place(url="s3://raws", prefixes=("LSSTCam/",), patterns=compiled(PatternSettings()))
FOLDER = Place(url="/data/raws", prefixes=("",), patterns=compiled(PatternSettings()))
NIGHT = "LSSTCam/20261101"
DETECTORS = {"R22_S11": 94, "R22_S12": 95, "R01_S00": 0}


class Sent(NamedTuple):
    """A message on its way to the brokers."""

    topic: str
    key: bytes
    value: bytes | None
    delivered: Callable[[], None]


class MemoryProducer:
    """Brokers that acknowledge at once, or when `answering` is set again."""

    def __init__(self) -> None:
        self.answering = True
        self.sent: list[Sent] = []
        self._unanswered: list[Sent] = []

    @property
    def undelivered(self) -> int:
        """How many are not acknowledged."""
        return len(self._unanswered)

    def send(self, topic: str, key: bytes, value: bytes | None, delivered: Callable[[], None]) -> None:
        """Take a message."""
        message = Sent(topic, key, value, delivered)
        self.sent.append(message)
        self._unanswered.append(message)

    def poll(self, _: float) -> None:
        """Acknowledge."""
        while self.answering and self._unanswered:
            self._unanswered.pop(0).delivered()


class MemoryObjects:
    """Objects by key: a header as JSON, or what is raised when they are read."""

    def __init__(self, passes: Callable[[], None]) -> None:
        self._passes = passes
        self.objects: dict[str, Any] = {}
        self.reads: Counter[str] = Counter()

    def read_raw(self, _: Place, key: str) -> Header:
        """Read a header."""
        found: Header = self._get(key)
        return found

    def read_expected_sensors(self, _: Place, key: str) -> ExpectedSensors:
        """Read a file of expected sensors."""
        return parse_expected_sensors(json.dumps(self._get(key)).encode(), key)

    def read_raw_beside(self, place: Place, key: str, obs_id: str) -> Header | None:
        """Read a header beside."""
        beside = [each for each in self.objects if obs_id in each and each != key]
        return self.read_raw(place, beside[0]) if beside else None

    def _get(self, key: str) -> Any:
        self.reads[key] += 1
        self._passes()
        found = self.objects.get(key, NotReadableYetError(RejectReason.MISSING, "it is not there", uri=key))
        if isinstance(found, Exception):
            raise found
        return found


class PlainTranslator:
    """Headers with an exposure's number and a detector's name."""

    def translate(self, header: Header, uri: str) -> SourceRecord:
        """Translate."""
        if "INSTRUME" not in header:
            raise RejectedError(RejectReason.FAILED, "the header has no INSTRUME", uri=uri)
        one = exposure(int(str(header["SEQNUM"])), instrument=header["INSTRUME"])
        return SourceRecord(exposure=one, detector=DETECTORS[str(header["DETECTOR"])], uri=uri)


def plain_detector_ids(instrument: str, names: Iterable[str]) -> tuple[int, ...]:
    """Look names up."""
    try:
        return tuple(DETECTORS[name] for name in names)
    except KeyError as error:
        raise RejectedError(RejectReason.FAILED, f"{instrument} has no detector {error}", uri="") from error


class Bench:
    """A pipeline with all that it needs, and what came of it."""

    def __init__(
        self,
        *places: Place,
        by_exposure: bool = False,
        reader: ObjectReader | None = None,
        translator: HeaderTranslator | None = None,
        detector_ids: DetectorIds | None = None,
    ) -> None:
        self.now_ms = 1_793_577_700_000
        self.read_takes_ms = 0
        """How long each object takes that is read in the pipeline's own turn."""
        self.producer = MemoryProducer()
        self.store = MemoryObjects(self._passes)
        self.reads_elsewhere: list[Callable[[], None]] = []
        self.done: Counter[str] = Counter()
        self.registry = CollectorRegistry()
        self.metrics = SourceMetrics(
            self.registry, instruments=["LSSTCam"], commands=EmitCommand, ignored=IgnoredReason, rejected=RejectReason
        )
        self.places = Places(places or (BUCKET, FOLDER))
        outlet = Outlet(self.producer, TOPICS, self.metrics, by_exposure=by_exposure, wall_ms=lambda: self.now_ms)
        self.pipeline = LivePipeline(
            self.places,
            reader or self.store,
            translator or PlainTranslator(),
            detector_ids or plain_detector_ids,
            outlet,
            self.metrics,
            policy=RetryPolicy(first_s=1.0, max_s=8.0, give_up_s=60.0),
            machine=Machine(
                wall_ms=lambda: self.now_ms,
                stopwatch_s=lambda: self.now_ms / 1000,
                random=lambda: 1.0,
                read_elsewhere=self.reads_elsewhere.append,
            ),
        )

    def _passes(self) -> None:
        self.now_ms += self.read_takes_ms

    def offer(
        self, key: str, *, place: Place = BUCKET, tag: str = "a", command: EmitCommand = EmitCommand.LISTEN
    ) -> None:
        """Offer an object; `done` counts its acknowledgements."""

        def done() -> None:
            self.done[key] += 1

        self.pipeline.offer(FoundObject(place=place, key=key, tag=tag, command=command, notification="{}", done=done))

    def run(self, *, passing_s: float = 0.0) -> None:
        """Let time pass, and do all that is there to do."""
        self.now_ms += round(passing_s * 1000)
        for _ in range(10):
            self.pipeline.step(0)
            while self.reads_elsewhere:
                self.reads_elsewhere.pop(0)()

    def sent(self, topic: str) -> list[Sent]:
        """Return what was sent to a topic."""
        return [each for each in self.producer.sent if each.topic == topic]

    def raws(self) -> list[tuple[int, int]]:
        """Return exposure and detector of the events of raws, in order."""
        records = [decode(each.value) for each in self.sent("raw-ingested")]
        return [(each["exposure"], each["detector"]) for each in records if "detector" in each]

    def exposures(self) -> list[dict[str, Any]]:
        """Return the events of exposures, in order."""
        records = [decode(each.value) for each in self.sent("raw-ingested")]
        return [each for each in records if "detector" not in each]

    def rejections(self) -> list[dict[str, Any]]:
        """Return the rejections, in order."""
        return [decode(each.value) for each in self.sent("raw-rejected") if each.value is not None]

    def waiting(self) -> dict[str, WaitingObject]:
        """Return what the compacted topic holds."""
        latest = {each.key.decode(): each.value for each in self.sent("raw-waiting")}
        return {key: WaitingObject.decode(value) for key, value in latest.items() if value is not None}

    def count(self, name: str, **labels: str) -> float:
        """Return a metric."""
        return self.registry.get_sample_value(f"visit_consumer_source_{name}", labels) or 0.0


def header(number: int = 1, detector: str = "R22_S11", **changes: Any) -> Mapping[str, Any]:
    """Make a header that `PlainTranslator` reads."""
    return {"INSTRUME": "LSSTCam", "SEQNUM": number, "DETECTOR": detector} | changes


def key_of(number: int = 1, detector: str = "R22_S11", extension: str = "json") -> str:
    """Make the key of a raw or a sidecar, as Rubin has them."""
    return f"{NIGHT}/CC_O_20261101_{number:06d}/CC_O_20261101_{number:06d}_{detector}.{extension}"


def sensors_key(number: int = 1) -> str:
    """Make the key of a file of expected sensors."""
    return f"{NIGHT}/CC_O_20261101_{number:06d}/CC_O_20261101_{number:06d}_expectedSensors.json"


def sensors(number: int = 1, **kinds: str) -> Mapping[str, Any]:
    """Make a file of expected sensors."""
    return {"obsId": f"CC_O_20261101_{number:06d}", "expectedSensors": kinds}


def decode(value: bytes | None) -> dict[str, Any]:
    """Decode a message of one of our schemas, by its fingerprint."""
    assert value is not None
    schemas = {each.single_object_header: each for each in (RAW_INGESTED, EXPOSURE_INGESTED, RAW_REJECTED)}
    schema = schemas[value[:10]]
    record: Any = fastavro.schemaless_reader(BytesIO(value[10:]), schema.parsed, None)
    return dict(record)
