"""Files become events on a broker, which the service's decoder reads."""

import json
from pathlib import Path

from consumer.errors import TransientError
from consumer.events import Decoder
from consumer.kafka.event_producer import EventProducer
from consumer.kafka.mock_cluster import EmbeddedBroker
from consumer.model import ExposureIngested, RawIngested
from tests.integration.test_simulate import read_all
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


def test_an_event_that_is_not_acknowledged_is_reported() -> None:
    reports: list[TransientError | None] = []
    producer = EventProducer({"bootstrap.servers": "127.0.0.1:1", "message.timeout.ms": 200, "log_level": 0})
    producer.send("raws", "key", b"value", reports.append)
    assert producer.flush(10.0) == 0
    assert [type(report) for report in reports] == [TransientError]
