"""What events are written with: schemas that grew, shrank or were renamed, and some that do not fit ours.

Each case mixes both wire forms in one log: Confluent framing, whose schema comes from a registry, and single-object
encoding, whose schema comes from a file; between them stand events of our own schema. Besides the oracle, which decodes
as the service does, the tables are held to a replay of the same log as if all of it had been written with our schema.
"""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from consumer.events import (
    confluent_header,
    encode,
    encode_body,
    encode_record,
    parse_writer_schema,
    record_of,
    schema_text,
)
from consumer.model import RawIngested
from tests.faults.conftest import Scene, night
from tests.support.exposures import exposure
from tests.support.registry import Registry, register
from tests.support.service import Wire, prepare_database
from tests.support.tables import Snapshot, replay, snapshot

pytestmark = pytest.mark.kafka

Record = dict[str, Any]
"""An event's fields by their names, or one field of a schema; ``Any``, since Avro has many types."""

EXPOSURES, DETECTORS = range(1, 7), range(20)
REGISTERED, IN_A_FILE = 3, 5
"""The exposures that are written with the changed schema, in each wire form; the others have ours."""
FIELDS: list[Record] = json.loads(schema_text("raw_ingested"))["fields"]


class Change(NamedTuple):
    """How a producer's schema differs from ours."""

    name: str
    fields: list[Record]
    written: Callable[[Record], Record] = lambda _: {}
    """What the producer writes besides our fields, or into them."""
    lost: Mapping[str, Any] = MappingProxyType({})
    """What our reader then has in an exposure's fields."""

    @property
    def schema(self) -> str:
        """The text of the whole schema."""
        return json.dumps({**json.loads(schema_text("raw_ingested")), "fields": self.fields})


class Event(NamedTuple):
    """One event, and what it would be in our schema; None where it fits nothing of ours."""

    value: bytes
    plain: bytes | None


def changed(name: str, /, **changes: Any) -> list[Record]:
    """Give our fields, one of them changed."""
    return [{**each, **changes} if each["name"] == name else each for each in FIELDS]


def without(name: str) -> list[Record]:
    """Give our fields but one."""
    return [each for each in FIELDS if each["name"] != name]


FITTING = [
    Change(
        "field added with a default",
        [*FIELDS, {"name": "weather", "type": "string", "default": "unknown"}],
        lambda _: {"weather": "fine"},
    ),
    Change("field added without a default", [{"name": "n", "type": "double"}, *FIELDS], lambda _: {"n": 0.5}),
    Change("field removed that has a default", without("dark_time"), lost={"dark_time": None}),
    Change(
        "field renamed by alias",
        changed("group", name="group_name", aliases=[]),
        lambda record: {"group_name": record["group"]},
    ),
    Change(
        "int where we have a double",
        changed("exposure_time", type=["null", "int"]),
        lambda record: {"exposure_time": int(record["exposure_time"])},
    ),
]
UNFITTING = [
    Change(
        "text where we have an int",
        changed("detector", type="string"),
        lambda record: {"detector": str(record["detector"])},
    ),
    Change("field removed that has no default", without("obs_id")),
]


def events_of(change: Change, schema_id: int, *, fits: bool) -> list[Event]:
    """Write the night, detector after detector, so that good and changed events are neighbours in every batch."""
    schema = parse_writer_schema(change.schema)
    events = []
    for detector in DETECTORS:
        for number in EXPOSURES:
            raw = RawIngested(exposure=exposure(number, instrument="LSSTCam"), detector=detector, uri="s3://raw")
            record = {**record_of(raw), **change.written(record_of(raw))}
            if number == REGISTERED:
                value = confluent_header(schema_id) + encode_body(record, schema)
            elif number == IN_A_FILE:
                value = encode_record(record, schema)
            else:
                events.append(Event(encode(raw), encode(raw)))
                continue
            plain = encode(replace(raw, exposure=replace(raw.exposure, **change.lost)))
            events.append(Event(value, plain if fits else None))
    return events


def serve(scene: Scene, registry: Registry, change: Change, *, fits: bool) -> tuple[list[Event], Snapshot]:
    """Let a service read the night, judge it, and replay what the night would have been in our schema alone."""
    schema_id = register(registry, f"{scene.topic}-value", change.schema)
    file = scene.folder / "producer.avsc"
    file.write_text(change.schema)
    events = events_of(change, schema_id, fits=fits)
    scene.produce([Wire(each.value, partition=number // len(EXPOSURES) % 4) for number, each in enumerate(events)])
    with scene.replica(registry={"url": registry.url}, kafka={"writer_schema_files": [str(file)]}) as replica:
        scene.judge(replica, dead_letters=sum(each.plain is None for each in events))
        replica.wait_ready()
    log, plain = scene.log(), dict(events)
    translated = [each._replace(value=plain[each.value or b""]) for each in log.messages]
    with scene.server.database(prepare_database) as calm:
        replay(calm, scene.settings, [replace(log, messages=[each for each in translated if each.value is not None])])
        return events, snapshot(calm)


def names(changes: Sequence[Change]) -> list[str]:
    """Give the cases' names."""
    return [each.name for each in changes]


@pytest.mark.parametrize("change", FITTING, ids=names(FITTING))
def test_schema_evolution(scene: Scene, registry: Registry, change: Change) -> None:
    _, expected = serve(scene, registry, change, fits=True)
    found = snapshot(scene.dsn)
    assert found == expected
    assert len(found["visit"]) == len(EXPOSURES)


@pytest.mark.parametrize("change", UNFITTING, ids=names(UNFITTING))
def test_incompatible_schema(scene: Scene, registry: Registry, change: Change) -> None:
    events, expected = serve(scene, registry, change, fits=False)
    found = snapshot(scene.dsn)
    for table in expected.keys() - {"dead_letter", "consumer_offset"}:
        assert found[table] == expected[table]
    assert len(found["visit"]) == len(EXPOSURES) - 2
    bad = {each.value for each in events if each.plain is None}
    places = {(each.partition.partition, each.offset, each.value) for each in scene.log().messages if each.value in bad}
    with scene.connect() as connection:
        letters = connection.execute(
            'SELECT partition, "offset", value, reason, detail FROM visits.dead_letter'
        ).fetchall()
    assert {letter[:3] for letter in letters} == places
    assert {letter[3] for letter in letters} == {"incompatible_schema"}
    fingerprint = parse_writer_schema(change.schema).fingerprint.hex()
    assert all(fingerprint in letter[4] for letter in letters)


def test_schemas_that_are_unknown_without_a_registry(scene: Scene) -> None:
    # Dead letters, with their bytes, for a later replay.
    changes = [FITTING[0], FITTING[2], UNFITTING[0]]
    bad = [each.value for change in changes for each in events_of(change, 1, fits=True) if each.value != each.plain]
    wires = [*map(Wire, bad), *night(7, 18)]
    random.Random(7).shuffle(wires)  # noqa: S311 - a test's order
    # Everywhere alike: where most of a batch is bad, the breaker holds it, which is another case.
    scene.produce([each._replace(partition=number % 4) for number, each in enumerate(wires)])
    with scene.replica() as replica:
        scene.judge(replica, dead_letters=len(bad))
    reasons = {row[0] for row in snapshot(scene.dsn)["dead_letter"]}
    assert reasons == {"unknown_schema_id", "unknown_fingerprint"}
