"""Emitters as their users run them: ``visit-consumer emit ...`` as child processes, with what they need."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg

from tests.support.service import Replica, settings_for

BUCKET = "raws"
RETRY: Mapping[str, Any] = {"first_s": 0.2, "max_s": 1.0, "give_up_s": 5.0}


def source_settings(bootstrap: str, dsn: str, topic: str, **source: Any) -> dict[str, Any]:
    """Make settings of a service and of its emitters on topics of a test's own."""
    settings = settings_for(
        bootstrap,
        dsn,
        kafka={"topics": [topic], "group": f"{topic}-service"},
        instruments={"LSSTCam": {}},
    )
    settings["source"] = {
        "waiting_topic": f"{topic}-waiting",
        "rejected_topic": f"{topic}-rejected",
        "retry": RETRY,
        "http_port": 0,
        **source,
    }
    return settings


def topics_of(topic: str) -> tuple[str, str, str]:
    """Return the topics that `source_settings` names."""
    return topic, f"{topic}-waiting", f"{topic}-rejected"


def emitter(folder: Path, settings: Mapping[str, Any], *command: str, **environment: str) -> Replica:
    """Return an emitter, to be used in a ``with`` statement."""
    return Replica(folder, settings, name=f"emit-{command[0]}", command=("emit", *command), environment=environment)


def raws_stored(dsn: str) -> int:
    """Count the raws that the tables have."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "SELECT coalesce(sum(upper(part) - lower(part)), 0) FROM visits.exposure, unnest(detectors) AS part"
        ).fetchone()
    assert row is not None
    return int(row[0])


def visits_stored(dsn: str) -> list[int]:
    """Return the ids of the visits, in order."""
    with psycopg.connect(dsn) as connection:
        return [row[0] for row in connection.execute("SELECT id FROM visits.visit ORDER BY id").fetchall()]


def expected_stored(dsn: str) -> int:
    """Count the exposures of which the tables know which raws they will have."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT count(expected_detectors) FROM visits.exposure").fetchone()
    assert row is not None
    return int(row[0])
