"""Algorithms are found by name, and other packages can add some."""

import sys
from pathlib import Path

import pytest

from consumer.errors import ConfigurationError
from consumer.regions import RegionSettings, algorithm_names, camera_set, get_algorithm
from tests.support.skies import exposure_at

PLUGIN = """
from dataclasses import dataclass
from consumer.model import VisitRegions


@dataclass(frozen=True)
class Everywhere:
    padding: int
    name = "everywhere"
    needs_headers = False
    required_detectors = frozenset()

    def observe(self, raw):
        return None

    def compute(self, exposures, raws):
        return VisitRegions(visit=b"p", detectors=(), detector_regions=(), htm7=())

    def fingerprint(self, exposures):
        return "everywhere"


def make(settings, cameras):
    return Everywhere(settings.padding + len(cameras) + settings.options.get("depth", 0))
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a package that adds two algorithms, one of them broken."""
    (tmp_path / "sky_everywhere.py").write_text(PLUGIN)
    info = tmp_path / "sky_everywhere-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sky-everywhere\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[visit_consumer.region_algorithms]\neverywhere = sky_everywhere:make\nbroken = sky_everywhere:nothing\n"
        "single-raw-wcs = sky_everywhere:make\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "sky_everywhere", raising=False)


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"regions\.algorithm is 'nope'.*full-raw-wcs, single-raw-wcs"):
        get_algorithm("nope", RegionSettings())


@pytest.mark.usefixtures("plugin")
def test_other_packages_add_algorithms() -> None:
    assert algorithm_names() == ("broken", "everywhere", "full-raw-wcs", "single-raw-wcs")
    algorithm = get_algorithm("everywhere", RegionSettings(padding=5), [camera_set(["latiss"])])
    assert algorithm.name == "everywhere"
    assert algorithm.padding == 6
    assert algorithm.compute([exposure_at(0.0, 0.0, 0.0)], []).visit == b"p"
    with_options = RegionSettings(padding=5, options={"depth": 3})
    assert get_algorithm("everywhere", with_options, [camera_set(["latiss"])]).padding == 6 + 3
    with pytest.raises(ConfigurationError, match=r"regions\.options has depth, and full-raw-wcs takes none"):
        get_algorithm("full-raw-wcs", with_options)
    with pytest.raises(
        ConfigurationError, match=r"'broken', whose entry point 'sky_everywhere:nothing' cannot be loaded"
    ):
        get_algorithm("broken", RegionSettings())
    assert get_algorithm("single-raw-wcs", RegionSettings(), [camera_set(["latiss"])]).padding == 250
