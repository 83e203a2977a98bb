"""The how-to about a camera of one's own, followed step by step."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import invoke
from tests.support.documents import ROOT, example

PAGE = ROOT / "docs" / "how-to" / "add-a-camera.md"
CAMERA = ROOT / "consumer" / "regions" / "camera" / "data" / "README.md"


def test_a_camera_is_checked_configured_and_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (camera,) = re.findall(r"```json\n(.*?)```", CAMERA.read_text(encoding="utf-8"), re.DOTALL)
    Path("twincam.json").write_text(camera)
    assert invoke("camera", "check", "twincam.json").stdout == "twincam.json: good\n"
    (settings,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    Path("visits.yaml").write_text(settings)
    assert "The configuration is good." in invoke("check-config", "--config", "visits.yaml").stdout
    Path("exposures.jsonl").write_text(example(PAGE, "exposure"))
    options = ("--instrument", "TwinCam", "--camera", "twincam.json", "--padding", 0, "--output", "json")
    Path("visits.json").write_text(invoke("define", "exposures.jsonl", *options).stdout)
    command = [sys.executable, "-W", "ignore", "-c", example(PAGE, "corners")]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for line in printed.splitlines():
        _, corners = line.split(" ", 1)
        for ra_deg, dec_deg in json.loads(corners.replace("(", "[").replace(")", "]")):
            assert abs(ra_deg - 53.1) < 0.5
            assert abs(dec_deg + 27.8) < 0.5
    assert [line.split(" ", 1)[0] for line in printed.splitlines()] == ["0", "1"]
