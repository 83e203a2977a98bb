"""The batch driver beside the rows that DefineVisitsTask made, and what it does with visits that are stored already."""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from consumer.errors import ConfigurationError, DeadLetterReason, GroupError
from consumer.model import CloseReason, Exposure, VisitRecords
from consumer.regions import RegionSettings, VisitInputs, camera_set, decode, get_algorithm
from consumer.task.define import DefineError, DefineResult, MemoryStore
from consumer.task.define_visits import (
    ComputeVisitRegionsConfig,
    ComputeVisitRegionsTask,
    DefineVisitsConfig,
    DefineVisitsTask,
    GroupExposuresConfig,
    GroupExposuresTask,
    _share,
)
from tests.support.define_visits import Night, load_night, night_names, orders
from tests.support.exposures import exposure, run_of

TOLERANCE_RAD = 1e-12
COUNTS = ("n_new", "n_skipped", "n_fully_updated", "n_partially_updated")


def config_of(rule: str = "by-group-metadata", group_id: str = "digits", **settings: Any) -> DefineVisitsConfig:
    config = DefineVisitsConfig()
    config.groupExposures.retarget(GroupExposuresTask, GroupExposuresConfig(rule=rule, group_id=group_id))
    config.computeVisitRegions.retarget(
        ComputeVisitRegionsTask, ComputeVisitRegionsConfig(settings=RegionSettings(**settings))
    )
    return config


def task_of(store: MemoryStore | None = None, **options: Any) -> DefineVisitsTask:
    return DefineVisitsTask(config_of(**options), store=store if store is not None else MemoryStore())


def night_task(night: Night, store: MemoryStore) -> DefineVisitsTask:
    config = night.config
    return task_of(
        store,
        rule=config["group_exposures"],
        group_id=config["group_id"],
        padding=config["padding"],
        merge_exposures=config["merge_exposures"],
    )


def counted(result: DefineResult) -> dict[str, int]:
    assert sum(getattr(result, name) for name in COUNTS) == result.n_visits
    assert result.n_filtered == 0
    return {name: value for name, value in asdict(result).items() if value and name != "n_visits"}


def only(store: MemoryStore) -> VisitRecords:
    (records,) = store.visits.values()
    return records


def assert_region(found: bytes, expected: str) -> None:
    assert np.abs(decode(found) - decode(bytes.fromhex(expected))).max() <= TOLERANCE_RAD


def check_rows(night: Night, store: MemoryStore) -> None:
    assert {visit for _, visit in store.visits} == {row["id"] for row in night.tables["visit"]}
    for row in night.tables["visit"]:
        records = store.visits[row["instrument"], row["id"]]
        assert records.definition.name == row["name"]
        assert records.aggregate.exposure_time == row["exposure_time"]
        assert_region(records.regions.visit, row["region"])
    definitions = {(e.id, r.definition.id) for r in store.visits.values() for e in r.definition.exposures}
    assert definitions == {(row["exposure"], row["visit"]) for row in night.tables["visit_definition"]}
    detectors = {
        (r.definition.id, d): region
        for r in store.visits.values()
        for d, region in zip(r.regions.detectors, r.regions.detector_regions, strict=True)
    }
    assert detectors.keys() == {(row["visit"], row["detector"]) for row in night.tables["visit_detector_region"]}
    for row in night.tables["visit_detector_region"]:
        assert_region(detectors[row["visit"], row["detector"]], row["region"])


@pytest.mark.parametrize("name", night_names())
def test_night_is_reproduced_with_its_regions(name: str) -> None:
    night = load_night(name)
    store = MemoryStore()
    result = night_task(night, store).run(night.exposures)
    assert counted(result) == {"n_new": len(night.tables["visit"])}
    check_rows(night, store)
    for exposures in list(orders(night.exposures))[1:4]:
        other = MemoryStore()
        night_task(night, other).run([*exposures, *exposures[:5]])
        assert other == store
    assert counted(night_task(night, store).run(night.exposures)) == {"n_skipped": len(night.tables["visit"])}


def test_names_of_the_tasks() -> None:
    task = task_of()
    assert list(task.getTaskDict()) == [
        "defineVisits",
        "defineVisits.groupExposures",
        "defineVisits.computeVisitRegions",
    ]
    task.run([exposure(1)])
    names = task.getFullMetadata().names()
    assert {
        "defineVisits.runStartUtc",
        "defineVisits.runEndCpuTime",
        "defineVisits:groupExposures.groupStartUtc",
        "defineVisits:computeVisitRegions.computeEndUtc",
    } <= names


