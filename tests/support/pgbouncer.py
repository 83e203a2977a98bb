"""PgBouncer before a PostgreSQL, as a child process."""

import os
import shutil
import signal
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
import pytest

from tests.support.children import Child, free_port, unprivileged_user

_PROGRAMS = ("pgbouncer", "/usr/sbin/pgbouncer")
_START_TIMEOUT_S = 20


class PgBouncer:
    """A pooler whose clients share few sessions of the server. A context manager.

    Parameters
    ----------
    server_port
        Of PostgreSQL on 127.0.0.1, which lets the superuser in without a password.
    mode
        ``session`` or ``transaction``.
    size
        Sessions of the server for each database.
    """

    def __init__(self, server_port: int, *, mode: str, size: int) -> None:
        program = next((found for name in _PROGRAMS if (found := shutil.which(name))), None)
        if program is None:
            if os.environ.get("REQUIRE_POSTGRES_15") == "1":
                pytest.fail("REQUIRE_POSTGRES_15=1, but there is no pgbouncer: apt-get install pgbouncer")
            pytest.skip("no pgbouncer: apt-get install pgbouncer")
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="visit-consumer-pgbouncer-"))
        self._folder.chmod(0o755)
        settings = self._folder / "pgbouncer.ini"
        settings.write_text(
            f"""
[databases]
* = host=127.0.0.1 port={server_port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {size}
"""
        )
        self._command = [program, "--quiet", str(settings)]
        self._child: Child | None = None

    def dsn(self, database: str) -> str:
        """Return a libpq URI by way of the pooler."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def __enter__(self) -> Self:
        """Start it, and wait until it takes connections."""
        self._child = Child(self._command, self._folder / "log", user=unprivileged_user())
        self._child.wait_until(self._answers, what="PgBouncer", timeout_s=_START_TIMEOUT_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it and remove its files."""
        if self._child is not None:
            self._child.signal(signal.SIGTERM)
            self._child.wait(_START_TIMEOUT_S)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            with psycopg.connect(self.dsn("postgres"), autocommit=True, connect_timeout=2, prepare_threshold=None):
                return True
        except psycopg.OperationalError:
            return False
