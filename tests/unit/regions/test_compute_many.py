"""Visits computed together have the very regions of visits computed one by one."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from consumer.errors import GroupError, RegionError
from consumer.model import Exposure
from consumer.regions import RegionAlgorithm, RegionSettings, VisitInputs, camera_set, compute_each, get_algorithm
from consumer.simulation import SimulationSettings, simulate_exposures


def _exposures(instrument: str, number: int) -> list[Exposure]:
    return list(
        simulate_exposures(
            SimulationSettings(instrument=instrument, exposures=number, calibrations=0, closed_dome=0, seed=7)
        )
    )


def _one_by_one(algorithm: RegionAlgorithm, visits: Sequence[VisitInputs]) -> list[object]:
    return [algorithm.compute(*each) for each in visits]


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("instrument", ["LSSTCam", "LATISS"])
def test_many_visits_have_the_bytes_of_each_alone(instrument: str, *, merge: bool) -> None:
    exposures = _exposures(instrument, 21)
    turned = [replace(e, tracking_dec=-90.0 + 9 * n, tracking_ra=n * 17.99) for n, e in enumerate(exposures)]
    visits: list[VisitInputs] = [((e,), ()) for e in turned]
    visits += [(exposures[n : n + 2], ()) for n in (0, 5)]
    cameras = [camera_set([instrument])]
    algorithm = get_algorithm("single-raw-wcs", RegionSettings(merge_exposures=merge), cameras)
    together = compute_each(algorithm, visits)
    assert len(together) == 23
    assert together == _one_by_one(algorithm, visits)


def test_a_visit_without_regions_fails_alone() -> None:
    exposures = _exposures("LSSTComCam", 3)
    algorithm = get_algorithm("single-raw-wcs", RegionSettings(), [camera_set(["LSSTComCam"])])
    lost = replace(exposures[1], sky_angle=None)
    found = compute_each(algorithm, [((e,), ()) for e in (exposures[0], lost, exposures[2])])
    assert isinstance(found[1], RegionError)
    assert [found[0], found[2]] == _one_by_one(algorithm, [((exposures[0],), ()), ((exposures[2],), ())])


class _Plain:
    """An algorithm from elsewhere that knows nothing of many at once."""

    def __init__(self, inner: RegionAlgorithm) -> None:
        self.compute = inner.compute
        self.name, self.padding, self.needs_headers = inner.name, inner.padding, inner.needs_headers
        self.required_detectors, self.observe, self.fingerprint = (
            inner.required_detectors,
            inner.observe,
            inner.fingerprint,
        )


def test_an_algorithm_that_computes_one_by_one_will_do() -> None:
    exposures = _exposures("LATISS", 3)
    algorithm = get_algorithm("single-raw-wcs", RegionSettings(), [camera_set(["LATISS"])])
    visits: list[VisitInputs] = [((e,), ()) for e in exposures]
    found = compute_each(_Plain(algorithm), visits)
    assert not any(isinstance(each, GroupError) for each in found)
    assert found == compute_each(algorithm, visits)
