"""Defining visits again: equal inputs touch nothing, however little a region differs; changed ones make a revision."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import fastavro
import numpy as np
import psycopg
import pytest

from consumer.domain import Instrument
from consumer.events import schema_text
from consumer.events.visit_defined import Announce, announcer
from consumer.model import Exposure, RawIngested, RawRegion, VisitRegions
from consumer.regions import RegionAlgorithm, decode
from consumer.regions.polygons import hull
from tests.support.exposures import exposure
from tests.support.night_rows import corner_distance
from tests.support.nights import START_MS, NightLog, Reader, close_all, prepare, reader, rules_of, wipe
from tests.support.postgres import PostgresServer
from tests.support.skies import HEADERS, cards_of

CONFIG = {
    "instrument": "LSSTComCam",
    "camera": "lsstcomcam",
    "group_exposures": "by-group-metadata",
    "group_id": "digits",
    "padding": 250,
    "merge_exposures": True,
}
VISIT = 7


@pytest.fixture(scope="module")
def server(postgres18: PostgresServer) -> Iterator[str]:
    with postgres18.database(prepare) as made:
        yield made


@pytest.fixture
def dsn(server: str) -> str:
    wipe(server)
    return server


@dataclass(frozen=True)
class Perturbed:
    """The algorithm of another machine, whose last bits differ."""

    exact: RegionAlgorithm
    name: str
    padding: int
    needs_headers: bool
    required_detectors: frozenset[int]

    def observe(self, raw: RawIngested) -> RawRegion | None:
        return self.exact.observe(raw)

    def compute(self, exposures: Sequence[Exposure], raws: Sequence[RawRegion]) -> VisitRegions:
        regions = self.exact.compute(exposures, raws)
        return replace(
            regions, visit=moved(regions.visit), detector_regions=tuple(moved(r) for r in regions.detector_regions)
        )

    def fingerprint(self, exposures: Sequence[Exposure]) -> str:
        return self.exact.fingerprint(exposures)


def moved(region: bytes) -> bytes:
    """Move every corner by 1e-15 rad or so: a few units in the last place."""
    corners = decode(region) + 1e-15
    return hull(corners / np.linalg.norm(corners, axis=1, keepdims=True))


def perturbed(rules: Mapping[str, Instrument]) -> dict[str, Instrument]:
    def other(algorithm: RegionAlgorithm) -> Perturbed:
        return Perturbed(
            algorithm, algorithm.name, algorithm.padding, algorithm.needs_headers, algorithm.required_detectors
        )

    return {name: replace(each, algorithm=other(each.algorithm)) for name, each in rules.items()}


def read(dsn: str, rules: Mapping[str, Instrument], *raws: RawIngested, announce: Announce | None = None) -> Reader:
    """Read raws as a log of their own, to the end, and close everything."""
    log = NightLog.of()
    for number, raw in enumerate(raws):
        log.append(raw, at_ms=START_MS + number)
    (messages,) = log.partitions.values()
    with psycopg.connect(dsn) as connection:
        connection.execute("DELETE FROM visits.consumer_offset")
    with reader(dsn, rules) as one:
        one.announce = announce
        one.claim(log.partitions)
        one.put(messages, log)
        one.write()
        close_all(one)
        return one


def raw(one: Exposure, detector: int = 0, **own: Any) -> RawIngested:
    return RawIngested(exposure=one, detector=detector, **own)


ROWS = ("visit", "visit_definition", "visit_system_membership", "visit_detector_region", "visit_htm7")


def row_versions(dsn: str) -> dict[str, list[tuple[object, ...]]]:
    """Read what tells whether any row of a visit was written again, even with the same values."""
    queries = {
        "visit": "SELECT xmin::text, ctid::text FROM visits.visit ORDER BY id",
        "visit_definition": "SELECT xmin::text, ctid::text FROM visits.visit_definition ORDER BY visit, exposure",
        "visit_system_membership": "SELECT xmin::text, ctid::text FROM visits.visit_system_membership ORDER BY visit",
        "visit_detector_region": "SELECT xmin::text, ctid::text FROM visits.visit_detector_region ORDER BY 1, 2",
        "visit_htm7": "SELECT xmin::text, ctid::text FROM visits.visit_htm7 ORDER BY 1, 2",
    }
    with psycopg.connect(dsn) as connection:
        return {name: connection.execute(queries[name]).fetchall() for name in ROWS}


def visit(dsn: str, *columns: str) -> tuple[Any, ...]:
    with psycopg.connect(dsn) as connection:
        names = psycopg.sql.SQL(", ").join(map(psycopg.sql.Identifier, columns))
        row = connection.execute(psycopg.sql.SQL("SELECT {} FROM visits.visit").format(names)).fetchone()
    assert row is not None
    return row


def detectors(dsn: str) -> str:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT detectors::text FROM visits.exposure").fetchone()
    assert row is not None
    return str(row[0])


def test_equal_inputs_touch_no_row_where_the_last_bits_of_a_region_differ(dsn: str) -> None:
    rules = rules_of(CONFIG)
    one, two = exposure(1, group="7"), exposure(2, group="7")
    read(dsn, rules, raw(one), raw(two))
    before = row_versions(dsn)
    (region,) = visit(dsn, "region")
    other = perturbed(rules)
    computed = other["LSSTComCam"].algorithm.compute([one, two], [])
    assert computed.visit != region
    assert corner_distance(computed.visit, region) < 1e-14
    # A correction of what reaches no row closes the group again; the visit that it defines is the same.
    again = read(dsn, other, raw(replace(two, dark_time=31.0, record_version=1)))
    assert len(again.closed) == 1
    assert sum(len(result.diff.unchanged) for result in again.results) == 1
    assert row_versions(dsn) == before


def test_reading_the_log_again_writes_nothing(dsn: str) -> None:
    rules = rules_of(CONFIG)
    raws = [raw(exposure(n, group="7"), d) for n in (1, 2) for d in range(3)]
    read(dsn, rules, *raws)
    before = row_versions(dsn)
    again = read(dsn, perturbed(rules), *reversed(raws), *raws)
    assert sum(sum(result.repeated.values()) for result in again.results) == 2 * len(raws)
    assert again.closed == []
    assert row_versions(dsn) == before


def test_a_late_snap_1e9_deg_away_is_a_revision(dsn: str) -> None:
    rules = rules_of(CONFIG)
    one = exposure(1, group="7")
    late = exposure(2, group="7", tracking_ra=one.tracking_ra + 1e-9)  # type: ignore[operator] # it is on sky
    read(dsn, rules, raw(one))
    (region,) = visit(dsn, "region")
    before = row_versions(dsn)
    read(dsn, rules, raw(late))
    revision, now = visit(dsn, "revision", "region")
    assert (revision, now != region) == (2, True)
    assert all(row_versions(dsn)[table] != before[table] for table in ROWS)


def test_a_pointing_corrected_by_1e9_deg_is_a_revision(dsn: str) -> None:
    rules = rules_of(CONFIG)
    one = exposure(1, group="7")
    read(dsn, rules, raw(one))
    (region,) = visit(dsn, "region")
    read(dsn, rules, raw(replace(one, tracking_dec=one.tracking_dec + 1e-9, record_version=1)))  # type: ignore[operator] # as above
    revision, now = visit(dsn, "revision", "region")
    assert (revision, now != region) == (2, True)


def test_a_corrected_target_name_is_a_second_revision(dsn: str) -> None:
    rules = rules_of(CONFIG)
    one = exposure(1, group="7")
    read(dsn, rules, raw(one))
    read(dsn, rules, raw(replace(one, target_name="M31", record_version=1)))
    assert visit(dsn, "revision", "target_name") == (2, "M31")
    read(dsn, rules, raw(one), raw(replace(one, target_name="M31", record_version=1), 1))
    assert visit(dsn, "revision", "target_name") == (2, "M31")


def test_a_later_detector_is_noted_without_touching_the_visit(dsn: str) -> None:
    rules = rules_of(CONFIG)
    one = exposure(1, group="7")
    read(dsn, rules, raw(one, 3))
    before = row_versions(dsn)
    later = read(dsn, rules, raw(one, 4), raw(one, 7), raw(one, 3))
    assert detectors(dsn) == "{[3,5),[7,8)}"
    assert later.closed == []
    assert row_versions(dsn) == before


HSC_DETECTOR = 49
HEADER = cards_of(HEADERS / "hsc-04228.hdr")


def header_rules(**regions: Any) -> dict[str, Instrument]:
    config = CONFIG | {"instrument": "HSC", "camera": "hsc", "group_exposures": "one-to-one"}
    return rules_of(config, regions={"padding": 0, **regions})


def hsc(number: int = 1, **changes: Any) -> Exposure:
    return exposure(number, instrument="HSC", **changes)


def shifted(cards: str, degrees: float) -> str:
    """Point a header elsewhere: another reading of the same sky."""
    lines = [cards[i : i + 80] for i in range(0, len(cards), 80)]
    for index, line in enumerate(lines):
        if line.startswith("CRVAL2 "):
            value = float(line[10:].partition("/")[0]) + degrees
            lines[index] = f"CRVAL2  = {value:20.12f}".ljust(80)
    return "".join(lines)


def test_a_visit_that_goes_and_comes_back_goes_on_counting_revisions(dsn: str) -> None:
    rules = rules_of(CONFIG)
    one = exposure(1, group="7")
    read(dsn, rules, raw(one))
    read(dsn, rules, raw(replace(one, group="8", record_version=1)))
    assert visit(dsn, "id", "revision") == (8, 1)
    read(dsn, rules, raw(replace(one, record_version=2)))
    # Revision 2 was its removal: who has seen that would ignore another revision 1 or 2 of it.
    assert visit(dsn, "id", "revision") == (7, 3)
    read(dsn, rules, raw(replace(one, group="8", record_version=3)))
    read(dsn, rules, raw(replace(one, record_version=4)))
    assert visit(dsn, "id", "revision") == (7, 5)


@pytest.mark.parametrize("refused", [False, True])
def test_the_removal_of_a_visit_is_announced_whatever_the_reason(dsn: str, *, refused: bool) -> None:
    """A correction moves its only exposure to another group, or to a place where it has no regions."""
    rules = rules_of(CONFIG)
    announce = announcer("visit-defined", now_ns=lambda: 0)
    one = exposure(1, group="7")
    changes: dict[str, Any] = {"sky_angle": None} if refused else {"group": "8"}
    for version, change in ((0, {}), (1, changes), (2, {})):
        read(dsn, rules, raw(replace(one, record_version=version, **change)), announce=announce)
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT visit, revision, payload FROM visits.outbox ORDER BY id").fetchall()
    schema = fastavro.parse_schema(json.loads(schema_text("visit_defined")))
    found: list[Any] = [fastavro.schemaless_reader(BytesIO(payload[10:]), schema, None) for _, _, payload in rows]
    of_seven = [(each["revision"], each["change"], each["exposures"]) for each in found if each["visit"] == 7]
    assert of_seven == [(1, "new", [one.id]), (2, "removed", []), (3, "updated", [one.id])]
    assert found[0]["region"] == next(each["region"] for each in found if each["change"] == "removed")
    assert [(row[0], row[1]) for row in rows] == [(each["visit"], each["revision"]) for each in found]


def test_the_pointing_of_a_header_waits_for_its_detector(dsn: str) -> None:
    rules = header_rules(wcs_source="header", detector_id=HSC_DETECTOR)
    one = hsc()
    first = read(dsn, rules, raw(one, 3, wcs=HEADER))
    assert [x.reason for result in first.results for x in result.dead_letters] == ["group_failed"]
    with pytest.raises(AssertionError):
        visit(dsn, "id")
    read(dsn, rules, raw(one, HSC_DETECTOR, wcs=HEADER))
    id_, revision, reason = visit(dsn, "id", "revision", "close_reason")
    assert (id_, revision, reason) == (one.id, 1, "complete")
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT count(*), max(detector) FROM visits.visit_detector_region").fetchone() == (
            len(rules["HSC"].algorithm.compute([one], _regions(rules, one)).detectors),
            111,
        )
        assert connection.execute("SELECT status FROM visits.dead_letter").fetchall() == [("resolved",)]


def _regions(rules: Mapping[str, Instrument], one: Exposure) -> list[RawRegion]:
    region = rules["HSC"].algorithm.observe(raw(one, HSC_DETECTOR, wcs=HEADER))
    assert region is not None
    return [region]


def test_a_corrected_header_replaces_the_pointing_in_both_orders(dsn: str) -> None:
    rules = header_rules(wcs_source="header", detector_id=HSC_DETECTOR)
    first = raw(hsc(), HSC_DETECTOR, wcs=HEADER)
    second = raw(hsc(record_version=1), HSC_DETECTOR, wcs=shifted(HEADER, 0.5))
    regions = []
    for order in ((first, second), (second, first)):
        wipe(dsn)
        for each in order:
            read(dsn, rules, each)
        regions.append(visit(dsn, "region", "inputs_hash"))
    assert regions[0] == regions[1]
    wipe(dsn)
    read(dsn, rules, first)
    assert visit(dsn, "region", "inputs_hash") != regions[0]


def test_every_raw_with_a_header_of_its_own_adds_to_the_visit(dsn: str) -> None:
    rules = header_rules(algorithm="full-raw-wcs")
    one = hsc()
    read(dsn, rules, raw(one, 1, wcs=HEADER))
    before, revision = visit(dsn, "region", "revision")
    assert revision == 1
    read(dsn, rules, raw(one, 2, wcs=shifted(HEADER, 0.1)))
    after, revision = visit(dsn, "region", "revision")
    assert (revision, after != before) == (2, True)
    with psycopg.connect(dsn) as connection:
        found = connection.execute("SELECT detector, region FROM visits.visit_detector_region ORDER BY 1").fetchall()
    assert [detector for detector, _ in found] == [1, 2]
    assert corner_distance(found[0][1], before) < 1e-15, "the region of one raw is its visit's"
    versions = row_versions(dsn)
    read(dsn, rules, raw(one, 1, wcs=HEADER), raw(one, 5))
    assert row_versions(dsn) == versions, "a repeated raw, and one without a header"
    assert detectors(dsn) == "{[1,3),[5,6)}"


def test_the_regions_of_headers_do_not_depend_on_order(dsn: str) -> None:
    rules = header_rules(algorithm="full-raw-wcs", detectors=[1, 2])
    raws = [raw(hsc(), d, wcs=shifted(HEADER, 0.1 * d)) for d in (1, 2, 3)]
    found = []
    for order in (raws, raws[::-1]):
        wipe(dsn)
        read(dsn, rules, *order)
        found.append(visit(dsn, "region", "inputs_hash", "complete", "revision"))
    assert found[0] == found[1]
    assert found[0][-1] == 1, "it waited for both"


def test_a_broken_header_is_a_dead_letter_and_its_raw_has_not_arrived(dsn: str) -> None:
    rules = header_rules(wcs_source="header", detector_id=HSC_DETECTOR)
    broken = read(dsn, rules, raw(hsc(), HSC_DETECTOR, wcs="CTYPE1  = 'RA---XXX'".ljust(80)))
    assert [x.reason for result in broken.results for x in result.dead_letters] == ["invalid_field"]
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT count(*) FROM visits.exposure").fetchone() == (0,)
