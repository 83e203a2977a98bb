"""Every scenario that was run on the original: the same counts, errors and rows, or a difference that is documented."""

import json
from dataclasses import replace
from typing import Any

import pytest

from consumer.model import Exposure
from consumer.regions import decode
from consumer.task.define import DatabaseConflictError, DefineOptions, MemoryStore
from consumer.task.define_visits import DefineVisitsConfig, DefineVisitsTask
from consumer.task.options import DIFFERENCES, OUTCOMES, OfflineChange, Situation
from deploy.reference.options import options_reference
from tests.support.define_visits import DATA, Row, exposure_of
from tests.support.exposures import exposure

SCENARIOS: dict[str, Row] = json.loads((DATA / "options" / "scenarios.json").read_text())
DIFFERING = {name for each in DIFFERENCES for name in each.scenarios}
OURS_OF_DIFFERING: dict[str, list[Any]] = {
    "second_snap_update_records": [{"n_visits": 1, "n_new": 1}, {"n_visits": 1, "n_fully_updated": 1}],
    "incremental_second_snap_alone": [{"n_visits": 1, "n_new": 1}, {"n_visits": 1, "n_partially_updated": 1}],
    "off_sky_member_incremental": [{"n_visits": 1, "n_new": 1}, {"n_visits": 1, "n_partially_updated": 1}],
    "counter_missing_other_day_incremental": [{"n_visits": 3, "n_new": 3}, {"n_visits": 2, "n_new": 2}],
    "backwards_counter": [{"n_visits": 3, "n_new": 3}],
    "duplicate_seq_num_counter": [{"n_visits": 3, "n_new": 3}],
    "mixed_filters": [{"n_visits": 1, "n_new": 1}],
    "no_timespan": [{"n_visits": 1, "n_new": 1}],
    "day_obs_differs_in_group": [{"n_visits": 1, "n_new": 1}],
    "zero_length_timespan": [{"n_visits": 1, "n_new": 1}],
}
"""Counts of the scenarios whose counts or rows differ on purpose."""


def task_of(scenario: Row, store: MemoryStore) -> DefineVisitsTask:
    """Configure the task in the original's spelling."""
    config = DefineVisitsConfig()
    config.groupExposures.name = scenario["rule"]
    config.groupExposures.value.group_id = scenario["group_id"]  # type: ignore[attr-defined]
    config.computeVisitRegions["single-raw-wcs"].padding = scenario["padding"]
    return DefineVisitsTask(config, store=store)


def outcomes_of(scenario: Row, store: MemoryStore) -> list[Any]:
    """Run the steps; return the counts that are not zero, or the class of the error."""
    outcomes: list[Any] = []
    for step in scenario["steps"]:
        if step["before"] == "drop_vdr":
            for key, v in store.visits.items():
                kept = [(n, r) for n, r in zip(v.regions.detectors, v.regions.detector_regions, strict=True) if n != 4]
                regions = replace(
                    v.regions, detectors=tuple(n for n, _ in kept), detector_regions=tuple(r for _, r in kept)
                )
                store.visits[key] = replace(v, regions=regions)
        exposures = [exposure_of(row) for row in step["exposures"]]
        try:
            result = task_of(scenario, store).run(exposures, **step["options"])
        except (DatabaseConflictError, TypeError) as error:
            outcomes.append(f"{type(error).__name__}: {error}")
        else:
            counts = {name: getattr(result, name) for name in result.__slots__}
            outcomes.append({name: value for name, value in counts.items() if value})
    return outcomes


