"""Real headers of many instruments give the exposure records that their observatories' own translators make."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from consumer.config.instruments import KNOWN_INSTRUMENTS
from consumer.regions import built_in_camera
from consumer.sources.corrections import Corrections
from consumer.sources.model import RejectedError, SourceRecord
from consumer.sources.translate import Translator

FOLDER = Path(__file__).parents[2] / "data" / "headers"
FILES = sorted(FOLDER.glob("*.json"))
CARDS_REMOVED = {"DECam": {"science_program", "timespan_end"}, "HSC": {"science_program"}}
"""Fields whose cards the files do not have; see the README beside them."""
REJECTED = {file.stem: "DAYOBS" for file in FILES if re.search(r"20(18|19|20|21)(?=-|\d{4})", file.stem)} | {
    "lsstCam-MC_H_20100217_000032_R22_S00": "MJD-OBS",
    "lsstCam-faked-future-ccs": "MJD-OBS",
}
"""Headers of the laboratory, which follow other rules, and two whose times are not of their observing day."""


def detector_ids(instrument: str) -> dict[str, int]:
    known = KNOWN_INSTRUMENTS.get(instrument)
    return {} if known is None else {d.name: d.id for d in built_in_camera(known["camera"]).detectors}


def new_translator(*corrections: Path) -> Translator:
    return Translator(corrections=Corrections(corrections), detector_ids=detector_ids)


def differences(record: SourceRecord, truth: dict[str, Any]) -> dict[str, tuple[object, object]]:
    found = {}
    for name, expected in truth.items():
        if name in {"detector", "detector_name"} | CARDS_REMOVED.get(record.instrument, set()):
            continue
        value = getattr(record.exposure, name)
        if name.startswith("timespan_") and expected is not None:
            same = value is not None and abs(value - expected) <= 1000
        elif isinstance(expected, float):
            same = value is not None and abs(value - expected) <= 1e-9
        else:
            same = value == expected and type(value) is type(expected)
        if not same:
            found[name] = (value, expected)
    return found


def test_the_files_are_there() -> None:
    assert len(FILES) == 28
    assert len(REJECTED) == 12


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_header_gives_the_observatorys_record_or_a_rejection_that_names_the_keyword(file: Path) -> None:
    document = json.loads(file.read_text())
    truth = document["exposure"]
    if file.stem in REJECTED:
        with pytest.raises(RejectedError, match=REJECTED[file.stem]):
            new_translator().translate(document["header"], file.name)
        return
    record = new_translator().translate(document["header"], file.name)
    assert differences(record, truth) == {}
    name = truth["detector_name"]
    expected = truth["detector"] if truth["detector"] is not None else detector_ids(truth["instrument"])[name]
    assert record.detector == expected


def test_the_observatorys_correction_of_one_exposure_is_data(tmp_path: Path) -> None:
    document = json.loads((FOLDER / "lsstCam-MC_O_20251121_000156_R44_SW0.json").read_text())
    entry = {"exposures": 2025112100156, "set": document["corrected"], "version": 3}
    file = tmp_path / "lsstcam.yaml"
    content = {"format": "visit-consumer-corrections/1", "instrument": "LSSTCam", "corrections": [entry]}
    file.write_text(yaml.safe_dump(content))
    record = new_translator(tmp_path).translate(document["header"], "x")
    assert differences(record, document["exposure"] | document["corrected"]) == {}
    assert record.exposure.record_version == 3


def test_header_corrections_in_the_librarys_way_are_applied(tmp_path: Path) -> None:
    document = json.loads((FOLDER / "latiss-AT_O_20230705_000379_R00_S00.json").read_text())
    (tmp_path / "LATISS-AT_O_20230705_000379.yaml").write_text("EXPTIME: 31.5\nGROUPID: corrected\n")
    translator = Translator(corrections=Corrections(), detector_ids=detector_ids, search_path=[str(tmp_path)])
    record = translator.translate(document["header"], "x", explain=True)
    assert (record.exposure.exposure_time, record.exposure.group) == (31.5, "corrected")
    assert record.provenance["exposure_time"] == "EXPTIME (header correction)"
    assert record.provenance["dark_time"] == "DARKTIME"
    assert document["header"]["EXPTIME"] == 30.0


HEADER = json.loads((FOLDER / "lsstCam-MC_O_20250609_000578_R01_S01.json").read_text())["header"]


def exposure(**cards: Any) -> Any:
    return new_translator().translate({**HEADER, "DAYOBS": "20250901", **cards}, "x").exposure


@pytest.fixture(autouse=True)
def _same_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HEADER, "MJD-BEG", 60919.313834257424)
    monkeypatch.setitem(HEADER, "DATE-END", "2025-09-01T07:32:26.229")


@pytest.mark.parametrize(
    ("day", "controller", "expected"),
    [
        ("20250417", "P", 5025041700578),
        ("20250418", "P", 2025041800578),
        ("20231004", "C", 3023100400578),
        ("20231005", "C", 2023100500578),
        ("20250901", "H", 4025090100578),
    ],
)
def test_controllers_count_together_or_a_thousand_years_apart(
    day: str, controller: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    date = f"{day[:4]}-{day[4:6]}-{day[6:]}T20:00:00.000"
    monkeypatch.setitem(HEADER, "MJD-BEG", None)
    monkeypatch.setitem(HEADER, "DATE-END", None)
    assert exposure(DAYOBS=day, CONTRLLR=controller, **{"DATE-BEG": date}).id == expected


def test_pointing_needs_a_type_that_looks_at_the_sky_and_coordinates_that_are_tracked() -> None:
    assert exposure().tracking_ra is not None
    assert exposure().sky_angle == pytest.approx(131.35723576573005, abs=1e-9)
    assert exposure(IMGTYPE="BIAS").tracking_ra is None
    assert exposure(IMGTYPE="DARK").tracking_ra is not None
    assert exposure(IMGTYPE="DARK").sky_angle is None
    assert exposure(TRACKSYS="LOCAL").tracking_ra is None
    assert exposure(ROTCOORD="mount").sky_angle is None
    assert exposure(ROTPA=None, ROTANGLE=7.0).sky_angle == 7.0
    assert exposure(RASTART=None).tracking_ra == pytest.approx(320.62687495816675, abs=1e-9)


def test_what_says_whether_the_sky_is_seen() -> None:
    assert exposure().can_see_sky is True
    assert exposure(SHUTTIME=0.0).can_see_sky is False
    assert exposure(VIGN_MIN="FULLY").can_see_sky is False
    assert exposure(VIGN_MIN="PARTIALLY").can_see_sky is True
    assert exposure(VIGN_MIN="UNKNOWN").can_see_sky is None
    assert exposure(VIGN_MIN=None).can_see_sky is None
    assert exposure(VIGN_MIN=None, INSTRUME="LSSTCamSim", IMGTYPE="DARK").can_see_sky is False


def test_filters_are_joined_as_the_observatory_does() -> None:
    assert exposure(FILTER="r_57", FILTER2="ND_OD1.0").physical_filter == "r_57~ND_OD1.0"
    assert exposure(FILTER="r_57", FILTER2="empty").physical_filter == "r_57"
    assert exposure(FILTER=None, FILTER2="ND_OD1.0").physical_filter == "unknown"
    assert exposure(FILTER="NONE").physical_filter == "none"


def test_groups_simulation_elevation_and_end() -> None:
    assert exposure(GROUPID=None).group == "2025090100578"
    counted = exposure(SEQNUM=20, CURINDEX=2, MAXINDEX=3)
    assert (counted.seq_start, counted.seq_end) == (19, 21)
    assert exposure(**{"HIERARCH.SIMULATE.MTDOME": 1}).has_simulated is True
    assert exposure(CONTRLLR="S").has_simulated is True
    assert exposure(ELSTART=90.001).zenith_angle == 0.0
    backwards = exposure(**{"DATE-END": "2025-09-01T06:00:00.000"})
    assert backwards.timespan_end == backwards.timespan_begin


@pytest.mark.parametrize(
    ("cards", "keyword"),
    [
        ({"SEQNUM": None}, "SEQNUM"),
        ({"OBSID": ""}, "OBSID"),
        ({"CONTRLLR": "X"}, "CONTRLLR"),
        ({"DAYOBS": "2025"}, "DAYOBS"),
        ({"MJD-BEG": 40587.0}, "MJD-BEG"),
        ({"RAFTBAY": "R99"}, "R99_S01"),
        ({"CCDSLOT": None}, "CCDSLOT"),
        ({"INSTRUME": "WFC9"}, "INSTRUME"),
        ({"INSTRUME": None}, "INSTRUME"),
    ],
)
def test_a_rejection_names_the_keyword(cards: dict[str, Any], keyword: str) -> None:
    with pytest.raises(RejectedError, match=keyword):
        exposure(**cards)


def test_shipped_corrections_apply_to_their_days_and_sequences() -> None:
    corrections = Corrections()

    def corrected(**fields: object) -> Any:
        record = {**dict.fromkeys(("id", "seq_num")), "instrument": "LSSTCam", "record_version": 0}
        record |= {"can_see_sky": True, "physical_filter": "i_39", "science_program": "BLOCK-417", "sky_angle": 10.0}
        return corrections.apply(record | fields).record

    assert corrected(day_obs=20250302)["sky_angle"] == -80.0
    assert corrected(day_obs=20250422, seq_num=250)["sky_angle"] == -170.0
    assert corrected(day_obs=20250422, seq_num=250, sky_angle=200.0)["sky_angle"] == 20.0
    assert corrected(day_obs=20250422, seq_num=251)["sky_angle"] == 10.0
    assert corrected(day_obs=20250518)["can_see_sky"] is False
    assert corrected(day_obs=20250707, seq_num=864)["can_see_sky"] is False
    assert corrected(day_obs=20250707, seq_num=824)["can_see_sky"] is True
    assert corrected(day_obs=20260315, seq_num=49, physical_filter="r_57")["physical_filter"] == "i_39"
    assert corrected(day_obs=20250827)["science_program"] == "BLOCK-T417"
    assert corrected(day_obs=20250829)["science_program"] == "BLOCK-417"
    assert corrected(day_obs=20241015, physical_filter="ph_05")["physical_filter"] == "ph_5"
    assert corrected(day_obs=20250518)["record_version"] == 1
    assert corrected(day_obs=20250829)["record_version"] == 0
    assert corrected(day_obs=20250518, instrument="LATISS")["can_see_sky"] is True
