"""``emit files`` and ``emit check``, and the worked example of an instrument that the package does not ship."""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from consumer.config import load_settings
from consumer.sources.header_map import MappedField
from tests.support.commands import invoke, invoke_json
from tests.support.documents import ROOT, example

HEADERS = ROOT / "tests" / "data" / "headers"
LSSTCAM = HEADERS / "lsstCam-MC_O_20250609_000578_R01_S01.json"
PAGE = ROOT / "docs" / "how-to" / "bring-your-own-camera.md"


def events(*arguments: object, exit_code: int = 0) -> list[dict[str, Any]]:
    result = invoke("emit", "files", "--dry-run", *arguments, exit_code=exit_code)
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_dry_run_prints_events_and_nothing_else() -> None:
    (event,) = events(LSSTCAM)
    assert list(event)[:2] == ["instrument", "exposure"]
    assert (event["exposure"], event["detector"]) == (2025060900578, 1)
    assert event["uri"] == str(LSSTCAM)
    assert event["physical_filter"] == "z_20"
    assert event["record_version"] == 1


def test_folders_and_globs_are_listed_and_rejections_named(tmp_path: Path) -> None:
    night = tmp_path / "20250609" / "deep"
    night.mkdir(parents=True)
    header = json.loads(LSSTCAM.read_text())["header"]
    for slot in ("S00", "S01", "S02"):
        (night / f"{slot}.json").write_text(json.dumps(header | {"CCDSLOT": slot}))
    (night / "notes.txt").write_text("not listed")
    assert [each["detector"] for each in events(tmp_path)] == [0, 1, 2]
    assert [each["detector"] for each in events(night / "S0[12].json")] == [1, 2]
    (night / "cut.json").write_text('{"INSTRUME": "LSST')
    (night / "other.json").write_text('{"INSTRUME": "WFC9"}')
    result = invoke("emit", "files", "--dry-run", tmp_path, night / "none.fits", exit_code=1)
    assert len(result.stdout.splitlines()) == 3
    assert re.search(r"cut\.json: .*\(truncated\)", result.stderr)
    assert re.search(r"other\.json: INSTRUME is 'WFC9'.*\(unknown_instrument\)", result.stderr)
    assert re.search(r"none\.fits: .*\(missing\)", result.stderr)
    assert "6 objects: 3 events, 3 rejected" in result.stderr


def test_a_raw_and_its_sidecar_are_one(tmp_path: Path) -> None:
    shutil.copy(LSSTCAM, tmp_path / "a.json")
    assert len(events(tmp_path)) == 1
    (tmp_path / "a.fits").write_bytes(b"")
    assert events(tmp_path, exit_code=1) == []


def test_exposures_are_announced_once_with_their_detectors(tmp_path: Path) -> None:
    header = json.loads(LSSTCAM.read_text())["header"]
    for slot in ("S00", "S01", "S02"):
        (tmp_path / f"{slot}.json").write_text(json.dumps(header | {"CCDSLOT": slot}))
    config = tmp_path / "visits.yaml"
    config.write_text("source: {emits: exposure}\n")
    (event,) = events(tmp_path / "S0*.json", "--config", config)
    assert event["detectors"] == [0, 1, 2]
    assert "detector" not in event


def test_check_shows_where_each_value_comes_from() -> None:
    rows = {row["field"]: (row["value"], row["from"]) for row in invoke_json("emit", "check", LSSTCAM)}
    assert rows["exposure"] == ("2025060900578", "DAYOBS, CONTRLLR, SEQNUM")
    assert rows["exposure_time"] == ("30.0", "EXPTIME")
    assert rows["timespan_begin"] == ("1749540715279841423 (2025-06-10T07:31:55.279841423 TAI)", "MJD-BEG")
    assert rows["physical_filter"] == ("z_20", "correction lsstcam.yaml[10]")
    assert rows["detector"] == ("1", "RAFTBAY, CCDSLOT")
    assert "sky_angle" in invoke("emit", "check", LSSTCAM).stdout
    old = HEADERS / "latiss-AT_O_20200128_000335.json"
    assert "DAYOBS is 20200128" in invoke("emit", "check", old, exit_code=1).stderr


