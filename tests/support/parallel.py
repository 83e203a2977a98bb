"""Several tests at once: what runs together, in which order, and alone.

A test waits for servers far more than it computes, so that several workers share a core. Each worker has servers, ports
and folders of its own. Tests that share a fixture of their module, such as a cluster, stay on one worker; all others
go to whichever worker is free. The files that take longest come first, in the order of ``tests/durations.json``;
everything else stays in the random order of the run. Tests marked ``alone`` measure the machine's time or memory: they
come last, on the one worker that is left when the others have ended, and their servers with them.
"""

import json
import tempfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from xdist.remote import Producer
from xdist.scheduler.loadscope import LoadScopeScheduling
from xdist.workermanage import WorkerController

DURATIONS = Path(__file__).parents[1] / "durations.json"
"""Seconds of the longest work of a file that one worker does in one go, as ``make durations`` writes them."""
_SHORT_S = 3
"""Files with nothing longer need no order."""
_N_SLOWEST = 10
_ALONE = "alone"


class AloneLast(LoadScopeScheduling):
    """Gives groups to workers, and those marked ``alone`` to the last worker, when there is no other any more.

    A worker tells its groups by a file, since xdist asks it for the ids of its tests only.
    """

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        super().__init__(config, log)
        self._groups: dict[str, str] = {}

    def schedule(self) -> None:
        """Begin, or go on with a worker that stands in for one that has crashed."""
        for node in self.nodes:
            told = _file_of_groups(node.workerinput)
            if told.exists():
                self._groups |= json.loads(told.read_text(encoding="utf-8"))
                told.unlink()
        if self.collection is not None:
            super().schedule()  # twice: a worker begins a test only when it knows the next one
        super().schedule()

    def _split_scope(self, nodeid: str) -> str:
        return self._groups.get(nodeid, nodeid)

    def _assign_work_unit(self, node: WorkerController) -> None:
        # A worker that crashed gave all its work back, also what was done, and behind what is to be the last
        self.workqueue = OrderedDict(each for each in self.workqueue.items() if not all(each[1].values()))
        if _ALONE in self.workqueue:
            self.workqueue.move_to_end(_ALONE)
        if not self.workqueue:
            node.shutdown()
            return
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


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let a worker tell its groups, and put the longest first when all have been shuffled."""
    if not hasattr(config, "workerinput"):
        return
    groups = {item.nodeid: group for item in items if (group := _group(item)) is not None}
    _file_of_groups(config.workerinput).write_text(json.dumps(groups), encoding="utf-8")
    seconds: dict[str, float] = json.loads(DURATIONS.read_text(encoding="utf-8"))
    # A stable sort: what is not among the longest keeps its random place.
    items.sort(key=lambda item: -seconds.get(_file(item.nodeid), 0.0))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: WorkerController) -> None:
    """Remove what a worker told when nobody listened any more."""
    _file_of_groups(node.workerinput).unlink(missing_ok=True)


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
        named = (f"{name.partition('::')[2]} {seconds:.0f} s" for name, seconds in slowest)
        terminalreporter.write_line(f"slowest: {', '.join(named)}")
    if config.getoption("--write-durations"):
        _write_durations(tests)


def _write_durations(tests: Mapping[str, float]) -> None:
    """Write of each file the longest test, or the sum of those that stay together."""
    files: dict[str, float] = {}
    for name, seconds in tests.items():
        files[_file(name)] = max(files.get(_file(name), 0.0), seconds)
    longest = sorted((each for each in files.items() if each[1] >= _SHORT_S), key=lambda each: -each[1])
    DURATIONS.write_text(json.dumps({file: round(s) for file, s in longest}, indent=1) + "\n", encoding="utf-8")


def _group(item: pytest.Item) -> str | None:
    """Return what a test stays together with; None: nothing."""
    if item.get_closest_marker(_ALONE) is not None:
        return _ALONE
    fixtures = getattr(item, "_fixtureinfo", None)
    definitions = {} if fixtures is None else fixtures.name2fixturedefs
    if any(each.scope in {"module", "package"} for found in definitions.values() for each in found):
        return _file(item.nodeid)
    return None


def _file_of_groups(workerinput: Mapping[str, Any]) -> Path:
    name = f"visit-consumer-groups-{workerinput['testrunuid']}-{workerinput['workerid']}.json"
    return Path(tempfile.gettempdir()) / name


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]
