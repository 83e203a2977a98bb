"""Every example of the README, of the interfaces and of the runbook is executed: what they show is what there is."""

import re
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from consumer.config import Settings, load_settings
from consumer.config.instruments import ClosingSettings, known_instruments
from consumer.events import Decoder
from consumer.events.visit_defined import Announcement, encode_announcement
from consumer.kafka.announcer import KafkaAnnouncer
from consumer.kafka.mock_cluster import EmbeddedBroker
from consumer.metrics import Metrics
from consumer.service.app import migrate_database
from tests.support.documents import ROOT, example
from tests.support.exposures import exposure
from tests.support.records import records_of

INTERFACES = ROOT / "docs" / "interfaces.md"
README = ROOT / "README.md"
RUNBOOK = ROOT / "deploy" / "RUNBOOK.md"


@pytest.mark.parametrize("document", [README, INTERFACES], ids=lambda path: path.name)
def test_the_configuration_is_accepted(tmp_path: Path, document: Path) -> None:
    path = tmp_path / "visits.yaml"
    path.write_text(example(document, "configuration"), encoding="utf-8")
    settings = load_settings(path, {})
    assert settings.instruments["LSSTCam"].camera == ("lsstcam",)
    assert settings.instruments["LATISS"].group_exposures == "by-group-metadata"


def test_the_configuration_of_the_interfaces_writes_defaults_out(tmp_path: Path) -> None:
    path = tmp_path / "visits.yaml"
    path.write_text(example(INTERFACES, "configuration"), encoding="utf-8")
    settings = load_settings(path, {})
    assert settings.closing == ClosingSettings()
    assert settings.instruments["LSSTCam"] == known_instruments()["LSSTCam"]


def test_the_events_are_encoded_and_decoded() -> None:
    names: dict[str, object] = {}
    exec(example(INTERFACES, "events"), names)  # noqa: S102 -- the document's own text
    assert isinstance(names["value"], bytes)
    names.clear()
    exec(example(INTERFACES, "exposure events"), names)  # noqa: S102 -- the same
    assert names["taken"] != names["stored"]


def test_the_event_of_the_readme_becomes_a_visit_by_the_task() -> None:
    names: dict[str, Any] = {}
    exec(example(README, "event"), names)  # noqa: S102 -- the README's own text
    assert Decoder().decode(names["message"]).exposure == names["exposure"]
    exec(example(README, "task"), names)  # noqa: S102 -- the same
    assert names["result"].n_new == 1
    assert list(names["visits"]) == [("LSSTCam", 2026110100042)]


def test_the_announcement_of_the_readme_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {}
    exec(example(README, "announcement"), names)  # noqa: S102 -- the README's own text
    payload = encode_announcement(records_of([exposure()], visit=7), 3, defined_at_us=0)
    decoded = names["decode"](payload)
    assert (decoded["visit"], decoded["revision"]) == (7, 3)


def test_the_queries_run(database18: str) -> None:
    with_tables = Settings.model_validate(
        {"kafka": {"bootstrap_servers": "unused:9092"}, "database": {"conninfo": database18}}
    )
    assert migrate_database(with_tables)
    queries = example(INTERFACES, "tables") + example(README, "rows")
    statements = [each for each in queries.split(";") if each.strip()]
    assert len(statements) == 4
    of_the_runbook = re.findall(r"SELECT [^;`]+ FROM [^;`]+", RUNBOOK.read_text(encoding="utf-8"))
    assert len(of_the_runbook) == 2
    statements += of_the_runbook
    with psycopg.connect(database18) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
            assert cursor.description is not None


def test_the_downstream_consumer_is_triggered_once_for_each_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {}
    exec(example(INTERFACES, "announcements"), names)  # noqa: S102 -- the document's own text
    revisions = [(1, 1), (1, 1), (2, 1), (1, 2), (1, 1), (2, 1), (1, 2), (3, 1)]
    with EmbeddedBroker() as broker:
        announcer = KafkaAnnouncer({"bootstrap.servers": broker.bootstrap}, "visit-defined")
        for number, (visit, revision) in enumerate(revisions):
            payload = encode_announcement(records_of([exposure()], visit=visit), revision, defined_at_us=0)
            sent = announcer.send(
                [Announcement(id=number, instrument="LATISS", visit=1, payload=payload)], stopping=lambda: False
            )
            assert sent.acknowledged == [number]
        triggered = names["new_revisions"](broker.bootstrap)
        found = [(each["visit"], each["revision"]) for each in islice(triggered, 4)]
        triggered.close()
    assert found == [(1, 1), (2, 1), (1, 2), (3, 1)]


def test_the_metrics_exist() -> None:
    metrics = Metrics(CollectorRegistry(), instruments=["LSSTCam"])
    exposed = generate_latest(metrics.registry).decode()
    names = set(re.findall(r"\bvisit_consumer_\w+", example(INTERFACES, "metrics")))
    assert len(names) == 3
    for name in names:
        assert re.search(rf"^# TYPE {re.sub('_bucket$', '', name)} ", exposed, re.MULTILINE), name
