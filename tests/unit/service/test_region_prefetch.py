"""What is prefetched: the very regions that the transaction would compute, for the very object, and nothing else."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from consumer.domain import Instrument
from consumer.model import Exposure, RawRegion, VisitDefinition
from consumer.regions import RegionAlgorithm
from consumer.service.region_prefetch import Prefetched, RegionPrefetch, prefetched_regions
from tests.support.exposures import exposure
from tests.support.nights import rules_of

ONE_TO_ONE = {
    "instrument": "LSSTComCam",
    "camera": "lsstcomcam",
    "group_exposures": "one-to-one",
    "group_id": "lsst",
    "padding": 0,
    "merge_exposures": False,
}


def prefetched(rules: Mapping[str, Instrument], *exposures: Exposure) -> Prefetched:
    foresight = RegionPrefetch(rules)
    for each in exposures:
        foresight.note(each)
    foresight.compute()
    return foresight.take()


def visit_of(*exposures: Exposure) -> VisitDefinition:
    return VisitDefinition(
        instrument="LSSTComCam", id=1, name="a", visit_systems=(0,), exposures=exposures, complete=True
    )


def test_the_visit_of_a_noted_exposure_has_the_regions_that_the_algorithm_gives() -> None:
    rules = rules_of(ONE_TO_ONE)
    one, two = exposure(1), exposure(2, tracking_ra=211.0)
    found = prefetched(rules, one, two)
    for each in (one, two):
        computed = rules["LSSTComCam"].algorithm.compute((each,), ())
        assert prefetched_regions(found, visit_of(each), ()) == computed
    assert prefetched_regions(found, visit_of(one), ()) != prefetched_regions(found, visit_of(two), ())


def test_only_the_object_itself_alone_and_without_headers_is_recognised() -> None:
    one, two = exposure(1), exposure(2)
    found = prefetched(rules_of(ONE_TO_ONE), one, two)
    assert prefetched_regions(found, visit_of(replace(one)), ()) is None
    assert prefetched_regions(found, visit_of(one, two), ()) is None
    header = RawRegion(instrument="LSSTComCam", exposure=one.id, detector=4, pointing=(1.0, 2.0, 3.0))
    assert prefetched_regions(found, visit_of(one), (header,)) is None


BY_GROUP, BY_COUNTER = {"group_exposures": "by-group-metadata"}, {"group_exposures": "one-to-one-and-by-counter"}


@pytest.mark.parametrize(
    ("changes", "one"),
    [
        (BY_GROUP, exposure(1)),
        (BY_GROUP, exposure(1, group_size=2)),
        (BY_COUNTER, exposure(1, seq_end=2)),
        ({"regions": {"wcs_source": "header", "detector_id": 4}}, exposure(1)),
    ],
)
def test_groups_that_wait_and_regions_that_need_headers_are_left_to_the_transaction(
    changes: dict[str, Any], one: Exposure
) -> None:
    assert not prefetched(rules_of(ONE_TO_ONE, **changes), one)


@pytest.mark.parametrize(("changes", "one"), [(BY_GROUP, exposure(1, group_size=1)), (BY_COUNTER, exposure(1))])
def test_a_group_of_one_is_foreseen_under_every_rule(changes: dict[str, Any], one: Exposure) -> None:
    assert list(prefetched(rules_of(ONE_TO_ONE, **changes), one)) == [id(one)]


def test_off_sky_unconfigured_and_failing_exposures_are_left_to_the_transaction() -> None:
    rules = rules_of(ONE_TO_ONE, regions={"require_versioned_camera": True})
    assert not prefetched(rules, exposure(1))
    others = (exposure(1, can_see_sky=False), exposure(2, tracking_ra=None), exposure(3, instrument="LATISS"))
    assert not prefetched(rules_of(ONE_TO_ONE), *others)


class Counting:
    """An algorithm that counts the visits that it computes."""

    def __init__(self, inner: RegionAlgorithm) -> None:
        self.computed: list[int] = []
        self._compute = inner.compute
        self.name, self.padding, self.needs_headers = inner.name, inner.padding, inner.needs_headers
        self.required_detectors, self.observe = inner.required_detectors, inner.observe
        self.fingerprint = inner.fingerprint

    def compute(self, exposures: Any, raws: Any) -> Any:
        self.computed += [each.id for each in exposures]
        return self._compute(exposures, raws)


def test_an_exposure_of_two_batches_is_computed_once() -> None:
    rules = rules_of(ONE_TO_ONE)
    counting = Counting(rules["LSSTComCam"].algorithm)
    foresight = RegionPrefetch({"LSSTComCam": replace(rules["LSSTComCam"], algorithm=counting)})
    one = exposure(1)
    foresight.note(one)
    foresight.compute()
    assert len(foresight.take()) == 1
    foresight.note(one)
    foresight.compute()
    assert not foresight.take()
    assert counting.computed == [one.id]
