"""The regions that Rubin published, corner by corner."""

import numpy as np
import pytest

from consumer.model import in_time_order
from consumer.regions import decode
from tests.support.define_visits import exposure_of, load_night, night_names
from tests.support.skies import boresight_algorithm, published

TOLERANCE = 1e-12


def assert_same_region(ours: bytes, theirs: str) -> None:
    one, other = decode(ours), decode(bytes.fromhex(theirs))
    assert one.shape == other.shape
    assert np.linalg.norm(one - other, axis=-1).max() < TOLERANCE


def test_published_lsstcam_visit() -> None:
    visit = published()["LSSTCamSim"]
    algorithm = boresight_algorithm(visit["camera"], padding=visit["padding"])
    regions = algorithm.compute([exposure_of(visit["exposures"][0])], [])
    assert regions.detectors == tuple(range(205))
    assert len(visit["visit_detector_region"]) == 205
    for detector, region in zip(regions.detectors, regions.detector_regions, strict=True):
        assert_same_region(region, visit["visit_detector_region"][str(detector)])
    assert_same_region(regions.visit, visit["visit"]["region"])
    assert regions.camera_version == "LSSTCam nominal"


@pytest.mark.parametrize("name", night_names())
def test_regions_of_define_visits(name: str) -> None:
    night = load_night(name)
    config = night.config
    algorithm = boresight_algorithm(
        config["camera"].removesuffix(".json"), padding=config["padding"], merge_exposures=config["merge_exposures"]
    )
    exposures = {e.id: e for e in night.exposures}
    assert len(night.tables["visit"]) >= 10
    for visit in night.tables["visit"]:
        members = [exposures[r["exposure"]] for r in night.tables["visit_definition"] if r["visit"] == visit["id"]]
        regions = algorithm.compute(in_time_order(members), [])
        assert_same_region(regions.visit, visit["region"])
        rows = [r for r in night.tables["visit_detector_region"] if r["visit"] == visit["id"]]
        assert sorted(r["detector"] for r in rows) == list(regions.detectors)
        ours = dict(zip(regions.detectors, regions.detector_regions, strict=True))
        for row in rows:
            assert_same_region(ours[row["detector"]], row["region"])
