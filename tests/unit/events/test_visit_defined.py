"""What is announced of a visit: every field of the schema, readable by anybody who has it."""

import json
from io import BytesIO
from typing import Any

import fastavro
import pytest

from consumer.events import VISIT_DEFINED, schema_text
from consumer.events.visit_defined import Announcement, RemovedVisit, encode_announcement, one_revision_each
from consumer.regions.polygons import s_region
from tests.support.exposures import exposure, run_of
from tests.support.records import records_of

NOW_US = 1_795_489_900_123_456


def read(payload: bytes) -> dict[str, Any]:
    assert payload[:10] == VISIT_DEFINED.single_object_header
    schema = fastavro.parse_schema(json.loads(schema_text("visit_defined")))
    body = BytesIO(payload[10:])
    found = fastavro.schemaless_reader(body, schema, None)
    assert body.read() == b""
    assert isinstance(found, dict)
    return found


def test_every_field_is_the_visits() -> None:
    members = run_of(1, 2)
    records = records_of(members)
    found = read(encode_announcement(records, 1, defined_at_us=NOW_US))
    at = found.pop("defined_at")
    assert round(at.timestamp() * 1e6) == NOW_US
    assert found == {
        "instrument": "LSSTComCam",
        "visit": 42,
        "name": "run 1",
        "visit_systems": [0, 2],
        "revision": 1,
        "change": "new",
        "complete": True,
        "close_reason": "idle",
        "exposures": [each.id for each in members],
        "exposure_count": 2,
        "day_obs": 20261101,
        "physical_filter": "r_03",
        "timespan": {"begin": members[0].timespan_begin, "end": members[1].timespan_end},
        "region": records.regions.visit,
        "s_region": s_region(records.regions.visit),
    }


def test_a_later_revision_is_an_update() -> None:
    found = read(encode_announcement(records_of([exposure()]), 7, defined_at_us=NOW_US))
    assert (found["revision"], found["change"]) == (7, "updated")


def test_a_visit_that_exists_no_longer_is_announced_with_what_was_stored() -> None:
    region = records_of([exposure()]).regions.visit
    gone = RemovedVisit(
        instrument="LATISS", id=42, revision=5, name="run 1", complete=None, close_reason="age", day_obs=20261101,
        physical_filter="r", timespan_begin=10, timespan_end=20, region=region,
    )  # fmt: skip
    found = read(encode_announcement(gone, gone.revision, defined_at_us=NOW_US))
    del found["defined_at"]
    assert found == {
        "instrument": "LATISS",
        "visit": 42,
        "name": "run 1",
        "visit_systems": [],
        "revision": 5,
        "change": "removed",
        "complete": None,
        "close_reason": "age",
        "exposures": [],
        "exposure_count": 0,
        "day_obs": 20261101,
        "physical_filter": "r",
        "timespan": {"begin": 10, "end": 20},
        "region": region,
        "s_region": s_region(region),
    }


@pytest.mark.parametrize(("number", "listed"), [(10_000, 10_000), (10_001, 0)])
def test_the_members_of_a_huge_visit_are_counted_and_not_listed(number: int, listed: int) -> None:
    payload = encode_announcement(records_of([exposure()] * number), 1, defined_at_us=NOW_US)
    found = read(payload)
    assert (len(found["exposures"]), found["exposure_count"]) == (listed, number)
    assert len(payload) < 200_000


@pytest.mark.parametrize("unknown", ["timespan_begin", "timespan_end"])
def test_what_is_not_known_is_null(unknown: str) -> None:
    one = exposure(physical_filter=None, **{unknown: None})
    found = read(encode_announcement(records_of([one], complete=None), 1, defined_at_us=NOW_US))
    assert (found["timespan"], found["physical_filter"], found["complete"]) == (None, None, None)


def test_a_second_revision_of_a_visit_waits_for_the_first() -> None:
    def row(number: int, visit: int, instrument: str = "LATISS") -> Announcement:
        return Announcement(id=number, instrument=instrument, visit=visit, payload=b"")

    rows = [row(1, 10), row(2, 11), row(3, 10, "DECam"), row(4, 11), row(5, 12)]
    assert [each.id for each in one_revision_each(rows)] == [1, 2, 3]
    assert [each.id for each in one_revision_each(rows[3:])] == [4, 5]
    assert list(one_revision_each([])) == []
    assert rows[0].key == b"LATISS/10"
