"""``redefine`` leaves the tables that the changed settings would have made of the same log."""

import json
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from consumer.admin.redefine import Redefinition, Scope
from consumer.config import Settings
from consumer.domain.redefinition import ChangeKind
from consumer.model import Exposure
from consumer.postgres.connection import Database
from tests.support.commands import invoke, invoke_json
from tests.support.define_visits import load_night
from tests.support.exposures import exposure, run_of
from tests.support.feeding import Feeder, raws_of
from tests.support.postgres import PostgresServer
from tests.support.service import prepare_database, settings_for
from tests.support.tables import Snapshot, snapshot

NOON_MS = 1_793_600_000_000
NIGHT = load_night("lsstcomcam-one-to-one-and-by-counter-digits")
DAY_OBS = NIGHT.exposures[0].day_obs
COUNTER = {"group_exposures": "one-to-one-and-by-counter", "group_id": "digits"}
GROUPS = {"group_exposures": "by-group-metadata", "group_id": "digits"}
SINGLE = {"group_exposures": "one-to-one"}
WIDER = {**COUNTER, "regions": {"padding": 300}}
OF_VISITS = (
    "exposure", "visit", "visit_definition", "visit_system_membership", "visit_detector_region", "visit_htm7",
    "open_group",
)  # fmt: skip

Section = Mapping[str, Any]


def instruments(section: Section) -> dict[str, Any]:
    return {"LSSTComCam": dict(section), "LATISS": {}}


def feed(dsn: str, section: Section, exposures: Sequence[Exposure], *, at_ms: int = NOON_MS) -> None:
    """Read a log of these exposures, and of one of another instrument so late that every group has closed."""
    late = exposure(99, instrument="LATISS", obs_id="AT_99")
    with closing(Feeder(dsn, instruments(section))) as feeder:
        feeder.feed(raws_of(exposures), at_ms=at_ms)
        feeder.feed(raws_of([late]), at_ms=at_ms + 100_000_000)


def tables(dsn: str) -> Snapshot:
    return {name: rows for name, rows in snapshot(dsn).items() if name in OF_VISITS}


def redefine(folder: Path, dsn: str, section: Section, *options: object, exit_code: int = 0) -> list[dict[str, Any]]:
    config = folder / "changed.yaml"
    config.write_text(json.dumps({"instruments": instruments(section), "database": {"conninfo": dsn}}))
    given = options or ("--day-obs", DAY_OBS)
    command = ("redefine", "--instrument", "LSSTComCam", "--config", config, *given)
    rows: list[dict[str, Any]] = invoke_json(*command, exit_code=exit_code)
    return rows


def kinds(changes: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    found = [each["kind"] for each in changes]
    return {kind: found.count(kind) for kind in sorted(set(found))}


@pytest.mark.parametrize(
    ("before", "after"),
    [(COUNTER, WIDER), (COUNTER, SINGLE), (SINGLE, COUNTER), (COUNTER, GROUPS), (GROUPS, COUNTER), (GROUPS, SINGLE)],
    ids=["padding", "counter-single", "single-counter", "counter-groups", "groups-counter", "groups-single"],
)
def test_the_tables_are_those_of_a_log_read_by_the_changed_settings(
    dsn: str, postgres18: PostgresServer, tmp_path: Path, before: Section, after: Section
) -> None:
    feed(dsn, before, NIGHT.exposures)
    untouched = tables(dsn)
    planned = redefine(tmp_path, dsn, after, "--day-obs", DAY_OBS, "--dry-run")
    assert tables(dsn) == untouched
    assert redefine(tmp_path, dsn, after) == planned
    with postgres18.database(prepare_database) as fresh:
        feed(fresh, after, NIGHT.exposures)
        expected = tables(fresh)
    assert tables(dsn) == expected != untouched
    assert set(kinds(redefine(tmp_path, dsn, after))) == {"unchanged"}
    assert tables(dsn) == expected


def test_what_would_change_is_shown_and_revisions_count_it(dsn: str, tmp_path: Path) -> None:
    feed(dsn, COUNTER, NIGHT.exposures)
    changes = redefine(tmp_path, dsn, WIDER, "--day-obs", DAY_OBS, "--dry-run")
    assert kinds(changes) == {"updated": len(NIGHT.tables["visit"])}
    assert {each["detail"] for each in changes} == {"padding 250 -> 300; regions"}
    redefine(tmp_path, dsn, WIDER)
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT DISTINCT revision, padding FROM visits.visit WHERE instrument = 'LSSTComCam'")
        assert rows.fetchall() == [(2, 300)]
    command = ("redefine", "--instrument", "LSSTComCam", "--day-obs", DAY_OBS, "--dry-run")
    table = invoke(*command, "--config", tmp_path / "changed.yaml")
    assert f"{len(NIGHT.tables['visit'])} unchanged" in table.stderr


def test_one_visit_with_what_shares_its_group(dsn: str, tmp_path: Path) -> None:
    first, second, third = [*run_of(1, 2, group="A12"), exposure(3, group="A13")]
    feed(dsn, SINGLE, [first, second, third])
    changes = redefine(tmp_path, dsn, GROUPS, "--visit", first.id)
    assert sorted((each["kind"], each["visit"]) for each in changes) == [
        ("new", 12), ("removed", first.id), ("removed", second.id),
    ]  # fmt: skip
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT id, group_key FROM visits.exposure WHERE instrument = 'LSSTComCam' ORDER BY 1"
        )
        assert [key for _, key in rows] == ["A12", "A12", str(third.id)]
    missing = ("redefine", "--instrument", "LSSTComCam", "--config", tmp_path / "changed.yaml", "--visit", 4711)
    assert "4711" in invoke(*missing, exit_code=78).stderr
    assert "--day-obs" in invoke("redefine", "--instrument", "LSSTComCam", exit_code=2).stderr


