"""The alert rules: sound, tested by promtool, and each explained in the runbook. Live faults: test_prometheus.py."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.prometheus_server import RULES, program

CASES = sorted((Path(__file__).parent / "rules").glob("*.yaml"))
RUNBOOK = Path(__file__).parents[2] / "deploy" / "RUNBOOK.md"
EXPECTED = {
    f"VisitConsumer{name}"
    for name in (
        "Down",
        "Stalled",
        "LagAge",
        "GroupStuck",
        "DeadLetters",
        "Conflicts",
        "DetectorRegionsMissing",
        "FastBurn",
        "SlowBurn",
        "AnnouncementsStuck",
        "AuditFindings",
        "SourceStalled",
        "ButlerSinkBehind",
        "SourceRejecting",
    )
}


def alerts() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def anchors() -> set[str]:
    """Return the anchors of the runbook's headings, as GitHub and GitLab make them."""
    headings = re.findall(r"^#+ (.*)$", RUNBOOK.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_rules_are_sound() -> None:
    done = subprocess.run(
        [program("promtool"), "check", "rules", "--lint=all", "--lint-fatal", str(RULES)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("cases", CASES, ids=lambda path: path.stem)
def test_alerts_fire_and_do_not_fire(cases: Path) -> None:
    done = subprocess.run(
        [program("promtool"), "test", "rules", str(cases)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    assert set(alerts()) == EXPECTED
    fires: set[str] = set()
    silent: set[str] = set()
    for file in CASES:
        for case in yaml.safe_load(file.read_text())["tests"]:
            for check in case.get("alert_rule_test", ()):
                (fires if check["exp_alerts"] else silent).add(check["alertname"])
    assert fires == EXPECTED
    assert silent == EXPECTED


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_an_alert_leads_to_its_part_of_the_runbook(name: str) -> None:
    rule = alerts()[name]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["description"]
    file, anchor = rule["annotations"]["runbook_url"].split("#")
    assert file == "deploy/RUNBOOK.md"  # the chart puts the address of the repository before it
    assert anchor == name.lower()
    assert anchor in anchors()
    section = RUNBOOK.read_text().split(f"### {name}\n")[1].split("\n### ")[0]
    assert all(part in section for part in ("**Means**", "**Look**", "**Do**")), name


def test_links_within_the_runbook_lead_somewhere() -> None:
    targets = re.findall(r"\]\(#([\w-]+)\)", RUNBOOK.read_text())
    assert targets
    assert set(targets) <= anchors()