@pytest.mark.parametrize("make", ["own", "given", "threads"])
def test_pools_give_the_same_rows(make: str) -> None:
    exposures = [exposure(n, tracking_ra=10.0 * n) for n in range(1, 20)]
    told: list[tuple[int, int]] = []
    alone, many = MemoryStore(), MemoryStore()
    task_of(alone).run(exposures)
    task = DefineVisitsTask(config_of(), store=many, progress=lambda done, total: told.append((done, total)))
    if make == "own":
        task.run(exposures, processes=2)
    elif make == "given":
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            task.run(exposures, pool=pool, processes=2)
    else:
        with ThreadPoolExecutor(2) as threads:
            task.run(exposures, pool=threads, processes=2)
    assert len(many.visits) == 19
    assert many == alone
    assert told[-1] == (19, 19)
    assert len(told) > 1


class _Elsewhere:
    """Other processes, of which nothing is known but whether they have answered."""

    def __init__(self, *, answers: bool) -> None:
        self.answers = answers
        self.computed = 0

    def apply_async(self, function: Any, arguments: tuple[Any, ...]) -> Any:  # the interface of multiprocessing
        if self.answers:
            self.computed += 1
        return SimpleNamespace(ready=lambda: self.answers, get=lambda: function(*arguments))


@pytest.mark.parametrize("answers", [True, False])
def test_other_processes_take_a_share_and_are_not_waited_for(answers: bool) -> None:
    algorithm = get_algorithm("single-raw-wcs", RegionSettings(), [camera_set(["latiss"])])
    exposures = [exposure(n, tracking_ra=10.0 * n) for n in range(1, 20)]
    inputs: list[VisitInputs] = [((each,), ()) for each in exposures]
    jobs = [(algorithm, [each]) for each in inputs]
    others = _Elsewhere(answers=answers)
    shared = list(_share(others, jobs, 2))
    assert shared == [[algorithm.compute((each,), ())] for each in exposures]
    assert (0 < others.computed < len(jobs)) == answers


def test_nothing_given() -> None:
    assert task_of().run([]) == DefineResult()


def test_two_instruments() -> None:
    with pytest.raises(DefineError, match="one instrument; these are of LATISS, LSSTComCam"):
        task_of().run([exposure(1), exposure(2, instrument="LATISS")])


def test_contradicting_records() -> None:
    with pytest.raises(DefineError, match=f"exposure {exposure(1).id} contradict each other: seq_num"):
        task_of().run([exposure(1), exposure(1, seq_num=4)])


def test_off_sky_is_skipped_or_refused() -> None:
    dark = exposure(1, can_see_sky=False)
    store = MemoryStore()
    assert task_of(store).run([dark]) == DefineResult()
    assert store.visits == {}
    config = config_of()
    config.ignore_non_science_exposures = False
    with pytest.raises(DefineError, match=f"exposure {dark.id} .science. is not on sky: cannot_see_sky"):
        DefineVisitsTask(config).run([exposure(2), dark])


def test_missing_first_exposure_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    result = task_of(rule="one-to-one-and-by-counter").run(run_of(7, 9)[1:])
    assert counted(result) == {"n_new": 2}
    (record,) = [r for r in caplog.records if r.levelname == "WARNING"]
    assert "first exposure of 7..9" in record.message


def test_collections_are_searched_in_order() -> None:
    config = config_of(rule="one-to-one")
    config.computeVisitRegions.retarget(
        ComputeVisitRegionsTask,
        ComputeVisitRegionsConfig(cameras={"small": camera_set(["latiss"]), "wide": camera_set(["lsstcomcam"])}),
    )
    for collections, detectors in ((None, 1), ("wide", 9), (["wide", "small"], 9), (["small"], 1)):
        store = MemoryStore()
        DefineVisitsTask(config, store=store).run([exposure(1)], collections=collections)
        assert len(only(store).regions.detectors) == detectors
    with pytest.raises(ConfigurationError, match="unknown 'none'; known: small, wide"):
        DefineVisitsTask(config).run([exposure(1)], collections=["small", "none"])


