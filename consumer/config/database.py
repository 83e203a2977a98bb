"""Settings of PostgreSQL, and the libpq parameters that follow from them. No connection is made here."""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Annotated, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import Field, FilePath, SecretStr, model_validator

from consumer.config.sections import AllowedInFile, Seconds, SecretFile, Section, current_secret, one_source

_VERIFIED = frozenset({"verify-ca", "verify-full"})
_SECRET_PARAMETERS = frozenset({"password", "sslpassword", "oauth_client_secret"})


def conninfo_parameters(conninfo: str) -> dict[str, str]:
    """Read a connection string, a URL or ``key=value`` pairs, by libpq's own parser; no connection is made.

    Source: https://www.postgresql.org/docs/18/libpq-connect.html#LIBPQ-CONNSTRING

    Raises
    ------
    ValueError
        If libpq does not take it, or reads a piece of a password in it as a host. The message never repeats it, since
        it may hold a password.
    """
    try:
        parameters = {name: str(value) for name, value in conninfo_to_dict(conninfo).items()}
    except psycopg.Error:
        raise ValueError(
            "is neither a postgresql:// URL nor key=value pairs such as host=db dbname=visits, as libpq reads them; "
            f"{_PERCENT}"
        ) from None
    if conninfo.startswith(("postgresql://", "postgres://")):
        cut = parameters.get("host", "").lstrip("@") + parameters.get("dbname", "")
        if "@" in cut or parameters.get("port", "").strip("0123456789,"):
            raise ValueError(_PERCENT)
    return parameters


_PERCENT = "a URL must write special characters of a password with a percent sign, such as %40 for @ and %2F for /"