def test_a_group_of_many_nights_is_taken_whole(dsn: str, tmp_path: Path) -> None:
    days = [exposure(1).day_obs + n for n in range(6)]
    feed(dsn, GROUPS, [exposure(n, group="A12", day_obs=day) for n, day in enumerate(days, start=1)])
    (change,) = redefine(tmp_path, dsn, {**GROUPS, "regions": {"padding": 1}}, "--day-obs", days[0])
    assert (change["kind"], change["visit"]) == ("updated", 12)


def test_a_group_that_waits_is_left_to_the_service(dsn: str, tmp_path: Path) -> None:
    with closing(Feeder(dsn, instruments(GROUPS))) as feeder:
        feeder.feed(raws_of([exposure(1, group="A12")]), at_ms=NOON_MS)
    before = tables(dsn)
    changes = redefine(tmp_path, dsn, {**GROUPS, "regions": {"padding": 1}}, "--day-obs", exposure(1).day_obs)
    assert kinds(changes) == {"waiting": 1}
    assert tables(dsn) == before
    assert len(before["open_group"]) == 1


def test_what_cannot_be_defined_stays_as_it_is(dsn: str, tmp_path: Path) -> None:
    feed(dsn, COUNTER, NIGHT.exposures)
    before = tables(dsn)
    strict = {**COUNTER, "regions": {"require_versioned_camera": True}}
    changes = redefine(tmp_path, dsn, strict, exit_code=1)
    assert set(kinds(changes)) == {"failed"}
    assert tables(dsn) == before


def test_a_visit_id_of_another_group_is_a_conflict_and_stays(dsn: str, tmp_path: Path) -> None:
    feed(dsn, SINGLE, [exposure(1, group="A7"), exposure(2, group="B7")])
    changes = redefine(tmp_path, dsn, GROUPS, "--day-obs", exposure(1).day_obs, exit_code=1)
    assert "conflict" in kinds(changes)
    assert len(tables(dsn)["visit"]) == 3  # the third is of the other instrument


def test_who_has_a_contested_visit_is_redefined_and_who_was_refused_it_is_named(dsn: str, tmp_path: Path) -> None:
    feed(dsn, GROUPS, [exposure(1, group="A7"), exposure(2, group="B7")])
    wider = {**GROUPS, "regions": {"padding": 1}}
    changes = redefine(tmp_path, dsn, wider, "--day-obs", exposure(1).day_obs, exit_code=1)
    assert sorted((each["kind"], each["name"]) for each in changes) == [("conflict", "B7"), ("updated", "A7")]
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT name, padding FROM visits.visit WHERE instrument = 'LSSTComCam'")
        assert rows.fetchall() == [("A7", 1)]
        letters = connection.execute("SELECT group_key, status FROM visits.dead_letter WHERE reason = 'visit_conflict'")
        assert letters.fetchall() == [("B7", "open")]


def test_a_group_that_changes_under_our_hands_is_left(dsn: str) -> None:
    feed(dsn, GROUPS, [exposure(1, group="A12")])
    settings = Settings(**settings_for("nowhere:1", dsn, instruments=instruments(SINGLE)))
    with Database(settings.database) as session:
        work = Redefinition(session, settings, Scope(instrument="LSSTComCam", day_obs=exposure(1).day_obs))
        (part,) = work.components()
        feed(dsn, GROUPS, [exposure(2, group="A12")], at_ms=2 * NOON_MS)
        before = tables(dsn)
        (change,) = work.redefine(part, write=True)
        assert (change.kind, "run the command again" in change.detail) == (ChangeKind.WAITING, True)
        assert tables(dsn) == before
        (part,) = work.components()
        assert {each.kind for each in work.redefine(part, write=True)} == {ChangeKind.NEW, ChangeKind.REMOVED}


def test_a_lock_that_a_consumer_holds_is_waited_for(dsn: str) -> None:
    feed(dsn, SINGLE, [exposure(1)])
    database = {"conninfo": dsn, "lock_timeout_s": 0.1}
    settings = Settings(**settings_for("nowhere:1", dsn, instruments=instruments(WIDER), database=database))
    scope = Scope(instrument="LSSTComCam", day_obs=exposure(1).day_obs)
    with psycopg.connect(dsn) as consumer, Database(settings.database) as session:
        work = Redefinition(session, settings, scope)
        (part,) = work.components()
        consumer.execute("SELECT FROM visits.exposure FOR UPDATE")
        threading.Timer(0.8, consumer.commit).start()
        assert {each.kind for each in work.redefine(part, write=True)} == {ChangeKind.UPDATED}


def test_what_changes_is_announced_where_visits_are(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    feed(dsn, COUNTER, run_of(1, 2))
    with psycopg.connect(dsn) as connection:
        former = connection.execute(
            "SELECT id, revision + 1 FROM visits.visit WHERE instrument = 'LSSTComCam' ORDER BY id"
        ).fetchall()
    monkeypatch.setenv("VISIT_CONSUMER_ANNOUNCE__TOPIC", "visit-defined")
    redefine(tmp_path, dsn, GROUPS, "--day-obs", exposure(1).day_obs)
    redefine(tmp_path, dsn, {**GROUPS, "regions": {"padding": 1}}, "--day-obs", exposure(1).day_obs)
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT visit, revision FROM visits.outbox ORDER BY id").fetchall()
        (visit,) = connection.execute("SELECT id FROM visits.visit WHERE instrument = 'LSSTComCam'").fetchall()[0]
    assert rows == [*former, (visit, 1), (visit, 2)], "the visits by the former rule were removed"
