"""Every example of the README is executed: what it shows is what there is."""

import re
from pathlib import Path

import psycopg
import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from consumer.app import migrate_database
from consumer.config import Settings, load_settings
from consumer.metrics import Metrics

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
