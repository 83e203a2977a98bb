"""One session of PostgreSQL, reopened when it is lost, and its errors sorted by what to do about them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from time import monotonic
from types import TracebackType
from typing import NamedTuple, Self

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

from consumer.config import DatabaseSettings
from consumer.errors import DataRefusedError, FatalError, TransientError, VisitConsumerError
from consumer.postgres.pipelined import pipelined
from consumer.postgres.refusal import refusing_states
from consumer.postgres.sql_files import statements

_TRANSIENT_CLASSES = frozenset({"08", "25", "40", "53", "57", "58", "XX"})
"""Connection lost, wrong transaction state (a read-only server among them), rolled back, out of resources, shut down,
system error, internal error: the same call may work later. Source: PostgreSQL's appendix A, error codes."""
_REFUSED_CLASSES = frozenset({"22", "23", "54"})
"""Data exception, integrity constraint, limit exceeded (a text too long for an index): the rows are at fault."""
_CANCEL_TIMEOUT_S = 1.0
_BEGIN, _COMMIT = b"BEGIN", b"COMMIT"
_IN_TRANSACTION = frozenset({pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR})
_LOCK_NOT_AVAILABLE = "55P03"
_TOO_LONG = frozenset({"25P03", "25P04", "53200", "57014"})
"""Idle in transaction, transaction timeout, out of memory, statement timeout."""


_PLANNING: Mapping[str, str] = {"plan_cache_mode": "force_custom_plan"}
"""Each statement is planned as it runs, for 0.1 to 0.5 ms: many have conditions that are there or not, such as a night,
and a plan for either case reads what a survey of years has of every night."""
LOOKS_UP_BY_KEY: Mapping[str, str] = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
"""For a session in which every statement finds its rows by a key.

A plan that was made while a table was empty reads it whole, or by the wrong index, and a prepared statement keeps it
until the table's statistics are refreshed: a minute or more into a backfill, which is 15,000 visits. So no table is
read whole.
"""


def sorted_error(error: psycopg.Error) -> VisitConsumerError:
    """Turn an error of psycopg into ours: retry, bisect, or stop.

    Parameters
    ----------
    error
        As psycopg raised it.

    Returns
    -------
    error
        `TransientError`, `DataRefusedError` or `FatalError`; to be raised ``from`` the original.
    """
    state = error.sqlstate
    what = str(error).strip() or type(error).__name__
    if state is None:
        if isinstance(error, psycopg.DataError):
            # Refused by the driver before the server saw it: a NUL in a text, a number beyond every integer type.
            return DataRefusedError(f"the row cannot be sent to PostgreSQL: {what}", sqlstate="22000")
        return TransientError(f"no connection to PostgreSQL: {what}")
    if state[:2] in _REFUSED_CLASSES:
        return DataRefusedError(f"PostgreSQL refuses a row ({state}): {what}", sqlstate=state)
    if state[:2] in _TRANSIENT_CLASSES or state == _LOCK_NOT_AVAILABLE:
        return TransientError(f"PostgreSQL cannot do it now ({state}): {what}")
    return FatalError(f"PostgreSQL will not do it ({state}): {what}")


def _raise_refused(conninfo: str, timeout_s: float, error: psycopg.Error) -> None:
    """Raise `FatalError` where the servers refuse the connection for good: wrong password, no such database or role."""
    states = refusing_states(conninfo, timeout_s=timeout_s)
    if states and not any(state[:2] in _TRANSIENT_CLASSES for state in states):
        raise FatalError(f"PostgreSQL refuses the connection ({', '.join(states)}): {str(error).strip()}") from error


def took_too_long(error: TransientError) -> bool:
    """Whether the server ended what we did for its length or its size, so that doing less of it may help."""
    cause = error.__cause__
    return isinstance(cause, psycopg.Error) and cause.sqlstate in _TOO_LONG


def error_class(error: BaseException) -> str:
    """Return the label of ``db_errors_total`` for one of our errors: the SQLSTATE class, or ``connection``."""
    cause = error.__cause__
    state = cause.sqlstate if isinstance(cause, psycopg.Error) else None
    return state[:2] if state else "connection"


