"""Several tests at once: what runs together, in which order, and alone.

A test waits for servers far more than it computes, so that several workers share a core. Each worker has servers, ports
and folders of its own. Tests that share a fixture of their module, such as a cluster, stay on one worker; all others
go to whichever worker is free. The files that take longest come first, in the order of ``tests/durations.json``;
everything else stays in the random order of the run. Tests marked ``alone`` measure the machine's time or memory: they
come last, on the one worker that is left when the others have ended, and their servers with them.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler.loadgroup import LoadGroupScheduling
from xdist.workermanage import WorkerController

DURATIONS = Path(__file__).parents[1] / "durations.json"
"""Seconds of the longest work of a file that one worker does in one go, as ``make durations`` writes them."""
_SHORT_S = 3
"""Files with nothing longer need no order."""
_N_SLOWEST = 10
_ALONE = "alone"


class AloneLast(LoadGroupScheduling):
    """Gives the tests marked ``alone`` to the last worker, when there is no other any more."""

    def _assign_work_unit(self, node: WorkerController) -> None:
        if _ALONE in self.workqueue:
            self.workqueue.move_to_end(_ALONE)  # a worker that crashed gave its work back behind it
        if next(iter(self.workqueue)) == _ALONE and len(self.nodes) > 1:
            if any(not other.shutting_down for other in self.nodes if other is not node):
                node.shutdown()
            return
        super()._assign_work_unit(node)

    def remove_node(self, node: WorkerController) -> str | None:
        """Forget a worker that has ended; the last one goes on."""
        crashed = super().remove_node(node)
        if _ALONE in self.workqueue and len(self.nodes) == 1:
            self._reschedule(self.nodes[0])
        return crashed


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> AloneLast:
    """Take the place of xdist's own schedulers."""
    config.option.loadscopereorder = False  # the order is made below
    return AloneLast(config, log)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that writes how long files take."""
    parser.addoption("--write-durations", action="store_true", help=f"write {DURATIONS.name} after the run")


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    """Name the groups before xdist reads their names, and put the longest first when all have been shuffled."""
    if not hasattr(config, "workerinput"):
        return (yield)
    for item in items:
        group = _group(item)
        if group is not None:
            item.add_marker(pytest.mark.xdist_group(group))
    yield
    seconds: dict[str, float] = json.loads(DURATIONS.read_text(encoding="utf-8"))
    # A stable sort: what is not among the longest keeps its random place.
    items.sort(key=lambda item: -seconds.get(_file(item.nodeid), 0.0))
    return None


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name the ten tests that took longest; write how long files take where that is asked for."""
    tests: dict[str, float] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                tests[report.nodeid] = tests.get(report.nodeid, 0.0) + report.duration
    slowest = sorted(tests.items(), key=lambda each: -each[1])[:_N_SLOWEST]
    if sum(tests.values()) > 60:  # a quick run has nothing to tell
        named = (f"{_without_group(name).partition('::')[2]} {seconds:.0f} s" for name, seconds in slowest)
        terminalreporter.write_line(f"slowest: {', '.join(named)}")
    if config.getoption("--write-durations"):
        _write_durations(tests)


def _write_durations(tests: Mapping[str, float]) -> None:
    together: dict[tuple[str, str], float] = {}
    for name, seconds in tests.items():
        unit = (_file(name), _written_group(name) or name)
        together[unit] = together.get(unit, 0.0) + seconds
    files: dict[str, int] = {}
    for (file, group), seconds in together.items():
        if group != _ALONE and seconds >= _SHORT_S:
            files[file] = max(files.get(file, 0), round(seconds))
    longest = dict(sorted(files.items(), key=lambda each: (-each[1], each[0])))
    DURATIONS.write_text(json.dumps(longest, indent=1) + "\n", encoding="utf-8")


def _group(item: pytest.Item) -> str | None:
    """Return what a test stays together with; None: nothing."""
    if item.get_closest_marker(_ALONE) is not None:
        return _ALONE
    fixtures = getattr(item, "_fixtureinfo", None)
    definitions = {} if fixtures is None else fixtures.name2fixturedefs
    if any(each.scope in {"module", "package"} for found in definitions.values() for each in found):
        return item.path.stem
    return None


def _written_group(nodeid: str) -> str:
    """Return the group that xdist has written behind a test's id; empty where there is none."""
    group = nodeid.rpartition("@")[2]
    return "" if group == nodeid or "]" in group else group


def _without_group(nodeid: str) -> str:
    return nodeid.removesuffix(f"@{_written_group(nodeid)}")


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]
