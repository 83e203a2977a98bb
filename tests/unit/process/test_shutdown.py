"""What a signal does, whatever it interrupts."""

import signal
import subprocess
import sys

import pytest

from consumer.process import WATCHDOG_EXIT_CODE, stops_on_signals


class BusyLog:
    """A log whose stream the signal has interrupted within a line."""

    def info(self, *_: object, **__: object) -> None:
        raise RuntimeError("reentrant call inside <_io.BufferedWriter>")

    error = info


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_within_a_log_line_sets_the_flag(number: signal.Signals) -> None:
    stopped: list[str] = []
    former = signal.getsignal(number)
    with (
        stops_on_signals(lambda: stopped.append("stop"), timeout_s=60.0, log=BusyLog()),
        pytest.raises(RuntimeError, match="reentrant"),
    ):
        signal.raise_signal(number)
    assert stopped == ["stop"]
    assert signal.getsignal(number) is former


def test_a_shutdown_that_hangs_is_ended_by_force_and_says_where_it_hung() -> None:
    program = """
import os, signal, time
from consumer.logs import get_logger
from consumer.process import stops_on_signals
with stops_on_signals(lambda: None, timeout_s=0.3, log=get_logger("test")):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == WATCHDOG_EXIT_CODE
    assert "the shutdown hangs" in done.stdout + done.stderr
    assert 'File "<string>", line 7' in done.stderr