class Database:
    """One session, opened at first use and again after it was lost.

    Parameters
    ----------
    settings
        Where, as whom, and the bounds of a session.
    application_name
        What ``pg_stat_activity`` shows.
    session
        Settings of the server for this session, such as `LOOKS_UP_BY_KEY`, besides those of the configuration.
    """

    def __init__(
        self,
        settings: DatabaseSettings,
        *,
        application_name: str = "visit-consumer",
        session: Mapping[str, str] | None = None,
    ) -> None:
        self._settings = settings
        self._session_settings = {**_PLANNING, **settings.session_settings, **(session or {})}
        self._application_name = application_name
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None
        self._prepared: set[bytes] = set()
        """Statements that the session has been given before."""
        self.pooled = False
        """Whether a connection pooler is in between, as far as it shows: it answers with a process of its own."""

    @property
    def owner(self) -> str:
        """What ``pg_stat_activity`` shows."""
        return self._application_name

    @property
    def schema(self) -> str:
        """Name of the schema that holds the tables."""
        return self._settings.schema_name

    @contextmanager
    def transaction(self, *, timeout_factor: int = 1, snapshot: bool = False) -> Iterator["Session"]:
        """Run the body in one transaction.

        Behind a pooler, each may run in another session of the server: what it relies on is set in it.

        Parameters
        ----------
        timeout_factor
            So many times as long as the settings say may a statement take, and a pause between two.
        snapshot
            Read what was committed at one moment, and write nothing.

        Raises
        ------
        TransientError
            The session is lost or the server is unavailable. When that happens during the commit, only the stored
            position shows whether the transaction happened.
        DataRefusedError
            The server refuses a row.
        FatalError
            The server will not do this at all: missing table, missing privilege, wrong password.
        """
        try:
            connection = self.connection()
            session = Session(connection, self.schema, None if self.pooled else self._prepared)
            if snapshot:
                session.run_later("session", "snapshot")
            if self.pooled:
                session.run_later("session", "configure", self._configuration(local=True))
            if timeout_factor > 1:
                session.run_later("session", "raise_timeouts", {"times": timeout_factor})
            try:
                yield session
                session.commit()
            except BaseException:
                if connection.info.transaction_status in _IN_TRANSACTION:
                    connection.rollback()
                raise
        except psycopg.Error as error:
            if self._connection is not None and self._connection.info.transaction_status != pq.TransactionStatus.IDLE:
                self.close()
            raise sorted_error(error) from error

    @contextmanager
    def snapshot(self) -> Iterator["Session"]:
        """Read what was committed at one moment, in one transaction that writes nothing; raises as `transaction`."""
        with self.transaction(snapshot=True) as session:
            yield session

    def __enter__(self) -> Self:
        """Return the database itself; the first transaction opens the session."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the session."""
        self.close()

    def close(self) -> None:
        """End the session; the next transaction opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def cancel(self) -> None:
        """Ask the server, from any thread, to end the running statement; one that does not answer goes on."""
        connection = self._connection
        if connection is not None and not connection.closed:
            with suppress(psycopg.Error):
                connection.cancel_safe(timeout=_CANCEL_TIMEOUT_S)

    def connection(self) -> psycopg.Connection[tuple[object, ...]]:
        """Return the session's connection, opened where there is none; raises what psycopg does, and `FatalError`."""
        if self._connection is None or self._connection.closed:
            settings = self._settings
            password = settings.current_password()
            given = dict(settings.libpq_parameters)
            given["application_name"] = self._application_name
            if password is not None:
                given["password"] = password.get_secret_value()
            # Every statement is prepared by a request of its own. PostgreSQL takes a session for idle, and ends it in
            # time, when it waits for the begin of a request; one that has its text and waits for its values, because we
            # were frozen in the middle, would hold its locks for as long as we are.
            conninfo = make_conninfo(settings.conninfo.get_secret_value(), **given)
            started_s = monotonic()
            try:
                connection = psycopg.connect(conninfo, autocommit=True, prepare_threshold=0)
            except psycopg.OperationalError as error:
                # A server that does not answer in time does not refuse.
                if error.sqlstate is None and monotonic() - started_s < settings.connect_timeout_s:
                    _raise_refused(conninfo, settings.connect_timeout_s, error)
                raise
            try:
                ((backend,),) = connection.execute(statements("session")["backend"], prepare=False).fetchall()
                # A pooler's session is lent: what is set stays for others, what is prepared is not found again.
                self.pooled = backend != connection.info.backend_pid
                if self.pooled:
                    connection.prepare_threshold = None
                else:
                    connection.execute(statements("session")["configure"], self._configuration(local=False))
            except psycopg.Error:
                connection.close()
                raise
            self._connection = connection
            self._prepared.clear()
        return self._connection

    def _configuration(self, *, local: bool) -> dict[str, object]:
        names, values = zip(*self._session_settings.items(), strict=True)
        return {"names": list(names), "values": list(values), "local": local}


