"""The command ``define`` makes the rows that DefineVisitsTask made, whatever the order and number of copies."""

import json
import random
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import invoke, invoke_json
from tests.support.define_visits import DEFINE_VISITS, load_night, night_names, orders
from tests.support.exposures import exposure, run_of
from tests.support.visit_rows import assert_tables, options_of

ONE = json.dumps(asdict(exposure(1)))


def rows_of(name: str) -> list[dict[str, Any]]:
    content = json.loads((DEFINE_VISITS / f"{name}.json").read_text())
    rows: list[dict[str, Any]] = content["exposures"]
    return rows


@pytest.mark.parametrize("name", night_names())
def test_every_night_in_every_order_with_copies(name: str) -> None:
    night = load_night(name)
    expected = json.loads((DEFINE_VISITS / f"{name}.json").read_text())["result"]
    by_id = {row["id"]: row for row in rows_of(name)}
    for number, ordered in enumerate(orders(night.exposures)):
        rows = [by_id[e.id] for e in ordered]
        if number >= 2:
            randomness = random.Random(number)  # noqa: S311  # a reproducible order, not a secret
            rows += randomness.choices(rows, k=len(rows))
            randomness.shuffle(rows)
        found = invoke_json("define", "-", *options_of(night), text=json.dumps(rows))
        assert list(found) == ["result", "off_sky", *night.tables]
        assert found["result"] == expected
        assert_tables(found, night)


def test_json_lines_of_a_file_with_the_events_name_of_the_id(tmp_path: Path) -> None:
    night = load_night("lsstcomcam-one-to-one-digits")
    lines = []
    for row in rows_of(night.name):
        renamed = dict(row)
        renamed["exposure"] = renamed.pop("id")
        del renamed["instrument"]  # the option says it
        lines.append(json.dumps(renamed))
    file = tmp_path / "night.jsonl"
    file.write_text("\n\n".join(lines) + "\n")
    assert_tables(invoke_json("define", file, *options_of(night)), night)


def test_a_file_of_settings_supplies_the_instrument_and_options_override_it(tmp_path: Path) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text(
        "instruments: {Mine: {camera: lsstcomcam, group_exposures: by-group-metadata, regions: {padding: 0}}}"
    )
    text = json.dumps([asdict(e) | {"instrument": "Mine"} for e in run_of(1, 2, group="A12")])
    ours = invoke_json("define", "-", "--instrument", "Mine", "--config", config, text=text)
    assert [row["id"] for row in ours["visit"]] == [12]
    wider = invoke_json("define", "-", "--instrument", "Mine", "--config", config, "--padding", 100, text=text)
    assert wider["visit"][0]["region"] != ours["visit"][0]["region"]
    single = invoke_json(
        "define", "-", "--instrument", "Mine", "--config", config, "--group-exposures", "one-to-one", text=text
    )
    assert len(single["visit"]) == 2


def test_a_table_for_people() -> None:
    result = invoke("define", "-", "--instrument", "LSSTComCam", text=ONE)
    (line,) = [line for line in result.stdout.splitlines() if "CC_O_20261101_000001" in line]
    assert line.split()[0] == "2026110100001"
    assert "1 new" in result.stderr


@pytest.mark.parametrize(
    "option", ["--update-records", "--incremental", "--skip-conflicting", "--prefilter", "--check-detector-regions"]
)
def test_options_about_stored_visits_need_to_know_where_they_are(option: str) -> None:
    result = invoke("define", "-", "--instrument", "LSSTComCam", option, text=ONE, exit_code=2)
    assert option in result.stderr
    assert "--dsn" in result.stderr


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        (ONE + '\n{"id": ' + "[" * 100_000, "line 2: not JSON"),
        (ONE + '\n{"id"', "line 2"),
        (ONE.replace('"sky_angle"', '"sky_angel"'), "sky_angel"),
        (ONE.replace("LSSTComCam", "LATISS"), "LATISS"),
        ("[3]", "entry 1"),
        ("", "no exposures"),
        (ONE + "\n" + ONE.replace("150.1", "150.2"), "tracking_ra"),
    ],
)
def test_what_is_no_list_of_exposures_is_refused_with_its_place(text: str, complaint: str) -> None:
    result = invoke("define", "-", "--instrument", "LSSTComCam", text=text, exit_code=1)
    assert complaint in result.stderr
    assert result.stdout == ""


def test_an_instrument_without_a_camera_is_a_wrong_configuration() -> None:
    text = ONE.replace("LSSTComCam", "Nobodys")
    result = invoke("define", "-", "--instrument", "Nobodys", text=text, exit_code=78)
    assert "camera" in result.stderr


