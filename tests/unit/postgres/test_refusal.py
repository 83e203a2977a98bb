"""A connection that is refused: for good or for now is told by SQLSTATE, in whatever language the server speaks."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from consumer.config import DatabaseSettings
from consumer.errors import FatalError, TransientError
from consumer.postgres.connection import Database


def answer(peer: socket.socket, state: str, text: str) -> None:
    """Refuse as PostgreSQL does: no TLS, then an error for whoever it is."""
    with peer:
        peer.settimeout(5)
        (length,) = struct.unpack("!I", peer.recv(4))
        if length == 8:  # the question whether there is TLS
            peer.recv(4)
            peer.sendall(b"N")
            (length,) = struct.unpack("!I", peer.recv(4))
        peer.recv(length - 4)
        fields = f"SFATAL\0VFATAL\0C{state}\0M{text}\0\0".encode()
        peer.sendall(b"E" + struct.pack("!I", len(fields) + 4) + fields)


@contextlib.contextmanager
def refusing(state: str, text: str) -> Iterator[Database]:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    with contextlib.suppress(TimeoutError, struct.error, ConnectionError):
                        answer(server.accept()[0], state, text)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        conninfo = f"postgresql://night@127.0.0.1:{server.getsockname()[1]}/visits"
        with Database(DatabaseSettings(conninfo=conninfo, connect_timeout_s=5)) as database:  # type: ignore[arg-type] # pydantic makes it a secret
            yield database
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ("28P01", "Passwort-Authentifizierung für Benutzer »night« fehlgeschlagen"),
        ("28000", "kein pg_hba.conf-Eintrag für Host »127.0.0.1«"),
        ("3D000", "la base de données « visits » n'existe pas"),
        ("42501", "permission denied for database"),
    ],
)
def test_what_stays_refused_ends_the_service(state: str, text: str) -> None:
    with (
        refusing(state, text) as database,
        pytest.raises(FatalError, match=f"refuses the connection .{state}") as caught,
        database.transaction(),
    ):
        raise AssertionError("never reached")
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ("57P03", "the database system is starting up"),
        ("53300", "zu viele Verbindungen: die Rolle does not exist, authentication failed"),
        ("08006", "pg_hba.conf rejects connection"),
    ],
)
def test_what_may_pass_is_tried_again_whatever_the_words(state: str, text: str) -> None:
    with (
        refusing(state, text) as database,
        pytest.raises(TransientError, match="no connection to PostgreSQL"),
        database.transaction(),
    ):
        raise AssertionError("never reached")


def test_nobody_there_is_a_reason_to_try_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    settings = DatabaseSettings(conninfo=f"host=127.0.0.1 port={port} dbname=x")  # type: ignore[arg-type] # as above
    with Database(settings) as database, pytest.raises(TransientError), database.transaction():
        raise AssertionError("never reached")
