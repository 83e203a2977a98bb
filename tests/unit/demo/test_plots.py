"""Pictures are drawn anywhere on the sky, and say what is missing."""

import sys
from pathlib import Path

import numpy as np
import pytest

from consumer.demo import plots
from consumer.errors import ConfigurationError
from consumer.regions import built_in_camera, decode, vertices_deg
from tests.support.skies import boresight_algorithm, exposure_at

matplotlib_image = pytest.importorskip("matplotlib.image")


def colours(path: Path) -> int:
    """Count the distinct colours of a picture: an empty one has few."""
    pixels = (matplotlib_image.imread(path)[..., :3] * 255).astype(np.uint8).reshape(-1, 3)
    return len(np.unique(pixels, axis=0))


@pytest.mark.parametrize("name", ["lsstcam", "latiss"])
def test_focal_plane(name: str, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "focal_plane.png"
    plots.plot_focal_plane(built_in_camera(name), path)
    assert colours(path) > 100


@pytest.mark.parametrize(
    ("camera", "ra", "dec"),
    [("lsstcam", 250.0, 2.0), ("lsstcam", 0.2, -35.0), ("lsstcam", 10.0, 90.0), ("latiss", 3.0, -89.99)],
)
def test_footprint(camera: str, ra: float, dec: float, tmp_path: Path) -> None:
    path = tmp_path / "footprint.png"
    plots.plot_footprint(boresight_algorithm(camera).compute([exposure_at(ra, dec, 33.0)], []), path, "a visit")
    assert colours(path) > 100


def test_east_is_left_and_distances_are_true_at_ra_0_and_the_pole() -> None:
    for ra, dec in ((0.0, 0.0), (0.0, 60.0), (123.0, 89.9)):
        region = boresight_algorithm("lsstcomcam").compute([exposure_at(ra, dec, 0.0)], []).visit
        vertices = decode(region)
        centre = vertices.sum(axis=0) / np.linalg.norm(vertices.sum(axis=0))
        plane = plots._tangent_plane(centre).wcs_world2pix(vertices_deg(region), 0)
        size = np.ptp(plane, axis=0)
        np.testing.assert_allclose(size, [0.728, 0.724], atol=0.02)
        east = np.array([-np.sin(np.radians(ra)), np.cos(np.radians(ra)), 0.0])
        assert np.all(np.sign(plane[:, 0]) == -np.sign(vertices @ east))


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigurationError, match=r"pip install .*\[demo\]"):
        plots.plot_focal_plane(built_in_camera("latiss"), tmp_path / "x.png")