def test_raws_whose_own_wcs_matters_carry_it(tmp_path: Path) -> None:
    config = tmp_path / "visits.yaml"
    config.write_text("instruments: {LSSTCamSim: {regions: {algorithm: full-raw-wcs}}}\n")
    sim = HEADERS / "lsstCamSim-MC_S_20240321_000720_R22_S11.json"
    (event,) = events(sim, "--config", config)
    assert (event["naxis1"], event["naxis2"]) == (576, 2048)
    assert len(event["wcs"]) % 80 == 0
    assert "CTYPE1  = 'RA---TAN-SIP'" in event["wcs"]
    assert events(sim)[0]["wcs"] is None


@pytest.fixture
def twincam(tmp_path: Path) -> Path:
    camera = (ROOT / "consumer" / "regions" / "camera" / "data" / "README.md").read_text()
    (tmp_path / "twincam.json").write_text(re.findall(r"```json\n(.*?)```", camera, re.DOTALL)[0])
    (tmp_path / "twincam-headers.yaml").write_text(example(PAGE, "header map"))
    (tmp_path / "corrections.yaml").write_text(example(PAGE, "corrections"))
    (tmp_path / "night.json").write_text(example(PAGE, "header"))
    return tmp_path


def test_the_worked_example_of_the_page_gives_its_exposure(twincam: Path) -> None:
    header_map = ("--header-map", twincam / "twincam-headers.yaml")
    (event,) = events(twincam / "night.json", *header_map)
    expected = {
        "instrument": "TwinCam",
        "exposure": 12345,
        "obs_id": "TWIN00012345",
        "day_obs": 20261101,
        "seq_num": 2345,
        "group": "12345",
        "physical_filter": "V",
        "exposure_time": 120.0,
        "observation_type": "science",
        "target_name": "NGC 253",
        "can_see_sky": True,
        "has_simulated": False,
        "detector": 0,
        "sky_angle": 88.5,
        "record_version": 0,
    }
    assert {name: event[name] for name in expected} == expected
    assert event["tracking_ra"] == pytest.approx(11.8879167, abs=1e-4)
    assert event["zenith_angle"] == pytest.approx(36.8699, abs=1e-4)
    rows = {row["field"]: row["from"] for row in invoke_json("emit", "check", twincam / "night.json", *header_map)}
    assert rows["exposure_time"] == "EXPTIME (fallback, EXPREQ is missing)"
    assert rows["timespan_begin"] == "DATE-OBS, UT"
    assert rows["observation_reason"] == "REASON is missing, default"


def test_the_corrections_of_the_page_raise_the_version(twincam: Path) -> None:
    options = ("--header-map", twincam / "twincam-headers.yaml", "--corrections", twincam / "corrections.yaml")
    (event,) = events(twincam / "night.json", *options)
    assert (event["sky_angle"], event["record_version"]) == (-1.5, 2)


def test_the_settings_and_the_further_sources_of_the_page_are_good(
    twincam: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(twincam)
    config = twincam / "visits.yaml"
    base = "kafka: {bootstrap_servers: b}\ndatabase: {conninfo: dbname=v}\n"
    config.write_text(base + example(PAGE, "settings"))
    assert "TwinCam" in load_settings(config, {}).instruments
    assert len(events("night.json", "--config", config)) == 1
    for source in yaml.safe_load(example(PAGE, "more sources")).values():
        MappedField.model_validate(source)


def test_every_key_of_a_source_is_in_the_page() -> None:
    text = PAGE.read_text()
    assert [key for key in MappedField.model_fields if f"`{key}`" not in text and f"`{key}:" not in text] == []


def test_wrong_files_of_settings_are_configuration_errors(twincam: Path) -> None:
    (twincam / "corrections.yaml").write_text(
        "format: visit-consumer-corrections/1\ninstrument: A\ncorrections: [{days: 1}]"
    )
    arguments = ("emit", "files", "--dry-run", twincam / "night.json", "--corrections", twincam / "corrections.yaml")
    assert "corrections[0]: changes nothing" in invoke(*arguments, exit_code=78).stderr
    assert "unknown://x" in invoke("emit", "files", "--dry-run", "unknown://x", exit_code=78).stderr


def test_without_its_extra_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    for name in [name for name in sys.modules if name.startswith(("consumer.sources", "consumer.commands.emit"))]:
        monkeypatch.delitem(sys.modules, name)
    assert (
        "pip install '.[sources]' at the top of a checkout"
        in invoke("emit", "files", "--dry-run", "x", exit_code=1).stderr
    )
    assert "Not installed: needs fsspec" in invoke("--help").stdout
