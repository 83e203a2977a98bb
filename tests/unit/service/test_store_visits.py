"""What happens to a visit's rows when its regions fail, its rewrite is refused, or its id becomes free."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from consumer.domain import ExposureKey, Instrument, KnownExposure, MergedBatch, StoredVisit, VisitKey
from consumer.domain.closing import Later
from consumer.domain.open_groups import ExposureChange, Member, OpenGroups
from consumer.errors import DataRefusedError, DeadLetterReason, RegionError
from consumer.events.visit_defined import RemovedVisit
from consumer.model import Exposure, GroupKey, RawIngested, RawRegion, VisitRecords, VisitRegions
from consumer.service.apply_batch import _latest
from consumer.service.store_visits import StoreVisitsResult, store_visits
from consumer.service.tables import VisitTables
from tests.support.exposures import exposure
from tests.support.nights import rules_of

INSTRUMENT = "LSSTComCam"
CONFIG = {
    "instrument": INSTRUMENT,
    "camera": "lsstcomcam",
    "group_exposures": "by-group-metadata",
    "group_id": "digits",
    "padding": 0,
    "merge_exposures": False,
}
RULES = rules_of(CONFIG)


@dataclass(frozen=True)
class Failing:
    """An algorithm that has no regions for some pointings."""

    inner: Any
    name: str = "single-raw-wcs"
    padding: int = 0
    needs_headers: bool = False
    required_detectors: frozenset[int] = frozenset()

    def observe(self, raw: RawIngested) -> RawRegion | None:
        raise AssertionError(f"no headers are needed: {raw}")

    def fingerprint(self, exposures: Sequence[Exposure]) -> str:
        return str(self.inner.fingerprint(exposures))

    def compute(self, exposures: Sequence[Exposure], raws: Sequence[RawRegion]) -> VisitRegions:
        if exposures[0].target_name == "nowhere":
            raise RegionError("no such place")
        return cast("VisitRegions", self.inner.compute(exposures, raws))


def removed_visit(id_: int) -> RemovedVisit:
    return RemovedVisit(
        instrument=INSTRUMENT, id=id_, revision=8, name=f"visit {id_}", complete=True, close_reason="idle",
        day_obs=20261101, physical_filter=None, timespan_begin=None, timespan_end=None, region=b"p",
    )  # fmt: skip


@dataclass
class Rows:
    """The tables of visits in memory."""

    visits: dict[int, StoredVisit] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    """Names of visits that the database does not take."""
    conflicts: set[GroupKey] = field(default_factory=set)
    members: dict[GroupKey, list[KnownExposure]] = field(default_factory=dict)
    deleted: list[int] = field(default_factory=list)

    def raw_regions(self, exposures: Iterable[ExposureKey]) -> dict[ExposureKey, list[RawRegion]]:
        raise AssertionError(f"no headers are needed: {list(exposures)}")

    def open_groups(self, keys: Collection[GroupKey]) -> list[Any]:
        assert keys
        return []

    def group_members(self, keys: Collection[GroupKey]) -> list[KnownExposure]:
        return [each for key in keys for each in self.members[key]]

    def delete_groups(self, keys: Collection[GroupKey]) -> None:
        assert keys

    def lock_visits(self, visits: Sequence[tuple[str, int, str]], groups: Collection[GroupKey]) -> list[StoredVisit]:
        ids, names = {each[1] for each in visits}, {each[2] for each in visits}
        return [each for each in self.visits.values() if each.id in ids or each.name in names or each.group in groups]

    def delete_visits(self, visits: Sequence[StoredVisit]) -> list[RemovedVisit]:
        for each in visits:
            del self.visits[each.id]
            self.deleted.append(each.id)
        return [removed_visit(each.id) for each in visits]

    def write_visits(
        self, visits: Sequence[VisitRecords], replaced: Sequence[StoredVisit], *, alone: bool
    ) -> dict[VisitKey, int]:
        assert all(each.id in self.visits for each in replaced)
        if any(each.definition.name in self.refused for each in visits):
            raise DataRefusedError("a row that cannot be stored", sqlstate="22003")
        assert alone or len(visits) > 0
        for each in visits:
            made = each.definition
            self.visits[made.id] = StoredVisit(
                made.instrument, made.id, made.name, each.group, each.inputs_hash, each.regions.visit
            )
        return {VisitKey(INSTRUMENT, each.definition.id): 1 for each in visits}

    def refused_groups(self, instruments: Collection[str]) -> set[GroupKey]:
        return self.conflicts if INSTRUMENT in instruments else set()

    def resolve_dead_letters(self, groups: Collection[GroupKey]) -> None:
        assert groups is not None


def store(
    rows: Rows, *exposures: Exposure, rules: Mapping[str, Instrument] = RULES, alone: bool = False
) -> StoreVisitsResult:
    """Store the visits of exposures, each of a group of one that is complete."""
    buffer = OpenGroups(rules, (), {})
    for number, one in enumerate(replace(each, group_size=1) for each in exposures):
        rows.members.setdefault(GroupKey(INSTRUMENT, one.group), []).append(
            KnownExposure(one, GroupKey(INSTRUMENT, one.group), 1)
        )
        buffer.apply(ExposureChange(1, number, Member(one, arrived=True), GroupKey(INSTRUMENT, one.group), None))
    return store_visits(
        cast("VisitTables", rows), buffer, rules, {}, merged=MergedBatch(), announce=None, alone=alone, stopwatch=float
    )


def test_a_visit_whose_new_regions_cannot_be_computed_goes_and_its_group_is_a_dead_letter() -> None:
    rules = {INSTRUMENT: replace(RULES[INSTRUMENT], algorithm=Failing(RULES[INSTRUMENT].algorithm))}
    rows = Rows()
    store(rows, exposure(1, group="7"), exposure(2, group="8"), rules=rules)
    assert set(rows.visits) == {7, 8}
    rows.members.clear()
    result = store(rows, exposure(1, group="7", target_name="nowhere"), exposure(2, group="8"), rules=rules)
    assert set(rows.visits) == {8}
    assert rows.deleted == [7]
    assert [(each.reason, each.group_key) for each in result.dead_letters] == [(DeadLetterReason.REGION_FAILED, "7")]


def test_a_visit_that_is_refused_with_others_fails_the_batch_and_alone_fails_its_group() -> None:
    rows = Rows(refused={"8"})
    with pytest.raises(DataRefusedError):
        store(rows, exposure(1, group="7"), exposure(2, group="8"))
    rows.members.clear()
    result = store(rows, exposure(1, group="7"), exposure(2, group="8"), alone=True)
    assert set(rows.visits) == {7}
    assert [(each.reason, each.group_key) for each in result.dead_letters] == [
        (DeadLetterReason.REFUSED_BY_DATABASE, "8")
    ]


def test_a_visit_whose_rewrite_is_refused_frees_its_id_to_the_group_that_wanted_it() -> None:
    rows = Rows()
    store(rows, exposure(1, group="A7"))
    assert rows.visits[7].name == "A7"
    store(rows, exposure(2, group="B7"))
    assert rows.visits[7].name == "A7", "the stored visit stays"
    rows.conflicts = {GroupKey(INSTRUMENT, "B7")}
    rows.members[GroupKey(INSTRUMENT, "A7")].clear()
    rows.refused = {"A7"}
    store(rows, exposure(1, group="A7", target_name="another"), alone=True)
    assert rows.visits[7].name == "B7"


def test_the_latest_exposure_of_a_partition_and_an_instrument_supersedes() -> None:
    later = {Later(1, "a", 5), Later(1, "a", 9), Later(1, "a", 7), Later(2, "a", 1), Later(1, "b", 2)}
    assert _latest(later) == {Later(1, "a", 9), Later(2, "a", 1), Later(1, "b", 2)}
