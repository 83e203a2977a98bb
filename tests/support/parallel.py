"""Several tests at once: what runs together, in which order, and alone.

A test waits for servers far more than it computes, so that several workers share a core. Each worker has servers, ports
and folders of its own. Tests that share a fixture of their module, such as a cluster, stay on one worker; all others
go to whichever worker is free. The files that take longest come first, in the order of ``tests/durations.json``;
everything else stays in the random order of the run. Tests marked ``alone`` measure the machine's time or memory: they
come last, and begin once no other test runs.
"""

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

DURATIONS = Path(__file__).parents[1] / "durations.json"
"""Seconds of the files that take longest, as ``make durations`` writes them."""
_LONGEST = 40
_ALONE = "alone"
_LOCK = pytest.StashKey[TextIO]()
_WORKER = "PYTEST_XDIST_WORKER"
_RUN = "PYTEST_XDIST_TESTRUNUID"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that writes how long files take."""
    parser.addoption("--write-durations", action="store_true", help=f"write {DURATIONS.name} after the run")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests into groups that stay together, and the groups into the order in which they begin."""
    seconds: dict[str, float] = json.loads(DURATIONS.read_text(encoding="utf-8")) if DURATIONS.exists() else {}
    for item in items:
        group = _group(item)
        if group is not None:
            item.add_marker(pytest.mark.xdist_group(group))
    # A stable sort: what is not among the longest keeps its random place.
    items.sort(key=lambda item: (item.get_closest_marker(_ALONE) is not None, -seconds.get(_file(item), 0.0)))


@pytest.hookimpl(tryfirst=True, wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Let a test that is marked ``alone`` begin when the other workers are idle, and no other while it runs."""
    if _WORKER not in os.environ:
        return (yield)
    lock = item.config.stash.get(_LOCK, None)
    if lock is None:
        lock = _lock_file(os.environ[_RUN]).open("w")
        item.config.stash[_LOCK] = lock
    alone = item.get_closest_marker(_ALONE) is not None
    fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
    try:
        return (yield)
    finally:
        fcntl.flock(lock, fcntl.LOCK_UN)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name the ten tests that took longest; write how long files take where that is asked for."""
    tests: dict[str, float] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                tests[report.nodeid] = tests.get(report.nodeid, 0.0) + report.duration
    slowest = sorted(tests.items(), key=lambda each: -each[1])[:10]
    if sum(tests.values()) > 60:  # a quick run has nothing to tell
        terminalreporter.write_line(
            "slowest: " + ", ".join(f"{name.partition('::')[2]} {seconds:.0f} s" for name, seconds in slowest)
        )
    if config.getoption("--write-durations"):
        files: dict[str, float] = {}
        for name, seconds in tests.items():
            file = name.partition("::")[0]
            files[file] = files.get(file, 0.0) + seconds
        longest = sorted(files.items(), key=lambda each: -each[1])[:_LONGEST]
        DURATIONS.write_text(json.dumps({file: round(s) for file, s in longest}, indent=1) + "\n", encoding="utf-8")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Remove the lock's file, once, when the run is over."""
    run = getattr(session.config, "workerinput", {}).get("testrunuid")
    if run is None and (plugin := session.config.pluginmanager.getplugin("dsession")) is not None:
        with contextlib.suppress(FileNotFoundError, AttributeError):
            _lock_file(plugin.nodemanager.testrunuid).unlink()


def _lock_file(run: str) -> Path:
    return Path(tempfile.gettempdir()) / f"visit-consumer-tests-{run}.lock"


def _file(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def _group(item: pytest.Item) -> str | None:
    """Return what a test stays together with; None: nothing."""
    if item.get_closest_marker(_ALONE) is not None:
        return _ALONE
    fixtures = getattr(item, "_fixtureinfo", None)
    definitions = {} if fixtures is None else fixtures.name2fixturedefs
    if any(each.scope == "module" for found in definitions.values() for each in found):
        return _file(item)
    return None