def _is_local(host: str) -> bool:
    """Whether a host is a socket's folder, or this machine's loopback."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.startswith(("/", "@"))


def _all_local(given: Mapping[str, str]) -> bool:
    """Whether libpq connects to this machine alone: to ``hostaddr`` where it stands, else to ``host``.

    No host means a socket or ``PGHOST``, which may be anywhere; libpq ignores TLS on a socket.
    """
    named = [given[name] for name in ("host", "hostaddr") if given.get(name)]
    return bool(named) and all(_is_local(host) for hosts in named for host in hosts.split(","))


class DatabaseSettings(Section):
    """Where visits go."""

    conninfo: Annotated[SecretStr, AllowedInFile()]
    """Connection string of libpq: `postgresql://user@host/dbname` or `host=... dbname=... user=...`, without a password
    if it stands in the file. For hosts other than this machine `sslmode` is `verify-full` unless it is given here."""
    password: SecretStr | None = None
    """Password of the user; from the environment only."""
    password_file: SecretFile | None = None
    """File that holds the password; it is read at every connection, so a new password needs no restart."""
    ca_file: FilePath | None = None
    """Certificate authority of the server, PEM; null: `sslrootcert` of conninfo, else the system's."""
    allow_insecure: bool = False
    """Accept an `sslmode` that does not verify the server, for a host that is not this machine."""
    schema_name: Annotated[str, Field(alias="schema", pattern=r"^[a-z_][a-z0-9_]{0,62}$")] = "visits"
    """Schema that holds the tables; several services can share a database, each with its own schema."""
    connect_timeout_s: Annotated[int, Field(ge=2, le=600)] = 5
    """Timeout of a connection attempt."""
    statement_timeout_s: Seconds = 30.0
    """The server cancels a statement that takes longer; the batch is then retried."""
    lock_timeout_s: Seconds = 5.0
    """The server cancels a statement that waits longer for a lock; the batch is then retried."""
    idle_in_transaction_timeout_s: Seconds = 10.0
    """The server ends a session whose open transaction is idle for longer, so a lost replica releases its locks."""
    client_check_interval_s: Seconds = 2.0
    """How often the server checks, during a statement, whether the client is still connected."""
    keepalive_idle_s: Annotated[int, Field(ge=1, le=7200)] = 5
    """TCP keepalive, at both ends: idle time before the first probe."""
    keepalive_interval_s: Annotated[int, Field(ge=1, le=7200)] = 2
    """TCP keepalive, at both ends: time between probes."""
    keepalive_count: Annotated[int, Field(ge=1, le=100)] = 3
    """TCP keepalive, at both ends: the connection is lost after this number of unanswered probes."""
    tcp_user_timeout_s: Seconds = 10.0
    """At both ends: the connection is lost when sent data stays unacknowledged for longer."""
    retry_max_s: Seconds = 5.0
    """Longest pause between two attempts while the database is unavailable."""

    def current_password(self) -> SecretStr | None:
        """Return the password as it is now; see `consumer.config.sections.current_secret`."""
        return current_secret(self.password, self.password_file)

    @property
    def libpq_parameters(self) -> dict[str, str]:
        """Parameters beside ``conninfo`` for libpq: TLS, timeouts, keepalives; no password."""
        given = conninfo_parameters(self.conninfo.get_secret_value())
        parameters = {
            "application_name": given.get("application_name", "visit-consumer"),
            "connect_timeout": str(self.connect_timeout_s),
            "keepalives": "1",
            "keepalives_idle": str(self.keepalive_idle_s),
            "keepalives_interval": str(self.keepalive_interval_s),
            "keepalives_count": str(self.keepalive_count),
            "tcp_user_timeout": str(round(self.tcp_user_timeout_s * 1000)),
            "sslmode": given.get("sslmode", "prefer" if _all_local(given) else "verify-full"),
        }
        if self.ca_file is not None:
            parameters["sslrootcert"] = str(self.ca_file)
        elif "sslrootcert" not in given and parameters["sslmode"] == "verify-full":
            parameters["sslrootcert"] = "system"
        return parameters

    @property
    def session_settings(self) -> dict[str, str]:
        """Settings of the server for each session, for ``set_config(name, value, false)``."""
        return {
            "search_path": f"{self.schema_name}, pg_catalog",
            "timezone": "UTC",
            # The locks of a batch mean something only when each statement sees what was committed before it.
            "default_transaction_isolation": "read committed",
            "statement_timeout": f"{round(self.statement_timeout_s * 1000)}ms",
            "lock_timeout": f"{round(self.lock_timeout_s * 1000)}ms",
            "idle_in_transaction_session_timeout": f"{round(self.idle_in_transaction_timeout_s * 1000)}ms",
            "client_connection_check_interval": f"{round(self.client_check_interval_s * 1000)}ms",
            # The server's end of the connection: what it holds for us when our machine is gone, or we read no answers.
            "tcp_keepalives_idle": f"{self.keepalive_idle_s}s",
            "tcp_keepalives_interval": f"{self.keepalive_interval_s}s",
            "tcp_keepalives_count": str(self.keepalive_count),
            "tcp_user_timeout": f"{round(self.tcp_user_timeout_s * 1000)}ms",
        }

    @model_validator(mode="after")
    def _safe(self) -> Self:
        one_source("database", self.password, self.password_file)
        try:
            given = conninfo_parameters(self.conninfo.get_secret_value())
        except ValueError as error:
            raise ValueError(f"conninfo {error}") from None  # `from` would show the text, which may hold a password
        if self.schema_name.startswith("pg_") or self.schema_name in {"public", "information_schema"}:
            raise ValueError(f"schema {self.schema_name!r} is PostgreSQL's own; choose another, such as visits")
        if "password" in given and (self.password is not None or self.password_file is not None):
            raise ValueError("conninfo carries a password, and another is given beside it; keep one")
        if "service" in given:
            raise ValueError("conninfo names a service file, whose host and sslmode cannot be checked; write them here")
        mode = self.libpq_parameters["sslmode"]
        if mode not in _VERIFIED and not _all_local(given) and not self.allow_insecure:
            raise ValueError(
                f"conninfo has sslmode={mode}, which does not verify the server: use verify-full, "
                "or set database.allow_insecure: true"
            )
        return self


def embedded_secrets(conninfo: str) -> tuple[str, ...]:
    """Return the secrets that a valid connection string carries."""
    parameters = conninfo_parameters(conninfo)
    return tuple(parameters[name] for name in sorted(_SECRET_PARAMETERS) if parameters.get(name))


def has_password(conninfo: str) -> bool:
    """Whether a connection string carries a secret, as far as it can be read."""
    try:
        return bool(embedded_secrets(conninfo))
    except ValueError:
        return "password" in conninfo.lower()
