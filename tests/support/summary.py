"""The last lines of a run: on which brokers, databases and registries its tests ran, and what could not be had."""

from typing import Any

import pytest

_USED = pytest.StashKey[dict[str, set[str]]]()
_NO_KAFKA = pytest.StashKey[str]()


def note(config: pytest.Config, what: str, version: str) -> None:
    """Remember that a test ran on a server, such as ``("PostgreSQL", "18.4")``."""
    config.stash.setdefault(_USED, {}).setdefault(what, set()).add(version)


def note_missing_kafka(config: pytest.Config, reason: str) -> None:
    """Remember that Apache Kafka could not be had, and why."""
    config.stash[_NO_KAFKA] = reason


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send what a worker of a parallel run has noted to the process that prints."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["used"] = {what: sorted(versions) for what, versions in session.config.stash.get(_USED, {}).items()}
        output["no_kafka"] = session.config.stash.get(_NO_KAFKA, "")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a worker has noted; one that crashed says nothing."""
    output = getattr(node, "workeroutput", {})
    for what, versions in output.get("used", {}).items():
        for version in versions:
            note(node.config, what, version)
    if output.get("no_kafka"):
        note_missing_kafka(node.config, output["no_kafka"])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test that asks for Apache Kafka itself, so that ``-m 'not kafka'`` means what it says."""
    for item in items:
        if "kafka" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.kafka)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what the run stood on."""
    for what, versions in sorted(config.stash.get(_USED, {}).items()):
        terminalreporter.write_line(f"ran on {what}: {', '.join(sorted(versions))}")
    reason = config.stash.get(_NO_KAFKA, "")
    if reason:
        terminalreporter.write_line(
            f"NOT on Apache Kafka, only on the mock cluster: its jars could not be had ({reason})",
            yellow=True,
            bold=True,
        )
