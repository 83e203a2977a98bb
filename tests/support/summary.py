"""The last lines of a run: on which brokers, databases and registries its tests ran, and what could not be had."""

import pytest

_USED = pytest.StashKey[dict[str, set[str]]]()
_NO_KAFKA = pytest.StashKey[str]()


def note(config: pytest.Config, what: str, version: str) -> None:
    """Remember that a test ran on a server, such as ``("PostgreSQL", "18.4")``."""
    config.stash.setdefault(_USED, {}).setdefault(what, set()).add(version)


def note_missing_kafka(config: pytest.Config, reason: str) -> None:
    """Remember that Apache Kafka could not be had, and why."""
    config.stash[_NO_KAFKA] = reason


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
