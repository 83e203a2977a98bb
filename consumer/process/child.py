"""One child process that is asked one question after the other, and may die of any of them.

It is kept warm: it starts with the first question, again after its death, and ends when this process does, however that
ends. Questions and answers are pickled; the two processes trust each other.
"""

import atexit
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import cast

NOT_ITS_FAULT = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
"""Deaths that come from outside: out of memory, a node that is drained."""
_END_S = 10.0
"""How long a child may take to end that has closed its connection."""


class ChildDiedError(Exception):
    """The child ended, or did not answer in time and was ended.

    Parameters
    ----------
    number
        Of the signal that ended it; None where it was none.
    """

    def __init__(self, number: int | None) -> None:
        super().__init__("the child process does not answer" if number is None else signal.Signals(number).name)
        self.number = number


class ChildProcess:
    """Asks the child; to be used by one thread at a time.

    Parameters
    ----------
    module
        Run with ``python -m`` and the number of a file descriptor; it calls `serve`.
    environment
        Variables besides those of this process.
    """

    def __init__(self, module: str, environment: Mapping[str, str] | None = None) -> None:
        self._module = module
        self._environment = environment or {}
        self._connection: Connection | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._parent = 0
        atexit.register(self.close)

    @property
    def running(self) -> bool:
        """Whether there is a child of this process, as far as is known."""
        return self._connection is not None and self._parent == os.getpid()

    def ask(self, question: object, *, timeout_s: float | None = None) -> object:
        """Return the child's answer.

        Parameters
        ----------
        question
            Anything that can be pickled.
        timeout_s
            For how long the answer is waited for; None: for ever.

        Raises
        ------
        ChildDiedError
            When there is none; the next question starts another child.
        """
        try:
            if not self.running:
                self._start()
            connection = cast("Connection", self._connection)
            connection.send(question)
            if connection.poll(timeout_s):
                return cast("object", connection.recv())
        except (EOFError, OSError) as error:
            # It died, and what waited in its pipe is of no use; or the machine has no room for another process.
            raise ChildDiedError(self._signal()) from error
        self.close()
        raise ChildDiedError(None)

    def close(self) -> None:
        """End the child; the next question starts another."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None and self._parent == os.getpid():
            self._process.kill()
            self._process.wait()
        self._connection = self._process = None

    def _signal(self) -> int | None:
        """Return the signal that ended the child, once it has ended."""
        with suppress(subprocess.TimeoutExpired):
            code = self._process.wait(_END_S) if self._process is not None and self._parent == os.getpid() else 0
            self.close()
            return -code if code < 0 else None
        self.close()
        return None

    def _start(self) -> None:
        self.close()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self._process = subprocess.Popen(  # noqa: S603 - this Python, a module of ours
                [sys.executable, "-m", self._module, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # libraries print what they think of their input
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, **self._environment},
            )
            self._connection = Connection(ours.detach())
        self._parent = os.getpid()


def serve(answer: Callable[[object], object]) -> None:
    """Be the child: answer questions until the other end is gone."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection = Connection(int(sys.argv[1]))
    with suppress(EOFError, BrokenPipeError):
        while True:
            connection.send(answer(connection.recv()))
