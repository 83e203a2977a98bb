"""The composition root: what a signal does, whatever it interrupts."""

import signal
from types import SimpleNamespace
from typing import Any

import pytest

from consumer.config import Settings
from consumer.service.app import Application
from tests.support.service import settings_for


class BusyLog:
    """A log whose stream the signal has interrupted within a line."""

    def info(self, *_: object, **__: object) -> None:
        raise RuntimeError("reentrant call inside <_io.BufferedWriter>")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_within_a_log_line_stops_the_service(number: signal.Signals) -> None:
    application: Any = Application(Settings(**settings_for("nowhere:1", "")))
    application._log = BusyLog()
    stopped: list[str] = []
    loop, relay = (SimpleNamespace(stop=lambda name=name: stopped.append(name)) for name in ("loop", "relay"))
    former = signal.getsignal(number)
    restore = application._handle_signals(loop, relay)
    try:
        with pytest.raises(RuntimeError, match="reentrant"):
            signal.raise_signal(number)
    finally:
        restore()
    assert stopped == ["loop", "relay"]
    assert signal.getsignal(number) is former
