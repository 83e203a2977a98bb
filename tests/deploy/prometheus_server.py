"""A Prometheus of the tests' own (Debian package ``prometheus``): its programs, a server on a free port, its API."""

import json
import os
import shutil
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import yaml

from tests.support.children import Child, free_port
from tests.support.waiting import give_up_at

RULES = Path(__file__).parents[2] / "deploy" / "helm" / "visit-consumer" / "rules" / "visit-consumer.yaml"
SHORTENED: Mapping[str, str] = {
    "interval: 15s": "interval: 500ms",
    "interval: 30s": "interval: 500ms",
    "for: 2m": "for: 2s",
    "for: 15m": "for: 2s",
    "visit_consumer_position_offset[1m]": "visit_consumer_position_offset[4s]",
    "> 60\n": "> 20\n",
    "> 3900": "> 8",
    "> 120\n": "> 5\n",
    "> 600\n": "> 6\n",
    "< 120)": "< 5)",
    "< 60)": "< 4)",
    ">= 60)": ">= 4)",
    "visit_consumer_source_in_flight_objects[1m]": "visit_consumer_source_in_flight_objects[4s]",
    "visit_consumer_source_last_event_timestamp_seconds[1m]": "visit_consumer_source_last_event_timestamp_seconds[4s]",
}
"""What the live test changes in the rules, so that it need not take an hour: how long a state must last, thresholds of
age, and the windows of `changes` and `min_over_time`. Everything else, the objective's windows and guards included,
stays as shipped."""


def program(name: str) -> str:
    """Find ``prometheus`` or ``promtool``; without it skip the test, or fail where ``REQUIRE_PROMETHEUS=1``."""
    found = shutil.which(name)
    if found is None:
        message = f"no {name} (Debian: apt-get install prometheus)"
        if os.environ.get("REQUIRE_PROMETHEUS") == "1":
            pytest.fail(f"REQUIRE_PROMETHEUS=1, but: {message}")
        pytest.skip(message)
    return found


def shortened_rules() -> str:
    """Return the shipped rules with the durations of `SHORTENED`; every one of them must still be there to replace."""
    text = RULES.read_text()
    for long, short in SHORTENED.items():
        assert long in text, f"the rules have no {long!r} any more: adapt SHORTENED"
        text = text.replace(long, short)
    return text


class PrometheusServer:
    """One server that scrapes targets twice a second and evaluates rules as often.

    Parameters
    ----------
    folder
        For its configuration, its log and its data.
    targets
        ``host:port`` of the consumer and the emitter.
    rules
        Text of a rule file.
    """

    def __init__(self, folder: Path, targets: Sequence[str], rules: str) -> None:
        self.port = free_port()
        (folder / "rules.yaml").write_text(rules)
        config = {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
            "rule_files": [str(folder / "rules.yaml")],
            "scrape_configs": [
                {
                    "job_name": "visit-consumer",
                    "static_configs": [{"targets": list(targets), "labels": {"namespace": "test"}}],
                }
            ],
        }
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        command = [
            program("prometheus"),
            f"--config.file={folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]
        self._child = Child(command, folder / "prometheus.log")

    def __enter__(self) -> Self:
        """Wait until it answers."""
        self._child.wait_until(self._ready, what="Prometheus", timeout_s=30)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        if self._child.running:
            os.kill(self._child.pid, 9)
            self._child.wait(10)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Evaluate an expression now; an instant vector comes back, or a scalar as one nameless sample."""
        data = self._get("query?" + urllib.parse.urlencode({"query": expression}))["data"]
        if data["resultType"] == "scalar":
            return [{"metric": {}, "value": data["result"]}]
        found: list[dict[str, Any]] = data["result"]
        return found

    def active_alerts(self, state: str | None = None) -> set[str]:
        """Return the names of the alerts that are pending or firing, or in one of these states."""
        alerts = self._get("alerts")["data"]["alerts"]
        return {each["labels"]["alertname"] for each in alerts if state in (None, each["state"])}

    def rule_errors(self) -> list[str]:
        """Return what went wrong in the evaluation of rules."""
        groups = self._get("rules")["data"]["groups"]
        return [f"{rule['name']}: {rule['lastError']}" for g in groups for rule in g["rules"] if rule.get("lastError")]

    def wait_for(self, wanted: Callable[[], bool], *, what: str, timeout_s: float) -> None:
        """Poll until something holds; fail the test with its name where it does not in time."""
        deadline = give_up_at(timeout_s)
        while not wanted():
            assert time.monotonic() < deadline, f"{what}: not after {timeout_s} s; alerts: {self.active_alerts()}"
            time.sleep(0.25)

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}", timeout=10) as answer:
            return json.load(answer)