class _Statement(NamedTuple):
    text: bytes
    parameters: Mapping[str, object] | None = None
    check: Callable[[list[tuple[object, ...]]], None] | None = None


class Session:
    """Runs named statements inside one transaction.

    Statements whose outcome nothing depends on wait for the next one that is answered, and are sent together with it: a
    server that is 10 ms away costs 10 ms for each answer that is waited for.

    Parameters
    ----------
    connection
        In no transaction: it is begun with the first statement.
    schema
        Name of the schema in which it is to stand.
    prepared
        Statements that this connection has prepared; None where it prepares none.
    """

    def __init__(
        self, connection: psycopg.Connection[tuple[object, ...]], schema: str, prepared: set[bytes] | None = None
    ) -> None:
        self._connection = connection
        self._prepared = prepared
        self._later = [_Statement(_BEGIN)]
        self.schema = schema
        self.round_trips = 0
        """How often an answer of the server was waited for."""

    def rows(self, file: str, name: str, parameters: Mapping[str, object] | None = None) -> list[tuple[object, ...]]:
        """Run a statement that returns rows."""
        return self._send(_Statement(statements(file)[name], parameters)).fetchall()

    def run(self, file: str, name: str, parameters: Mapping[str, object] | None = None) -> int:
        """Run a statement and return how many rows it concerned."""
        return self._send(_Statement(statements(file)[name], parameters)).rowcount

    def copy(self, file: str, name: str, rows: Iterable[bytes]) -> None:
        """Run a ``COPY ... FROM STDIN``, with data in the format that it names."""
        if self._later:
            self._send()
        self.round_trips += 1
        with self._connection.cursor() as cursor, cursor.copy(statements(file)[name]) as target:
            for each in rows:
                target.write(each)

    def run_later(
        self,
        file: str,
        name: str,
        parameters: Mapping[str, object] | None = None,
        *,
        check: Callable[[list[tuple[object, ...]]], None] | None = None,
    ) -> None:
        """Run a statement before the next one that is answered, which raises what it fails with.

        Parameters
        ----------
        file, name, parameters
            The statement.
        check
            Raises an error where the rows of its answer are not as they should be; nothing is committed before.
        """
        self._later.append(_Statement(statements(file)[name], parameters, check))

    def commit(self) -> None:
        """Send what is left, and commit."""
        if any(each.check is not None for each in self._later):
            self._send()
        if self._later != [_Statement(_BEGIN)]:
            self._send(_Statement(_COMMIT))

    def _send(self, *last: "_Statement") -> psycopg.Cursor[tuple[object, ...]]:
        """Send what is left and these statements; return the last one's answer."""
        sent, self._later = [*self._later, *last], []
        new = [] if self._prepared is None else [each for each in sent if each.text not in self._prepared]
        if len(sent) == 1 or new:
            answers = [self._execute(each) for each in sent]
            self.round_trips += len(sent)
        else:
            answers = []
            with pipelined(self._connection) as pipeline:
                for each in sent:
                    answers.append(self._execute(each))
                    pipeline.end_statement()
            self.round_trips += 1
        if self._prepared is not None:
            self._prepared.update(each.text for each in new)
        for statement, answer in zip(sent, answers, strict=True):
            if statement.check is not None:
                statement.check(answer.fetchall())
        return answers[-1]

    def _execute(self, statement: "_Statement") -> psycopg.Cursor[tuple[object, ...]]:
        prepare = None if statement.text not in {_BEGIN, _COMMIT} else False
        return self._connection.execute(statement.text, statement.parameters, prepare=prepare)

    def stream(
        self, file: str, name: str, parameters: Mapping[str, object], *, at_once: int
    ) -> Iterator[list[tuple[object, ...]]]:
        """Run a statement that returns rows, and yield some at a time: the others stay with the server."""
        if self._later:
            self._send()
        with self._connection.cursor(name) as cursor:
            cursor.execute(statements(file)[name], parameters)
            while rows := cursor.fetchmany(at_once):
                yield rows

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Run the body so that its statements can be refused without losing the transaction.

        Raises
        ------
        DataRefusedError
            When PostgreSQL refuses a row; the body is undone then.
        """
        if self._later:
            self._send()
        try:
            with self._connection.transaction():
                yield
                if self._later:
                    self._send()
        except psycopg.Error as error:
            ours = sorted_error(error)
            if isinstance(ours, DataRefusedError):
                raise ours from error
            raise

    def script(self, text: str) -> None:
        """Run the text of one of the package's own migration files."""
        if self._later:
            self._send()
        self._connection.execute(text.encode(), prepare=False)
