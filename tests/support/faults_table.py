"""The table of the faults: one line for each case, from all workers of a run.

The table is printed, and written to ``build/faults.md`` as Markdown; that of a run of long cases alone to
``build/faults-long.md``.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest


class Line(NamedTuple):
    """One case in the table."""

    case: str
    events: int
    recovery_s: float | None
    """None: nothing was healed."""
    lost: int
    doubled: int

    @property
    def cells(self) -> tuple[str, ...]:
        """The line's columns as texts."""
        recovery = "-" if self.recovery_s is None else f"{self.recovery_s:.1f}"
        return (self.case, str(self.events), recovery, str(self.lost), str(self.doubled))


_LINES = pytest.StashKey[list[Line]]()
_LONG = " (long)"
_COLUMNS = ("case", "events", "seconds to recover", "rows lost", "rows doubled")


class FaultsTable:
    """Where one case adds its line.

    Parameters
    ----------
    node
        The test, whose name is the case's.
    """

    def __init__(self, node: pytest.Item) -> None:
        self._lines = node.config.stash.setdefault(_LINES, [])
        self._case = node.name.removeprefix("test_").replace("_", " ")
        if node.get_closest_marker("long") is not None:
            self._case += _LONG

    def add(self, events: int, recovery_s: float | None = None, *, lost: int = 0, doubled: int = 0) -> None:
        """Add the line: events, seconds to recover (None: nothing was healed), and what the oracle found."""
        self._lines.append(Line(self._case, events, recovery_s, lost, doubled))


def _markdown(lines: Sequence[Line]) -> str:
    """Write the table as ``docs/faults.md`` has it."""
    rows = ["".join(f"| {cell} " for cell in cells) + "|" for cells in (_COLUMNS, *(line.cells for line in lines))]
    return "\n".join([rows[0], "|---" + "|---:" * (len(_COLUMNS) - 1) + "|", *rows[1:], ""])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send the lines of a worker of a parallel run to the process that prints the table."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["faults"] = [tuple(line) for line in session.config.stash.get(_LINES, [])]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take the lines of a worker."""
    lines = (Line(*line) for line in getattr(node, "workeroutput", {}).get("faults", []))
    node.config.stash.setdefault(_LINES, []).extend(lines)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print one line for each case, and write the table."""
    lines = config.stash.get(_LINES, [])
    if not lines:
        return
    lines.sort(key=lambda line: line.case)
    terminalreporter.section("faults")
    heads = ("case", "events", "recovery", "lost", "doubled")
    for case, events, recovery, lost, doubled in (heads, *(line.cells for line in lines)):
        terminalreporter.write_line(f"{case:<76}{events:>9}{recovery:>10}{lost:>6}{doubled:>9}")
    only_long = all(line.case.endswith(_LONG) for line in lines)
    file = config.rootpath / "build" / ("faults-long.md" if only_long else "faults.md")
    file.parent.mkdir(exist_ok=True)
    file.write_text(_markdown(lines), encoding="utf-8")
    terminalreporter.write_line(f"written to {file.relative_to(config.rootpath)}")
