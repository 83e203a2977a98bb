"""What a process has used, from Linux' process table."""

import os
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_seconds(*pids: int) -> float:
    """Return the processor time of processes, in user mode and in the kernel, all threads; ended ones count as 0."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / _TICKS_PER_S


def memory_mb(pid: int, *, peak: bool = False) -> float:
    """Return the resident memory of a process, now or at its peak, in 10^6 bytes."""
    name = "VmHWM:" if peak else "VmRSS:"
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024 / 1e6
    raise ValueError(f"process {pid} has no {name}")


def family(pid: int) -> list[int]:
    """Return a process and its children."""
    file = Path(f"/proc/{pid}/task/{pid}/children")
    return [pid, *(int(child) for child in file.read_text().split())]
