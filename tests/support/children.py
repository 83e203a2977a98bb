"""Servers as child processes: they end with the test process, however that ends, and are signalled by their own pid."""

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tests.support.waiting import PATIENCE, give_up_at

# Below the kernel's ephemeral range (from 32768): a server that is restarted must find its port free, and a port of
# that range may meanwhile have been given to somebody's outgoing connection.
_PORTS = range(20000, 32000)
_BLOCK = 100
_held: list[socket.socket] = []
"""What keeps the blocks of this process from others, until it ends."""


class ServerError(Exception):
    """A server did not start or did not stop; the message ends with its last log lines."""


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on, and that no other call returned, in any test process."""
    while True:
        port = next(_ports)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def _own_ports() -> Iterator[int]:
    """Yield ports of blocks that are this process' alone: other workers and runs find no port that a server has left.

    A block is taken by a name in Linux' abstract namespace of sockets: no file stays behind, however the process ends.
    """
    blocks = [_PORTS[start : start + _BLOCK] for start in range(0, len(_PORTS), _BLOCK)]
    # SystemRandom, because pytest-randomly seeds `random` anew for each test: all would try the same blocks first
    for block in random.SystemRandom().sample(blocks, len(blocks)):
        holder = socket.socket(socket.AF_UNIX)
        try:
            holder.bind(f"\0visit-consumer-tests-ports-{block.start}")
        except OSError:
            holder.close()
            continue
        _held.append(holder)
        yield from block
    raise ServerError(f"other test processes have all the ports {_PORTS}")


_ports = _own_ports()


def ended(pid: int) -> bool:
    """Tell whether a process is gone, or waits only for its parent to take note (containers' first process may not)."""
    return _state(pid) in {"", "Z"}


def frozen(pid: int) -> bool:
    """Tell whether a process has heard SIGSTOP: the signal is only on its way when ``kill`` returns."""
    return _state(pid) == "T"


def _state(pid: int) -> str:
    """Return Linux' letter for a process' state; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def unprivileged_user() -> str | None:
    """Return the account for servers that refuse to run as root (``postgres``, else ``nobody``); None when not root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


class Child:
    """One server process, which dies with the thread that started it (Linux' parent death signal).

    Parameters
    ----------
    command
        Program and arguments.
    log
        File to which its output is appended.
    user
        Account to run as; needs root. None: the caller's.
    death_signal
        What the kernel sends it when the test process is gone.
    environment
        Additional environment variables.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        user: str | None = None,
        death_signal: signal.Signals = signal.SIGKILL,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*_tied_to_parent(death_signal, user), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env={**os.environ, **(environment or {})},
                start_new_session=True,  # a Ctrl-C at the terminal is for the tests, which then stop their servers
            )

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process has not ended (a paused one is running)."""
        return self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """The exit code, or minus the signal that ended it; None while it runs."""
        return self._process.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when the process has ended."""
        self._process.send_signal(number)

    def wait(self, timeout_s: float) -> None:
        """Wait for the end of the process, or raise ServerError."""
        try:
            self._process.wait(PATIENCE * timeout_s)
        except subprocess.TimeoutExpired as error:
            raise ServerError(f"process {self.pid} still runs after {timeout_s} s\n{self.log_tail()}") from error

    def wait_until(self, ready: Callable[[], bool], *, what: str, timeout_s: float) -> None:
        """Poll until the server is ready; raise ServerError when it ends or takes longer than the timeout."""
        deadline = give_up_at(timeout_s)
        while not ready():
            if not self.running:
                raise ServerError(f"{what} ended with code {self._process.returncode}\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise ServerError(f"{what} is not ready after {timeout_s} s\n{self.log_tail()}")
            time.sleep(0.05)

    def log_tail(self, lines: int = 30) -> str:
        """Return the last lines that the server wrote."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def _tied_to_parent(death_signal: signal.Signals, user: str | None) -> Iterable[str]:
    """Return the prefix that ties a command to our life and gives it its account.

    ``setpriv`` (util-linux) does both and then becomes the command, so that the pid is the server's. It stands in for a
    ``preexec_fn``, which may deadlock in a process with threads.
    """
    if shutil.which("setpriv") is None:
        if user is not None:
            raise ServerError("setpriv (util-linux) is needed to run a server under another account")
        return []
    account = [] if user is None else [f"--reuid={user}", f"--regid={pwd.getpwnam(user).pw_gid}", "--clear-groups"]
    return ["setpriv", *account, f"--pdeathsig={death_signal.name.removeprefix('SIG')}", "--"]
