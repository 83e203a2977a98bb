"""GAVO DaCHS, an existing TAP server, on the service's own PostgreSQL, published by a description of our columns.

Debian's python3-gavo: not gavodachs2-server, whose installation wants a running server of the machine.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.error import URLError
from urllib.request import urlopen

import psycopg

from consumer.domain.obscore import COLUMNS
from tests.support.children import Child, free_port, unprivileged_user

INSTALLED = shutil.which("dachs") is not None
_START_TIMEOUT_S = 120
_STOP_TIMEOUT_S = 60
_TYPES = {"timestamp": "timestamp"}
_UNKNOWN = {"source_table"}

_RC = """[general]
rootDir: {root}
group: {group}
gavoGroup: {group}
maintainerAddress: nobody@example.org
[web]
bindAddress: 127.0.0.1
serverPort: {port}
serverURL: http://127.0.0.1:{port}
user: {user}
[ivoa]
authority: example.org
"""

_RESOURCE = """<resource schema="visits">
  <meta name="title">Visits</meta>
  <meta name="creationDate">2026-11-01T00:00:00Z</meta>
  <meta name="description">Visits, defined as their exposures arrive.</meta>
  <meta name="subject">observational-astronomy</meta>
  <meta name="creator.name">The visit consumer</meta>
  <table id="visit_obscore_public" onDisk="True" adql="True">
    <mixin {parameters}>//obscore#publishObscoreLike</mixin>
    {columns}
    <column name="s_region_spoly" type="spoly" ucd="pos.outline" description="s_region, indexed"/>
  </table>
  <data id="make"><make table="visit_obscore_public"/></data>
</resource>
"""


class Dachs:
    """A DaCHS server that publishes the view ``visits.visit_obscore_public`` as part of ``ivoa.obscore``.

    Parameters
    ----------
    dsn
        Of a database that was migrated with pgSphere in it; superuser.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._root = Path(tempfile.mkdtemp(prefix="visit-consumer-dachs-"))
        self._user = unprivileged_user()
        self.port = free_port()
        self.tap_url = f"http://127.0.0.1:{self.port}/tap"
        self._child: Child | None = None

    def __enter__(self) -> Self:
        """Initialise the database for DaCHS, publish the view, and serve."""
        self._root.chmod(0o777)
        rc = self._root / "gavo.rc"
        rc.write_text(_RC.format(root=self._root, group="nogroup", port=self.port, user=self._user or os.getlogin()))
        self._environment = {
            **os.environ,
            "GAVOSETTINGS": str(rc),
            "GAVOCUSTOM": "/dev/null",
            "HOME": str(self._root),
            "LC_ALL": "C.UTF-8",
        }
        given = psycopg.conninfo.conninfo_to_dict(self._dsn)
        self.run("init", "-d", " ".join(f"{key}={given[key]}" for key in ("host", "port", "dbname", "user")))
        self.run("imp", "//obscore")
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            connection.execute("GRANT USAGE ON SCHEMA visits TO gavo, gavoadmin, untrusted")
            connection.execute(
                "GRANT SELECT ON visits.visit_obscore_public TO gavo, gavoadmin, untrusted WITH GRANT OPTION"
            )
            known = [
                row[0]
                for row in connection.execute(
                    "SELECT column_name FROM information_schema.columns"
                    " WHERE table_schema = 'ivoa' AND table_name = 'emptyobscore'"
                ).fetchall()
            ]
        folder = self._root / "inputs" / "visits"
        folder.mkdir(parents=True)
        (folder / "q.rd").write_text(_resource([str(name) for name in known]))
        self.run("imp", "-m", "visits/q")
        self.run("imp", "//obscore", "create")
        command = ["dachs", "serve", "debug"]
        self._child = Child(command, self._root / "serve.log", user=self._user, environment=self._environment)
        self._child.wait_until(self._answers, what="DaCHS", timeout_s=_START_TIMEOUT_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the server and remove its files."""
        if self._child is not None:
            self._child.signal(signal.SIGTERM)
            self._child.wait(_STOP_TIMEOUT_S)
        shutil.rmtree(self._root, ignore_errors=True)

    def run(self, *arguments: str) -> str:
        """Run ``dachs`` as the account that serves; fails with what it said."""
        as_user = (
            [] if self._user is None else ["setpriv", f"--reuid={self._user}", "--regid=nogroup", "--clear-groups"]
        )
        done = subprocess.run(
            [*as_user, "dachs", *arguments],
            env=self._environment,
            cwd=self._root,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, f"dachs {arguments}: {done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def _answers(self) -> bool:
        try:
            with urlopen(f"{self.tap_url}/availability", timeout=5) as answer:  # noqa: S310 -- our own
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False


def _resource(known: list[str]) -> str:
    """Describe the view for DaCHS, from the table of columns."""
    ours = {column.name for column in COLUMNS}
    values = {name: name if name in ours else "NULL" for name in known if name not in _UNKNOWN}
    values["s_region"] = "s_region_spoly"
    return _RESOURCE.format(
        parameters=" ".join(f'{name}="{value}"' for name, value in values.items()),
        columns="\n    ".join(
            f'<column name="{c.name}" type="{_TYPES.get(c.sql_type, c.sql_type)}" unit="{c.unit}" ucd="{c.ucd}"'
            f' utype="{"obscore:" + c.utype if c.utype else ""}"'
            f' description="{c.text}"{" required=" + chr(34) + "True" + chr(34) if c.not_null else ""}>'
            + ("" if c.not_null or c.sql_type not in {"integer", "bigint"} else '<values nullLiteral="-1"/>')
            + "</column>"
            for c in COLUMNS
        ),
    )