def assert_row(store: MemoryStore, visit: int, expected: Row) -> None:
    stored = store.visits["LSSTComCam", visit]
    own = stored.aggregate
    assert stored.definition.name.startswith(expected["name"])
    assert [e.id % 100_000 for e in stored.definition.exposures] == expected["members"]
    assert (own.target_name, own.exposure_time, own.physical_filter) == (
        expected["t"], expected["et"], expected["filt"],
    )  # fmt: skip
    assert own.azimuth is not None
    assert (own.azimuth - expected["az"] + 180) % 360 - 180 == pytest.approx(0, abs=1e-9)
    assert len(stored.regions.detectors) == expected["vdr"]
    region = bytes.fromhex(expected["region"])
    if len(region) > 12:
        assert abs(decode(stored.regions.visit) - decode(region)).max() < 1e-12
    else:
        # Its first bytes: a type code, and the first corner's x but for the last bits.
        corner = decode(region[:1] + region[1:9] * 3 + bytes(48))[0, 0] if len(region) >= 9 else None
        assert corner == pytest.approx(decode(stored.regions.visit)[0, 0], abs=1e-12)
    for name, mine in (
        ("seq", own.seq_num), ("reason", own.observation_reason), ("day", own.day_obs),
        ("ts", [own.timespan_begin, own.timespan_end]), ("systems", list(stored.definition.visit_systems)),
    ):  # fmt: skip
        if name in expected:
            assert mine == expected[name], name


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_a_scenario_ends_as_in_the_original_or_as_documented(name: str) -> None:
    scenario, store = SCENARIOS[name], MemoryStore()
    outcomes = outcomes_of(scenario, store)
    real = scenario["real"]
    if name in DIFFERING:
        assert outcomes == OURS_OF_DIFFERING[name]
        return
    for mine, theirs in zip(outcomes, real["outcome"], strict=True):
        if isinstance(theirs, str):
            assert str(mine).split(":")[0] == theirs.split(":")[0]
            if theirs.startswith("DatabaseConflictError"):
                assert "visit 2025120" in mine
        else:
            assert mine == theirs
    assert sorted(visit for _, visit in store.visits) == sorted(map(int, real["rows"]))
    for visit, row in real["rows"].items():
        assert_row(store, int(visit), row)


def test_every_difference_names_scenarios_and_every_scenario_that_differs_is_named() -> None:
    assert DIFFERING == OURS_OF_DIFFERING.keys() <= SCENARIOS.keys()
    assert all(each.scenarios and each.reason for each in DIFFERENCES)


def test_a_further_member_becomes_one_by_update_records() -> None:
    store = MemoryStore()
    outcomes_of(SCENARIOS["second_snap_update_records"], store)
    (visit,) = store.visits.values()
    assert [e.id % 100_000 for e in visit.definition.exposures] == [1, 2]
    assert visit.aggregate.exposure_time == 30.0


@pytest.mark.parametrize("name", ["incremental_second_snap_alone", "off_sky_member_incremental"])
def test_incremental_keeps_the_region_of_the_earliest_member_and_leaves_out_what_is_off_sky(name: str) -> None:
    scenario, store, before = SCENARIOS[name], MemoryStore(), MemoryStore()
    outcomes_of({**scenario, "steps": scenario["steps"][:1]}, before)
    outcomes_of(scenario, store)
    ((key, visit),) = store.visits.items()
    assert visit.regions.visit == before.visits[key].regions.visit
    assert [e.id % 100_000 for e in visit.definition.exposures] == [1, 2]
    assert visit.aggregate.exposure_time == 30.0


def test_each_exposure_whose_number_is_the_first_of_its_run_is_named_so() -> None:
    for name, firsts in (("backwards_counter", [2]), ("duplicate_seq_num_counter", [1, 2])):
        store = MemoryStore()
        outcomes_of(SCENARIOS[name], store)
        named = [v.definition for v in store.visits.values() if v.definition.name.endswith("_first")]
        assert [v.exposures[0].id % 100_000 for v in named] == firsts


def test_columns_without_a_common_value_are_null() -> None:
    for name, column in (("mixed_filters", "physical_filter"), ("no_timespan", "timespan_begin")):
        store = MemoryStore()
        outcomes_of(SCENARIOS[name], store)
        (visit,) = store.visits.values()
        assert getattr(visit.aggregate, column) is None
    store = MemoryStore()
    outcomes_of(SCENARIOS["zero_length_timespan"], store)
    (visit,) = store.visits.values()
    assert visit.aggregate.timespan_begin == visit.aggregate.timespan_end == 1764748781000000000


