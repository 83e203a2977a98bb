"""Tables for people and JSON for programs: what a run measured, and on which machine."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import confluent_kafka
from rich.console import Console
from rich.table import Table

from tests.benchmarks.markdown import document
from tests.benchmarks.servers import Servers

RESULTS = Path(__file__).parent / "results"
_CONSOLE = Console(width=120, highlight=False)

Row = Mapping[str, Any]


def machine(servers: Servers) -> dict[str, Any]:
    """Describe where the figures come from."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "kafka": servers.kafka.version,
        "librdkafka": confluent_kafka.libversion()[0],
        "postgresql": servers.postgres.version,
        "load_before": round(os.getloadavg()[0], 2),
        "commit": _commit(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def show(title: str, rows: Sequence[Row]) -> None:
    """Print rows as a table; the first row's keys are its columns."""
    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="left" if isinstance(rows[0][name], str) else "right")
    for row in rows:
        table.add_row(*(_text(value) for value in row.values()))
    _CONSOLE.print(table)


def say(line: str) -> None:
    """Print a line."""
    _CONSOLE.print(line)


def write(name: str, results: Mapping[str, Any], folder: Path) -> Path:
    """Write a run's figures as JSON, and beside it as Markdown; return the first."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.json"
    file.write_text(json.dumps(results, indent=2) + "\n")
    file.with_suffix(".md").write_text(document(name, results))
    return file


def committed(name: str) -> dict[str, Any] | None:
    """Read the figures of the reference machine; None where there are none."""
    file = RESULTS / f"{name}.json"
    found: dict[str, Any] | None = json.loads(file.read_text()) if file.exists() else None
    return found


def rounded(value: float) -> float:
    """Keep three digits, or whole numbers: more would pretend."""
    return round(value) if abs(value) >= 100 else float(f"{value:.3g}")


def _text(value: object) -> str:
    return f"{value:,}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _commit() -> str:
    command = ["git", "-C", str(RESULTS.parent), "describe", "--always", "--dirty"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"
