"""Files become events on a broker, which the service's decoder reads."""

import json
from pathlib import Path

import pytest

from consumer.commands import emit
from consumer.events import Decoder
from consumer.kafka.mock_cluster import EmbeddedBroker
from consumer.model import ExposureIngested, RawIngested
from tests.integration.test_simulate import read_all
from tests.support.children import free_port
from tests.support.commands import invoke
from tests.support.documents import ROOT

HEADER = json.loads((ROOT / "tests" / "data" / "headers" / "lsstCam-MC_O_20250609_000578_R01_S01.json").read_text())


def write_sidecars(folder: Path) -> None:
    for slot in ("S00", "S01", "S02"):
        (folder / f"{slot}.json").write_text(json.dumps(HEADER["header"] | {"CCDSLOT": slot}))


def settings(folder: Path, bootstrap: str, emits: str) -> Path:
    config = folder / "visits.yaml"
    source = f"source: {{emits: {emits}, topic: raws}}\n"
    config.write_text(f"kafka: {{bootstrap_servers: '{bootstrap}'}}\n{source}")
    return config


def test_raws_and_exposures_are_sent_and_decoded(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    write_sidecars(files)
    with EmbeddedBroker() as broker:
        for emits in ("raw", "exposure"):
            result = invoke("emit", "files", files, "--config", settings(tmp_path, broker.bootstrap, emits))
            assert result.stdout == ""
        found = read_all(broker.bootstrap, "raws", 4)
    assert {key for _, key, _ in found} == {"LSSTCam/2025-06-10T07:31:26.692"}
    events = [Decoder().decode(value) for _, _, value in found]
    raws = [event for event in events if isinstance(event, RawIngested)]
    assert [raw.detector for raw in raws] == [0, 1, 2]
    assert raws[0].uri == f"file://{files}/S00.json"
    (whole,) = [event for event in events if isinstance(event, ExposureIngested)]
    assert whole.detectors == frozenset({0, 1, 2})
    assert whole.exposure == raws[0].exposure


def test_brokers_that_take_nothing_are_given_up_and_what_is_missing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emit, "_SILENT_S", 0.5)
    files = tmp_path / "files"
    files.mkdir()
    write_sidecars(files)
    config = settings(tmp_path, f"127.0.0.1:{free_port()}", "raw")
    result = invoke("emit", "files", files, "--config", config, exit_code=1)
    assert "3 events were not acknowledged: " in result.stderr
    assert result.stderr.strip().endswith("; emit again")


def test_no_more_than_so_many_events_wait_for_the_brokers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emit, "_MOST_UNDELIVERED", 1)
    files = tmp_path / "files"
    files.mkdir()
    write_sidecars(files)
    with EmbeddedBroker() as broker:
        invoke("emit", "files", files, "--config", settings(tmp_path, broker.bootstrap, "raw"))
        assert len(read_all(broker.bootstrap, "raws", 3)) == 3
