"""The commands ``camera check`` and ``camera plot``."""

from importlib import resources
from pathlib import Path

from tests.support.commands import invoke

LATISS = resources.files("consumer.regions.camera").joinpath("data", "latiss.json").read_text(encoding="utf-8")


def test_good_and_bad_camera_files(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(LATISS)
    bad.write_text(LATISS.replace('"position_mm": [-0.515, -0.055]', '"position_mm": [-515000, 0]'))
    assert "good" in invoke("camera", "check", good).stdout
    result = invoke("camera", "check", good, bad, exit_code=1)
    assert f"{bad}: error" in result.stdout
    assert "camera check" in invoke("camera", "check", "--help").stdout


def test_every_fault_of_a_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "bad.json"
    file.write_text(LATISS.replace('"flip_x"', '"flipped"').replace('"version"', '"edition"'))
    lines = invoke("camera", "check", file, exit_code=1).stdout.splitlines()
    assert all(line.startswith(f"{file}: error: camera file {file}: ") for line in lines)
    faults = {line.rpartition(f"{file}: ")[2] for line in lines}
    assert faults == {"flip_x is missing", "flipped is no known key", "version is missing", "edition is no known key"}


def test_a_drawing_of_the_focal_plane(tmp_path: Path) -> None:
    picture = tmp_path / "latiss.png"
    assert "1 detectors" in invoke("camera", "plot", "latiss", picture).stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "nobody" in invoke("camera", "plot", "nobody", picture, exit_code=78).stderr


def test_a_picture_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "latiss.xyz"
    result = invoke("camera", "plot", "latiss", str(target), exit_code=2)
    assert "latiss.xyz: a picture ends with one of .png, .pdf, .svg" in result.stderr
    assert not target.exists()
