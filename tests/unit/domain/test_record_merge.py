import random
from dataclasses import replace
from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.domain.record_merge import Contradiction, ExpectedDetectors, merge_expected, merge_record
from consumer.model import DEFINING_FIELDS, EXPOSURE_FIELDS, Exposure
from tests.support.exposures import exposure, varied

FULL = exposure(3, group_size=2)
NULLABLE = tuple(
    name for name in EXPOSURE_FIELDS if name not in {"instrument", "id", "obs_id", "day_obs", "group", "record_version"}
)
OTHERS = tuple(name for name in EXPOSURE_FIELDS if name not in {*DEFINING_FIELDS, "instrument", "id", "record_version"})


def other_value(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    return value + "x" if isinstance(value, str) else value + 1


def test_the_same_record_changes_nothing() -> None:
    merged = merge_record(FULL, replace(FULL))
    assert merged.exposure is FULL
    assert (merged.changed, merged.contradictions) == (False, ())


def test_higher_version_replaces_the_whole_record() -> None:
    corrected = replace(FULL, record_version=1, target_name=None, tracking_ra=1.0)
    merged = merge_record(FULL, corrected)
    assert (merged.exposure, merged.changed, merged.contradictions) == (corrected, True, ())
    back = merge_record(corrected, FULL)
    assert back.exposure is corrected
    assert (back.changed, back.contradictions) == (False, ())


@pytest.mark.parametrize("name", NULLABLE)
def test_a_value_fills_a_null_and_a_null_erases_nothing(name: str) -> None:
    empty = varied(FULL, {name: None})
    filled = merge_record(empty, FULL)
    assert (filled.exposure, filled.changed, filled.contradictions) == (FULL, True, ())
    kept = merge_record(FULL, empty)
    assert kept.exposure is FULL
    assert (kept.changed, kept.contradictions) == (False, ())


@pytest.mark.parametrize("name", DEFINING_FIELDS)
def test_a_contradiction_merges_nothing(name: str) -> None:
    stored = replace(FULL, target_name=None)
    value = getattr(FULL, name)
    merged = merge_record(stored, varied(FULL, {name: other_value(value)}))
    assert merged.exposure is stored
    assert merged.changed is False
    assert merged.contradictions == (Contradiction(name, value, other_value(value)),)
    assert merged.detail == f"{name}: stored {value!r}, announced {other_value(value)!r}"


def test_all_contradictions_are_named() -> None:
    merged = merge_record(FULL, replace(FULL, group="other", seq_num=9, exposure_time=1.0))
    assert [c.field for c in merged.contradictions] == ["group", "seq_num"]
    assert "; " in merged.detail


@pytest.mark.parametrize("name", OTHERS)
def test_other_fields_may_differ_and_the_first_stays(name: str) -> None:
    stored = replace(FULL, group_size=None)
    merged = merge_record(stored, varied(FULL, {name: other_value(getattr(FULL, name))}))
    assert (merged.exposure, merged.changed, merged.contradictions) == (FULL, True, ())
    again = merge_record(FULL, varied(FULL, {name: other_value(getattr(FULL, name))}))
    assert again.exposure is FULL
    assert (again.changed, again.contradictions) == (False, ())


def test_zero_has_no_sign() -> None:
    stored = replace(FULL, tracking_ra=0.0)
    assert merge_record(stored, replace(FULL, tracking_ra=-0.0)).exposure is stored


@pytest.mark.parametrize("changes", [{"id": 1}, {"instrument": "LATISS"}])
def test_records_of_two_exposures_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not one exposure"):
        merge_record(FULL, varied(FULL, changes))


@st.composite
def agreeing_records(draw: st.DrawFn) -> list[Exposure]:
    """Draw records of up to three versions; those of one version agree wherever both have a value."""
    versions = draw(st.lists(st.integers(0, 2), min_size=1, max_size=6))
    blanks = [draw(st.sets(st.sampled_from(NULLABLE))) for _ in versions]
    return [
        varied(
            FULL,
            {"record_version": version, "obs_id": f"of version {version}", "tracking_ra": float(version)}
            | dict.fromkeys(blank),
        )
        for version, blank in zip(versions, blanks, strict=True)
    ]


def merged_in_order(records: list[Exposure]) -> Exposure:
    kept = records[0]
    for record in records[1:]:
        merged = merge_record(kept, record)
        assert merged.contradictions == ()
        assert merged.changed is (merged.exposure != kept)
        kept = merged.exposure
    return kept


@given(agreeing_records(), st.randoms(use_true_random=False))
def test_order_and_repetition_do_not_show(records: list[Exposure], order: random.Random) -> None:
    shuffled = [*records, *order.choices(records, k=2)]
    order.shuffle(shuffled)
    result = merged_in_order(shuffled)
    assert result == merged_in_order(records)
    highest = max(r.record_version for r in records)
    newest = [r for r in records if r.record_version == highest]
    for name in EXPOSURE_FIELDS:
        known = [value for r in newest if (value := getattr(r, name)) is not None]
        assert getattr(result, name) == (known[0] if known else None)


SETS = st.none() | st.builds(ExpectedDetectors, st.integers(0, 2), st.integers(0, 0b1111))


@given(st.lists(SETS, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_expected_detectors_do_not_depend_on_the_order(
    sets: list[ExpectedDetectors | None], chance: random.Random
) -> None:
    merged = reduce(merge_expected, sets)
    known = [each for each in sets if each is not None]
    latest = max((each.record_version for each in known), default=None)
    named = [each.detectors for each in known if each.record_version == latest]
    assert merged == (
        None if latest is None else ExpectedDetectors(latest, reduce(lambda one, other: one | other, named))
    )
    chance.shuffle(sets)
    assert reduce(merge_expected, [*sets, *sets[:2]]) == merged
