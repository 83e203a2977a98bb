"""Child processes for what may end the process that does it: native code on hostile input."""

from consumer.isolation.child import NOT_ITS_FAULT, ChildDiedError, ChildProcess, serve

__all__ = ["NOT_ITS_FAULT", "ChildDiedError", "ChildProcess", "serve"]