def test_two_groups_that_claim_one_visit() -> None:
    exposures = [exposure(1, group="A12"), exposure(2, group="B12")]
    store = MemoryStore()
    with pytest.raises(GroupError, match="'A12' and 'B12'") as caught:
        task_of(store).run(exposures)
    assert caught.value.reason is DeadLetterReason.VISIT_CONFLICT
    assert only(store).definition.name == "A12"
    result = task_of(store).run(exposures[::-1], skip_conflicting=True)
    assert (counted(result), only(store).definition.name) == ({"n_skipped": 2}, "A12")


SNAPS = run_of(1, 2)
RENAMED = [replace(e, target_name="M31") for e in SNAPS]
MOVED = [replace(SNAPS[0], tracking_dec=2.3), SNAPS[1]]


def stored(exposures: Sequence[Exposure] = SNAPS) -> MemoryStore:
    store = MemoryStore()
    task_of(store).run(exposures)
    return store


@pytest.mark.parametrize("given", [RENAMED, MOVED, SNAPS[:1]])
def test_a_stored_visit_that_differs_is_a_conflict(given: list[Exposure]) -> None:
    store = stored()
    before = only(store)
    with pytest.raises(GroupError, match="visit 1 of LSSTComCam is stored") as caught:
        task_of(store).run([exposure(9), *given])
    assert caught.value.reason is DeadLetterReason.VISIT_CONFLICT
    assert only(store) is before


@pytest.mark.parametrize("given", [RENAMED, MOVED, SNAPS[:1]])
def test_skip_conflicting_leaves_it_alone(given: list[Exposure]) -> None:
    store = stored()
    before = only(store)
    result = task_of(store).run([exposure(9), *given], skip_conflicting=True)
    assert counted(result) == {"n_skipped": 1, "n_new": 1}
    assert store.visits["LSSTComCam", 1] is before


@pytest.mark.parametrize("given", [RENAMED, MOVED])
def test_update_records_rewrites_everything(given: list[Exposure]) -> None:
    store = stored()
    assert counted(task_of(store).run(given, update_records=True)) == {"n_fully_updated": 1}
    assert store == stored(given)


def test_update_records_removes_no_member() -> None:
    store = stored()
    assert counted(task_of(store).run(SNAPS[:1], update_records=True)) == {"n_fully_updated": 1}
    assert [e.id for e in only(store).definition.exposures] == [e.id for e in SNAPS]
    assert only(store).aggregate.exposure_time == SNAPS[0].exposure_time


@pytest.mark.parametrize(("given", "count"), [(RENAMED, "n_partially_updated"), (MOVED, "n_fully_updated")])
def test_incremental_rewrites_detectors_only_with_the_region(given: list[Exposure], count: str) -> None:
    store = stored()
    assert counted(task_of(store).run(given, incremental=True)) == {count: 1}
    assert store == stored(given)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("rule", ["by-group-metadata", "one-to-one-and-by-counter"])
def test_incremental_adds_to_the_stored_members(rule: str, order: int) -> None:
    whole, grown = MemoryStore(), MemoryStore()
    task_of(whole, rule=rule).run(SNAPS)
    for one in SNAPS[::order]:
        task_of(grown, rule=rule).run([one], incremental=True)
    assert {k: replace(r, close_reason=CloseReason.IDLE) for k, r in grown.visits.items()} == {
        k: replace(r, close_reason=CloseReason.IDLE) for k, r in whole.visits.items()
    }


def test_prefilter_computes_nothing_for_known_members() -> None:
    store = stored()
    told: list[int] = []
    task = DefineVisitsTask(config_of(), store=store, progress=lambda done, _: told.append(done))
    result = task.run([*MOVED, exposure(9)], prefilter=True)
    assert (result.n_visits, result.n_new, result.n_filtered) == (1, 1, 2)
    assert told == [1]
    with pytest.raises(TypeError, match="prefilter=True cannot be used with"):
        task_of(store).run(SNAPS, prefilter=True, incremental=True)


def test_the_last_bits_of_a_region_are_no_difference() -> None:
    store = stored()
    good = only(store)
    moved = np.frombuffer(good.regions.visit[1:], dtype="<f8") * (1 + 1e-15)
    assert moved.tobytes() != good.regions.visit[1:]
    other = replace(
        good,
        inputs_hash=b"of an older camera",
        regions=replace(good.regions, visit=good.regions.visit[:1] + moved.tobytes()),
    )
    store.visits["LSSTComCam", 1] = other
    assert counted(task_of(store).run(SNAPS)) == {"n_skipped": 1}
    assert only(store) is other
