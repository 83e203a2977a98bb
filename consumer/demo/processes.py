"""Commands of this package as processes of their own, as an observatory runs them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from consumer.errors import FatalError

_START_S = 120.0
_STOP_S = 15.0


@contextmanager
def running(arguments: list[str], log: Path) -> Iterator[Callable[[], str]]:
    """Run a command that serves, and end it with SIGTERM; what is given waits until it has started.

    Parameters
    ----------
    arguments
        After ``visit-consumer``; the settings have JSON logs, and any free port.
    log
        Where its log goes.

    Yields
    ------
    wait_for_address
        Returns the address of its port; raises FatalError, with the log, when the command does not start.
    """
    command = [sys.executable, "-m", "consumer", *arguments]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("VISIT_CONSUMER_")}
    with log.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen(command, stderr=stream, env=environ)  # noqa: S603 -- our own command
        try:
            yield partial(_address, process, log, arguments[0])
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(process: "subprocess.Popen[bytes]", log: Path, name: str) -> str:
    """Find in the log where the process listens."""
    until = time.monotonic() + _START_S
    while time.monotonic() < until and process.poll() is None:
        for line in log.read_text(encoding="utf-8").splitlines():
            if '"url"' in line:
                return str(json.loads(line)["url"])
        time.sleep(0.05)
    raise FatalError(f"visit-consumer {name} did not start:\n{log.read_text(encoding='utf-8')}")
