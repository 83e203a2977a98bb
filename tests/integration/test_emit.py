"""Files become events on a broker, which the service's decoder reads."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from consumer.events import Decoder
from consumer.kafka.mock_cluster import EmbeddedBroker
from consumer.model import ExposureIngested, RawIngested
from consumer.sources import emitter
from consumer.sources.interfaces import FoundObject
from tests.integration.test_simulate import read_all
from tests.support.children import free_port
from tests.support.commands import invoke, invoke_json
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
        broker.create_topic("raw-rejected")
        for emits in ("raw", "exposure"):
            result = invoke("emit", "files", files, "--config", settings(tmp_path, broker.bootstrap, emits))
            assert result.stdout == ""
        found = read_all(broker.bootstrap, "raws", 4)
    assert {key for _, key, _ in found} == {"LSSTCam/2025-06-10T07:31:26.692"}
    events = [Decoder().decode(value) for _, _, value in found]
    raws = [event for event in events if isinstance(event, RawIngested)]
    assert [raw.detector for raw in raws] == [0, 1, 2]
    assert raws[0].uri == f"{files}/S00.json"
    (whole,) = [event for event in events if isinstance(event, ExposureIngested)]
    assert whole.detectors == frozenset({0, 1, 2})
    assert whole.exposure == raws[0].exposure


def test_brokers_that_do_not_answer_are_named(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    write_sidecars(files)
    config = settings(tmp_path, f"127.0.0.1:{free_port()}", "raw")
    result = invoke("emit", "files", files, "--config", config, exit_code=1)
    assert "the brokers cannot be asked for topics: " in result.stderr


def test_brokers_that_go_away_are_given_up_and_what_is_missing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emitter, "_SILENT_S", 0.5)
    files = tmp_path / "files"
    files.mkdir()
    write_sidecars(files)
    with EmbeddedBroker() as broker:
        broker.create_topic("raw-rejected")
        config = settings(tmp_path, broker.bootstrap, "raw")
        offer = emitter.Emitter.offer

        def offer_without_brokers(self: emitter.Emitter, found: Iterable[FoundObject]) -> None:
            broker.__exit__(None, None, None)
            offer(self, found)

        monkeypatch.setattr(emitter.Emitter, "offer", offer_without_brokers)
        result = invoke("emit", "files", files, "--config", config, exit_code=1)
    assert "3 messages were not acknowledged: " in result.stderr
    assert result.stderr.strip().endswith("; emit again")


def test_what_is_rejected_is_listed_and_can_be_looked_up(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    write_sidecars(files)
    (files / "S01.json").write_text("{")
    with EmbeddedBroker() as broker:
        broker.create_topic("raw-rejected")
        config = settings(tmp_path, broker.bootstrap, "raw")
        result = invoke("emit", "files", files, "--config", config, exit_code=1)
        assert f"rejected: {files}/S01.json: " in result.stderr
        assert "3 objects: 2 events, 1 rejected" in result.stderr
        (row,) = invoke_json("emit", "rejected", "list", "--config", config)
    assert (row["uri"], row["reason"], row["command"]) == (f"{files}/S01.json", "truncated", "files")
