"""What a process is beside its work: how it ends, how its interpreter is set up, and children that may die for it."""

from consumer.process.child import NOT_ITS_FAULT, ChildDiedError, ChildProcess, serve
from consumer.process.interpreter import tune_interpreter
from consumer.process.shutdown import WATCHDOG_EXIT_CODE, stops_on_signals

__all__ = [
    "NOT_ITS_FAULT",
    "WATCHDOG_EXIT_CODE",
    "ChildDiedError",
    "ChildProcess",
    "serve",
    "stops_on_signals",
    "tune_interpreter",
]
