"""A wall clock of one process' own, which can be set while the process runs: libfaketime.

Monotonic clocks go on undisturbed, as they do where somebody sets a machine's clock.
"""

import os
from collections.abc import Mapping
from pathlib import Path

_LIBRARY = "libfaketimeMT.so.1"
"""Of its two builds the one for processes with threads."""
_SPARE_THE_CLIENT = """\
import os, sys
sys.setdlopenflags(os.RTLD_NOW | os.RTLD_DEEPBIND)
import confluent_kafka
sys.setdlopenflags(os.RTLD_NOW)
"""
"""Run at the start of the process: librdkafka then finds the C library's clock before libfaketime's."""


class FaketimeUnavailableError(Exception):
    """libfaketime is not installed."""


class WallClock:
    """The clock of each process that is started with one of its environments.

    librdkafka waits until a time of day, by a function that libfaketime 0.9.10 does not know (glibc's
    ``cnd_timedwait``): the end of a wait is computed by the wrong clock and waited for by the right one. So while the
    clock is ahead, each wait lasts that much longer. No clock does that by being ahead; but one that is *set back* does
    it, to the waits of that moment. Hence two environments: without this, and with it.

    Parameters
    ----------
    folder
        Where the clock is kept; the processes read it at each look.

    Raises
    ------
    FaketimeUnavailableError
        When the library is not there.

    Attributes
    ----------
    environment
        For a process whose Kafka client waits as long as it means to.
    environment_of_long_waits
        For one whose Kafka client, while the clock is ahead, waits as if it had been set back by so much since.
    """

    def __init__(self, folder: Path) -> None:
        found = next(Path("/usr/lib").rglob(_LIBRARY), None)
        if found is None:
            raise FaketimeUnavailableError(f"{_LIBRARY} is not below /usr/lib (Debian: libfaketime)")
        self._file = folder / "clock"
        self.environment_of_long_waits: Mapping[str, str] = {
            "LD_PRELOAD": str(found),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }
        (folder / "sitecustomize.py").write_text(_SPARE_THE_CLIENT)
        paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environment: Mapping[str, str] = {
            **self.environment_of_long_waits,
            "PYTHONPATH": os.pathsep.join(paths),
        }
        self.set(0)

    def set(self, ahead_s: int) -> None:
        """Set the clock: from now on it is so many seconds ahead of the true one, or behind."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{ahead_s:+d}\n")
        new.replace(self._file)  # a reader never meets half a file
