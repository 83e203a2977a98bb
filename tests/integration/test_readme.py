"""Every example of the README is executed: what it shows is what there is."""

import re
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from consumer.config import Settings, load_settings
from consumer.events.visit_defined import Announcement, encode_announcement
from consumer.kafka.announcer import KafkaAnnouncer
from consumer.kafka.mock_cluster import EmbeddedBroker
from consumer.metrics import Metrics
from consumer.service.app import migrate_database
from tests.support.exposures import exposure
from tests.support.records import records_of

README = Path(__file__).parents[2] / "README.md"


def example(name: str) -> str:
    found = re.search(rf"<!-- example: {name} -->\n```\w+\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None, f"the README has no example {name!r}"
    return found[1]


def test_the_configuration_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "visits.yaml"
    path.write_text(example("configuration"), encoding="utf-8")
    settings = load_settings(path, {})
    assert settings.instruments["LSSTCam"].camera == ("lsstcam",)
    assert settings.instruments["LATISS"].group_exposures == "by-group-metadata"
    assert (
        yaml.safe_load(path.read_text(encoding="utf-8"))["closing"]["close_after_s"] == settings.closing.close_after_s
    )


def test_the_events_are_encoded_and_decoded() -> None:
    names: dict[str, object] = {}
    exec(example("events"), names)  # noqa: S102 -- the README's own text
    assert isinstance(names["value"], bytes)


def test_the_queries_run(database18: str) -> None:
    with_tables = Settings.model_validate(
        {"kafka": {"bootstrap_servers": "unused:9092"}, "database": {"conninfo": database18}}
    )
    assert migrate_database(with_tables)
    statements = [each for each in example("tables").split(";") if each.strip()]
    assert len(statements) == 3
    with psycopg.connect(database18) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
            assert cursor.description is not None


def test_the_downstream_consumer_is_triggered_once_for_each_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(README.parent)
    names: dict[str, Any] = {}
    exec(example("announcements"), names)  # noqa: S102 -- the README's own text
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
    names = set(re.findall(r"\bvisit_consumer_\w+", example("metrics")))
    assert len(names) == 3
    for name in names:
        assert re.search(rf"^# TYPE {re.sub('_bucket$', '', name)} ", exposed, re.MULTILINE), name


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+?)\)", README.read_text(encoding="utf-8")))
def test_the_links_lead_somewhere(link: str) -> None:
    if not link.startswith("http"):
        assert (README.parent / link).exists()