def test_a_detector_region_that_differs_is_left_where_only_missing_ones_are_restored() -> None:
    scenario = SCENARIOS["check_regions_fine"]
    store = MemoryStore()
    outcomes_of({**scenario, "steps": scenario["steps"][:1]}, store)
    ((key, visit),) = store.visits.items()
    shifted = (visit.regions.detector_regions[1], *visit.regions.detector_regions[1:])
    store.visits[key] = replace(visit, regions=replace(visit.regions, detector_regions=shifted))
    again = {**scenario, "steps": [{**scenario["steps"][1], "before": None}]}
    assert outcomes_of(again, store) == [{"n_visits": 1, "n_skipped": 1}]
    assert store.visits[key].regions.detector_regions == shifted
    outcomes_of({**again, "steps": [{**again["steps"][0], "options": {"update_records": True}}]}, store)
    assert store.visits[key].regions.detector_regions == visit.regions.detector_regions


@pytest.mark.parametrize("situation", list(Situation))
def test_the_table_of_outcomes_decides_every_situation_without_an_option(situation: Situation) -> None:
    plain = [each for each in OUTCOMES if situation in each.situations and each.option is None]
    assert len(plain) == 1
    options = [each.option for each in OUTCOMES if situation in each.situations and each.option is not None]
    assert all(option in DefineOptions.__dataclass_fields__ for option in options)
    assert (plain[0].change is None) is (situation in {"claimed", *_conflicting()})


def _conflicting() -> set[Situation]:
    return {Situation.CLAIMED, Situation.ROW_DIFFERS, Situation.REGION_DIFFERS}


def test_each_change_has_its_count() -> None:
    names = {f"n_{change}" for change in OfflineChange}
    assert names | {"n_visits", "n_filtered"} == set(DefineVisitsTask().run([]).__slots__)


class _Timespan:
    nsec = (1_793_577_671_000_000_000, 1_793_577_701_000_000_000)


class _Record:
    def __init__(self, of: Exposure) -> None:
        self._of = of

    def toDict(self) -> dict[str, object]:  # noqa: N802 -- the Butler's name
        own = {name: getattr(self._of, name) for name in self._of.__dataclass_fields__}
        for name in ("record_version", "group_size", "timespan_begin", "timespan_end"):
            del own[name]
        return {**own, "timespan": _Timespan()}


def test_data_ids_and_records_of_a_butler_stand_for_exposures() -> None:
    one, two = exposure(1), exposure(2)
    expected = MemoryStore()
    DefineVisitsTask(store=expected).run([one, two])
    store = MemoryStore(registered=(two,))
    result = DefineVisitsTask(store=store).run([_Record(one), {"instrument": "LSSTComCam", "exposure": two.id}])
    assert (result.n_new, store.visits) == (2, expected.visits)


@pytest.mark.parametrize(
    ("data_id", "message"),
    [
        ({"instrument": "LSSTComCam", "exposure": 7}, "not stored: exposure 7 of LSSTComCam"),
        ({"instrument": "LSSTComCam"}, "is no data id of an exposure"),
    ],
)
def test_wrong_data_ids_are_named(data_id: dict[str, object], message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        DefineVisitsTask().run([data_id])


def test_the_documented_options_are_those_of_the_tables() -> None:
    text = (DATA.parents[1] / "docs" / "define-visits-options.md").read_text()
    assert text == options_reference(), "run: python -m deploy.reference.options > docs/define-visits-options.md"


def test_settings_have_the_names_of_the_original() -> None:
    config = DefineVisitsConfig()
    config.ignoreNonScienceExposures = False
    config.updateObsCoreTable = False
    config.groupExposures.name = "by-group-metadata"
    config.computeVisitRegions.name = "single-raw-wcs"
    config.computeVisitRegions["single-raw-wcs"].mergeExposures = True
    config.computeVisitRegions.active.detectorId = 4
    config.computeVisitRegions.active.requireVersionedCamera = True
    task = DefineVisitsTask(config)
    settings = task.computeVisitRegions.config.settings
    assert task.groupExposures.rule.name == "by-group-metadata"
    assert (settings.merge_exposures, settings.detector_id, settings.require_versioned_camera) == (True, 4, True)
    assert config.computeVisitRegions.active.mergeExposures is True
    assert config.ignore_non_science_exposures is False
    with pytest.raises(AttributeError, match="no setting 'mergedExposures'"):
        config.computeVisitRegions.active.mergedExposures = True
