"""``define --dsn`` puts visits into the service's tables, and treats stored ones as DefineVisitsTask does."""

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, replace
from typing import Any

import psycopg
import pytest

from consumer.model import Exposure
from tests.support.commands import invoke, invoke_json
from tests.support.define_visits import load_night, night_names, orders
from tests.support.exposures import exposure, run_of
from tests.support.feeding import Feeder, raws_of
from tests.support.nights import START_MS
from tests.support.tables import snapshot
from tests.support.visit_rows import assert_tables, options_of

GROUPED = ("--instrument", "LSSTComCam", "--group-exposures", "by-group-metadata", "--group-id", "digits")


def define(dsn: str, exposures: Sequence[Exposure], *options: object, exit_code: int = 0) -> Any:  # JSON
    text = json.dumps([asdict(e) for e in exposures])
    given = options or GROUPED
    return invoke_json("define", "-", "--dsn", dsn, *given, text=text, exit_code=exit_code)


def rows(dsn: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, autocommit=True, options="-c search_path=visits") as connection:
        return connection.execute(query.encode()).fetchall()


@pytest.mark.parametrize("name", night_names())
def test_every_night(dsn: str, name: str) -> None:
    night = load_night(name)
    for number, ordered in enumerate(orders(night.exposures)):
        if number > 3:
            break
        found = define(dsn, ordered * 2, *options_of(night))
        assert_tables(found, night)
        expected = len(night.tables["visit"])
        counts = {key: value for key, value in found["result"].items() if value}
        assert counts == {"n_visits": expected, "n_new" if number == 0 else "n_skipped": expected}
    # As the service would have: every exposure is there, with its group, and no group is left open.
    assert rows(dsn, "SELECT count(*) FROM exposure") == [(len(night.exposures),)]
    assert rows(dsn, "SELECT count(*) FROM open_group") == [(0,)]
    assert rows(dsn, "SELECT max(revision) FROM visit") == [(1,)]
    (trixels,) = rows(dsn, "SELECT count(DISTINCT visit) FROM visit_htm7")[0]
    assert trixels == expected
    systems = sorted(rows(dsn, "SELECT instrument, id, name FROM visit_system"))
    assert systems == sorted(tuple(row.values()) for row in night.tables["visit_system"])


def test_a_snap_more(dsn: str) -> None:
    first, second = run_of(1, 2, group="A12")
    define(dsn, [first])
    (row,) = define(dsn, [first], *GROUPED, "--prefilter")["visit"]
    assert row["exposure_time"] == 30.0
    refused = invoke(
        "define", "-", "--dsn", dsn, *GROUPED, text=json.dumps([asdict(first), asdict(second)]), exit_code=1
    )
    assert "stored and differs" in refused.stderr
    assert rows(dsn, "SELECT count(*) FROM visit_definition") == [(1,)]
    kept = define(dsn, [first, second], *GROUPED, "--skip-conflicting")
    assert kept["result"]["n_skipped"] == 1
    added = define(dsn, [second], *GROUPED, "--incremental")
    assert added["result"]["n_partially_updated"] == 1
    assert added["visit"][0]["exposure_time"] == 60.0
    assert [r["exposure"] for r in added["visit_definition"]] == [first.id, second.id]
    assert len(added["visit_detector_region"]) == 9
    assert rows(dsn, "SELECT revision, exposure_time FROM visit") == [(2, 60.0)]
    assert rows(dsn, "SELECT count(*) FROM visit_detector_region") == [(9,)]


def test_stored_regions_that_are_damaged_are_found_and_rewritten(dsn: str) -> None:
    good = define(dsn, [exposure(1)])
    with psycopg.connect(dsn, autocommit=True, options="-c search_path=visits") as connection:
        connection.execute(
            "UPDATE visit_detector_region SET region = (SELECT region FROM visit_detector_region WHERE detector = 4)"
            " WHERE detector = 3"
        )
    assert define(dsn, [exposure(1)])["result"]["n_skipped"] == 1
    mended = define(dsn, [exposure(1)], *GROUPED, "--check-detector-regions", "--update-records")
    assert mended["result"]["n_fully_updated"] == 1
    assert mended["visit_detector_region"] == good["visit_detector_region"]


def test_what_contradicts_the_stored_exposure_is_refused_and_a_correction_is_not(dsn: str) -> None:
    define(dsn, [exposure(1)])
    text = json.dumps([asdict(replace(exposure(1), physical_filter="z_03"))])
    refused = invoke("define", "-", "--dsn", dsn, *GROUPED, text=text, exit_code=1)
    assert "physical_filter" in refused.stderr
    corrected = replace(exposure(1), physical_filter="z_03", record_version=1)
    assert define(dsn, [corrected], *GROUPED, "--update-records")["visit"][0]["physical_filter"] == "z_03"
    assert rows(dsn, "SELECT physical_filter, record_version FROM exposure") == [("z_03", 1)]


def test_two_groups_that_claim_one_id(dsn: str) -> None:
    define(dsn, [exposure(1, group="A12")])
    text = json.dumps([asdict(exposure(2, group="B12"))])
    refused = invoke("define", "-", "--dsn", dsn, *GROUPED, text=text, exit_code=1)
    assert "12" in refused.stderr
    assert rows(dsn, "SELECT name FROM visit") == [("A12",)]


def test_what_was_left_out_is_settled_once_the_service_reads_it(dsn: str) -> None:
    first, late = run_of(1, 2, group="A12")
    other, dark = exposure(3, group="B12"), exposure(4, group="C14", tracking_ra=None)
    define(dsn, [first])
    define(dsn, [first, late, other, dark], *GROUPED, "--skip-conflicting")
    assert rows(dsn, "SELECT exposure FROM visit_definition") == [(first.id,)]
    assert rows(dsn, "SELECT count(*) FROM exposure") == [(4,)]
    grouped = {"group_exposures": "by-group-metadata", "group_id": "digits", "ignore_non_science_exposures": False}
    with closing(Feeder(dsn, {"LSSTComCam": grouped})) as feeder:
        feeder.feed(raws_of([first, late, other, dark]), at_ms=START_MS)
        feeder.feed(raws_of([exposure(5, group_size=1)]), at_ms=START_MS + 3_600_000)
    assert sorted(rows(dsn, "SELECT exposure FROM visit_definition WHERE visit = 12")) == [(first.id,), (late.id,)]
    letters = rows(dsn, "SELECT reason, group_key FROM dead_letter WHERE status = 'open' ORDER BY group_key")
    assert letters == [("visit_conflict", "B12"), ("not_on_sky", "C14")]


def test_a_correction_that_moves_an_exposure_is_left_to_an_event(dsn: str) -> None:
    define(dsn, run_of(1, 2, group="A12"))
    before = snapshot(dsn)
    text = json.dumps([asdict(exposure(2, group="B13", record_version=1))])
    refused = invoke("define", "-", "--dsn", dsn, *GROUPED, text=text, exit_code=1)
    assert "'A12', and would move to 'B13'" in refused.stderr
    assert snapshot(dsn) == before


def test_a_database_without_tables_or_without_a_server(database18: str) -> None:
    text = json.dumps([asdict(exposure(1))])
    assert "migrate" in invoke("define", "-", "--dsn", database18, *GROUPED, text=text, exit_code=1).stderr
    nowhere = "postgresql://me:s3cret@127.0.0.1:1/none"
    result = invoke("define", "-", "--dsn", nowhere, *GROUPED, text=text, exit_code=1)
    assert "no connection" in result.stderr
    assert "s3cret" not in result.stderr + result.stdout
