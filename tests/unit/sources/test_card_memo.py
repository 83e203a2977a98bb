"""One translation for equal cards, another one for any card that it depends on."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from consumer.sources.card_memo import CardMemo, RecordingHeader
from consumer.sources.translate import Translator
from tests.unit.sources.test_reference_headers import FOLDER, new_translator


def count_of(compute: Callable[[RecordingHeader], object], size: int = 10) -> tuple[CardMemo[object], list[int]]:
    calls: list[int] = []

    def counting(header: RecordingHeader) -> object:
        calls.append(1)
        return compute(header)

    return CardMemo(counting, size=size), calls


def test_only_cards_that_were_read_count() -> None:
    memo, calls = count_of(lambda header: header["A"] if header.get("B") else header.get("C", "none"))
    assert memo.get({"A": 1, "B": True, "Z": 5}) == 1
    assert memo.get({"A": 1, "B": True, "C": 9}) == 1
    assert len(calls) == 1
    assert memo.get({"A": 1, "B": False, "C": 9}) == 9
    assert memo.get({"A": 2, "B": False, "C": 9}) == 9
    assert len(calls) == 2
    assert memo.get({"A": 1, "B": False}) == "none"
    assert memo.get({"A": 2, "B": True}) == 2


def test_values_of_other_types_and_absent_cards_are_other_values() -> None:
    memo, calls = count_of(lambda header: repr(header["A"]) if "A" in header else "absent")
    results = [memo.get(each) for each in ({"A": 1}, {"A": 1.0}, {"A": True}, {"A": None}, {"A": "1"}, {})]
    assert results == ["1", "1.0", "True", "None", "'1'", "absent"]
    assert len(calls) == 6


def test_whoever_walks_through_all_keywords_depends_on_all() -> None:
    memo, calls = count_of(lambda header: sorted(key for key in header if "SIM" in key))
    assert memo.get({"A": 1}) == []
    assert memo.get({"A": 2}) == []
    assert len(calls) == 1
    assert memo.get({"A": 1, "SIM": 1}) == ["SIM"]


def test_memory_is_bounded_and_changes_stay_out_of_the_header() -> None:
    memo, calls = count_of(lambda header: header["A"], size=3)
    for value in (1, 2, 3, 4, 1):
        memo.get({"A": value})
    assert len(calls) == 5
    header = {"A": 1}
    recording = RecordingHeader(header)
    recording["A"] = 2
    del recording["B"]
    assert (recording["A"], recording["B"], header) == (2, None, {"A": 1})


def test_the_raws_of_an_exposure_share_one_translation(monkeypatch: pytest.MonkeyPatch) -> None:
    document = json.loads((FOLDER / "lsstCam-MC_O_20250609_000578_R01_S01.json").read_text())
    calls: list[int] = []
    inner = Translator._translate

    def counting(self: Translator, header: RecordingHeader) -> Any:
        calls.append(1)
        return inner(self, header)

    monkeypatch.setattr(Translator, "_translate", counting)
    translator = new_translator()
    for slot in ("S00", "S01", "S02", "S10"):
        own = {"CCDSLOT": slot, "LSST_NUM": slot, "FILENAME": f"{slot}.fits", "CCDGAIN": slot}
        record = translator.translate(document["header"] | own, slot)
        assert record.uri == slot
    assert len(calls) == 1
    assert translator.translate(document["header"] | {"SEQNUM": 577}, "x").exposure.id == 2025060900577
    assert len(calls) == 2


@pytest.mark.parametrize(
    "name",
    ["lsstCam-MC_O_20250609_000578_R01_S01", "fitsheader-hsc-HSCA04090107"],
)
def test_no_difference_in_any_card_is_masked(name: str) -> None:
    document = json.loads((FOLDER / f"{name}.json").read_text())
    warm = new_translator()
    warm.translate(document["header"], "x")
    differing = 0
    for keyword, value in document["header"].items():
        changed = {**document["header"], keyword: value + 1 if type(value) in (int, float) else None}
        outcomes = [outcome(translator, changed) for translator in (warm, new_translator())]
        assert outcomes[0] == outcomes[1], keyword
        differing += outcomes[0] != outcome(warm, document["header"])
    assert differing > 10


def outcome(translator: Translator, header: dict[str, Any]) -> object:
    try:
        return translator.translate(header, "x")
    except Exception as error:  # noqa: BLE001  # either outcome is compared
        return str(error)