def header_of(*cards: str, row: dict[str, Any]) -> dict[str, Any]:
    """Make an event of a row, with a header."""
    header = [
        "NAXIS1  = 1000", "NAXIS2  = 1000", "CTYPE1  = 'RA---TAN'", "CTYPE2  = 'DEC--TAN'", "CRVAL1  = 10.0",
        "CRVAL2  = 20.0", "CRPIX1  = 500.5", "CRPIX2  = 500.5", "CD1_1   = -0.0001", "CD1_2   = 0.0",
        "CD2_1   = 0.0", "CD2_2   = 0.0001", *cards,
    ]  # fmt: skip
    return row | {"detector": 4, "wcs": "".join(card.ljust(80) for card in header), "naxis1": 1000, "naxis2": 1000}


@pytest.fixture
def full_raw_wcs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let regions come from the headers of raws."""
    settings = {"LSSTComCam": {"regions": {"algorithm": "full-raw-wcs"}}}
    monkeypatch.setenv("VISIT_CONSUMER_INSTRUMENTS", json.dumps(settings))


@pytest.mark.usefixtures("full_raw_wcs")
def test_regions_of_headers_come_from_events_that_carry_them() -> None:
    night = load_night("lsstcomcam-one-to-one-digits")
    row = next(r for r in rows_of(night.name) if r["tracking_ra"] is not None and r["can_see_sky"] is not False)
    found = invoke_json("define", "-", "--instrument", "LSSTComCam", text=json.dumps([header_of(row=row)]))
    assert [r["detector"] for r in found["visit_detector_region"]] == [4]
    refused = invoke("define", "-", "--instrument", "LSSTComCam", text=json.dumps([row]), exit_code=1)
    assert "no raw" in refused.stderr.lower() or "header" in refused.stderr.lower()


@pytest.mark.usefixtures("full_raw_wcs")
def test_json_stays_json_whatever_astropy_has_to_say_of_a_header(tmp_path: Path) -> None:
    """SIP coefficients without the suffix -SIP: astropy prints a line about them, on standard output."""
    file = tmp_path / "night.json"
    sip = ("A_ORDER = 2", "B_ORDER = 2", "A_2_0   = 1e-7", "B_0_2   = 1e-7")
    file.write_text(json.dumps([header_of(*sip, row=json.loads(ONE))]))
    command = [sys.executable, "-m", "consumer", "define", str(file), "--instrument", "LSSTComCam", "--output", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert [r["detector"] for r in json.loads(done.stdout)["visit_detector_region"]] == [4]
    assert not done.stderr


@pytest.mark.usefixtures("full_raw_wcs")
@pytest.mark.parametrize("value", ["x", -1, 1.5, True, {}, [1]])
@pytest.mark.parametrize("name", ["detector", "wcs", "naxis1", "naxis2"])
def test_a_raws_own_fields_are_checked_like_an_events(name: str, value: object) -> None:
    if name == "wcs" and isinstance(value, str):
        value = "x" * 200_000
    event = header_of(row=json.loads(ONE)) | {name: value}
    refused = invoke("define", "-", "--instrument", "LSSTComCam", text=json.dumps([event]), exit_code=1)
    assert f"entry 1: {name} " in refused.stderr


def test_processes_give_the_same_rows(tmp_path: Path) -> None:
    file = tmp_path / "night.json"
    night = load_night("lsstcomcam-one-to-one-digits")
    file.write_text(json.dumps(rows_of(night.name)))
    # A program of its own: the processes of the pool load the program again, which pytest is not.
    command = [sys.executable, "-m", "consumer", "define", str(file), *options_of(night), "--output", "json"]
    done = subprocess.run([*command, "--processes", "2"], check=True, capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout) == invoke_json("define", file, *options_of(night))
    assert done.stderr == ""


def test_exposures_off_sky_are_named() -> None:
    night = load_night("lsstcomcam-one-to-one-digits")
    rows = rows_of("lsstcomcam-one-to-one-digits")
    result = invoke("define", "-", *options_of(night), text=json.dumps(rows))
    off = sorted(e.id for e in night.exposures if e.off_sky_reason is not None)
    assert f"off sky, and so in no visit: {len(off)} exposures: {', '.join(map(str, off[:10]))}" in result.stderr


def test_an_instrument_without_a_camera_is_one_clear_line() -> None:
    rows = [{"id": 1, "obs_id": "a", "day_obs": 20260304, "group": "1"}]
    result = invoke("define", "-", "--instrument", "NewCam", text=json.dumps(rows), exit_code=78)
    assert result.stderr.startswith("visit-consumer: instrument NewCam: ")
    assert "camera" in result.stderr
    assert "pydantic" not in result.stderr
