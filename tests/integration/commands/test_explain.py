"""``explain`` says how an exposure ended, for each way there is."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from consumer.events import encode
from consumer.model import Exposure, ExposureIngested
from tests.support.commands import invoke, invoke_json
from tests.support.exposures import exposure, run_of
from tests.support.feeding import Feeder, raws_of

NOON_MS = 1_793_600_000_000
INSTRUMENTS = {"LSSTComCam": {"group_exposures": "one-to-one-and-by-counter"}, "LATISS": {}}


@pytest.fixture
def feeder(dsn: str) -> Iterator[Feeder]:
    """Give one reader of one partition."""
    with closing(Feeder(dsn, INSTRUMENTS)) as made:
        yield made


@pytest.fixture
def config(tmp_path: Path, dsn: str) -> Path:
    """Write the settings of that reader."""
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump({"instruments": INSTRUMENTS, "database": {"conninfo": dsn}}))
    return file


def account(config: Path, one: Exposure, *options: str) -> dict[str, Any]:
    (found,) = invoke_json("explain", one.id, "--config", config, *options)
    told: dict[str, Any] = found
    return told


def test_visits(feeder: Feeder, config: Path) -> None:
    snaps = run_of(1, 2)
    feeder.feed(raws_of(snaps, detectors=(0, 1, 3)), at_ms=NOON_MS)
    told = account(config, snaps[0])
    assert told["ending"] == "visit"
    assert [visit["visit_systems"] for visit in told["visits"]] == [[2], [0]]
    assert told["visits"][0]["exposures"] == [snaps[0].id, snaps[1].id]
    assert told["visits"][0]["detector_regions"] == 9
    assert told["visits"][0]["close_reason"] == "complete"
    assert (told["detectors"], told["detectors_arrived"]) == ("0-1, 3", 3)
    assert str(snaps[0].id) in invoke("explain", snaps[0].id, "--config", config).stdout


def test_skips(feeder: Feeder, config: Path) -> None:
    blind = exposure(1, sky_angle=None)
    closed = exposure(2, can_see_sky=False)
    feeder.feed(raws_of([blind, closed]), at_ms=NOON_MS)
    assert [s["reason"] for s in account(config, blind)["skips"]] == ["no_pointing"]
    told = account(config, closed)
    assert (told["ending"], [s["reason"] for s in told["skips"]]) == ("skipped", ["cannot_see_sky"])


def test_waiting_with_its_deadlines(feeder: Feeder, config: Path) -> None:
    _, second, third = run_of(1, 3)
    feeder.feed(raws_of([second]), at_ms=NOON_MS)
    feeder.feed(raws_of([third]), at_ms=NOON_MS + 40_000)
    told = account(config, third)
    assert told["ending"] == "visit"  # its own, of system 0; the group's is to come
    assert "waits for more" in told["summary"]
    assert told["waiting"]["reason"] == "idle"
    assert told["waiting"]["closes"] == told["waiting"]["deadlines"]["idle"]
    begun, due = told["waiting"]["opened"], told["waiting"]["deadlines"]["age"]
    assert begun < told["waiting"]["last_change"] < told["waiting"]["closes"] < due
    assert told["waiting"]["deadlines"]["next_group"] is None
    assert told["waiting"]["members"] == [second.id, third.id]
    assert (told["waiting"]["topic"], told["waiting"]["partition"]) == ("raw-ingested", 0)


def test_waiting_without_any_visit_yet(dsn: str, tmp_path: Path) -> None:
    instruments = {"LSSTComCam": {"group_exposures": "by-group-metadata"}}
    with closing(Feeder(dsn, instruments)) as grouped:
        grouped.feed(raws_of([exposure(1, group="A12")]), at_ms=NOON_MS)
    config = tmp_path / "grouped.yaml"
    config.write_text(json.dumps({"instruments": instruments, "database": {"conninfo": dsn}}))
    told = account(config, exposure(1))
    assert told["ending"] == "waiting"
    assert "'A12'" in told["summary"]
    assert told["waiting"]["closes"] in told["summary"]


def test_a_group_without_its_first_exposure(feeder: Feeder, config: Path) -> None:
    _, second = run_of(1, 2)
    feeder.feed(raws_of([second]), at_ms=NOON_MS)
    feeder.feed(raws_of([exposure(9)]), at_ms=NOON_MS + 10_000_000)
    told = account(config, second)
    assert told["ending"] == "visit"
    assert told["waiting"] is None
    assert [s["reason"] for s in told["skips"]] == ["first_missing"]


def test_dead_letters_of_the_exposure_and_of_its_group(feeder: Feeder, config: Path) -> None:
    feeder.feed(raws_of([exposure(1)]), at_ms=NOON_MS)
    feeder.feed(raws_of([exposure(1, physical_filter="z_03")]), at_ms=NOON_MS)
    told = account(config, exposure(1))
    (letter,) = told["dead_letters"]
    assert (letter["reason"], letter["offset"], letter["status"]) == ("contradiction", 1, "open")
    assert told["ending"] == "visit"


def test_never_seen_and_what_may_have_been_it(feeder: Feeder, config: Path) -> None:
    assert account(config, exposure(7))["ending"] == "never_seen"
    feeder.feed([b"junk"], at_ms=NOON_MS)
    told = account(config, exposure(7), "--instrument", "LSSTComCam")
    assert told["ending"] == "never_seen"
    assert "1 open dead letters name no exposure" in told["summary"]


def test_by_obs_id_group_visit_and_night(feeder: Feeder, config: Path) -> None:
    snaps = run_of(1, 2)
    dark = exposure(6, can_see_sky=False)
    feeder.feed(raws_of([*snaps, dark, exposure(9)]), at_ms=NOON_MS)
    feeder.feed(raws_of([exposure(9, physical_filter="z_03")]), at_ms=NOON_MS)
    (named,) = invoke_json("explain", snaps[1].obs_id, "--config", config)
    assert named["exposure"] == snaps[1].id
    for option, value in (("--group", "run 1"), ("--visit", snaps[0].id)):
        found = invoke_json("explain", option, value, "--config", config)
        assert [each["exposure"] for each in found] == [one.id for one in snaps]
    night = invoke("explain", "--night", dark.day_obs, "--config", config).stdout.splitlines()
    assert len(night) == 1
    assert str(dark.id) in night[0]
    assert "not on sky" in night[0]
    assert invoke_json("explain", "--night", dark.day_obs, "--instrument", "LATISS", "--config", config) == []

    told = account(config, dark)["neighbours"]
    assert told["before"] == {"exposure": snaps[1].id, "seq_num": 2, "missing_seq_num": "3-5"}
    assert told["after"] == {"exposure": exposure(9).id, "seq_num": 9, "missing_seq_num": "7-8"}
    history = account(config, exposure(9))["history"]
    assert [each["at"] for each in history] == sorted(each["at"] for each in history)
    assert "was stored" in history[0]["what"]
    assert "was defined" in history[1]["what"]
    assert "contradiction" in history[-1]["what"]
    text = invoke("explain", exposure(9).id, "--config", config).stdout
    assert "[0," not in text
    assert "+00:00" not in text
    assert "no exposure of obs_id nothing" in invoke("explain", "nothing", "--config", config, exit_code=1).stderr
    assert "say what" in invoke("explain", "--config", config, exit_code=2).stderr


def test_raws_that_are_missing_and_for_how_long(feeder: Feeder, config: Path, dsn: str) -> None:
    event = ExposureIngested(
        exposure=exposure(1), detectors=frozenset({0, 1}), expected_detectors=frozenset({0, 1, 2, 3})
    )
    feeder.feed([encode(event)], at_ms=NOON_MS)
    with psycopg.connect(dsn) as connection:
        connection.execute("UPDATE visits.exposure SET first_seen_at = now() - interval '90 s'")
    told = account(config, exposure(1))
    assert told["missing_detectors"] == "2-3"
    assert 90 <= told["missing_for_s"] < 900
    assert "missing: 2-3, for " in told["summary"]


def test_one_id_of_two_instruments(feeder: Feeder, config: Path) -> None:
    other = exposure(1, instrument="LATISS", obs_id="AT_1")
    feeder.feed(raws_of([exposure(1), other]), at_ms=NOON_MS)
    both = invoke_json("explain", other.id, "--config", config)
    assert [each["instrument"] for each in both] == ["LATISS", "LSSTComCam"]
    assert account(config, other, "--instrument", "LATISS")["obs_id"] == "AT_1"
