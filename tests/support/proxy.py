"""A TCP proxy of the tests' own: it can cut, hold, slow down and part what runs through it, and watch for bytes."""

import contextlib
import socket
import threading
import time
from enum import Enum, auto
from types import TracebackType
from typing import Self

from tests.support.children import free_port

_CHUNK = 1 << 20
_ACCEPT_POLL_S = 0.1
_TO_ACT_S = 0.3
"""How long a server gets to act on a request whose answer will be lost."""


class _Reaction(Enum):
    """What happens when a client sends the mark."""

    NONE = auto()
    HOLD_ANSWERS = auto()
    CUT_BEFORE = auto()
    CUT_AFTER = auto()


class _Pair:
    """One client's connection and the one to the server that serves it."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server

    def close(self) -> None:
        """Cut both at once, with a reset rather than an orderly end."""
        for each in (self.client, self.server):
            with contextlib.suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            with contextlib.suppress(OSError):
                each.close()


class Proxy:
    """Listens on a free port of 127.0.0.1 and passes bytes to a port of this machine and back.

    Parameters
    ----------
    target_port
        Where the server listens.

    Attributes
    ----------
    port
        Where clients connect; the same for the proxy's whole life.
    delay_s
        Added to each chunk of bytes, in each direction.
    bytes_per_s
        Greatest rate of one direction of one connection; None: as fast as it goes.
    cuts
        Connections that `cut_at` has cut.
    """

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self.delay_s = 0.0
        self.bytes_per_s: float | None = None
        self._target_port = target_port
        self._pairs: set[_Pair] = set()
        self._lock = threading.Lock()
        self._refusing = False
        self._flowing = threading.Event()
        self._flowing.set()
        self._answering = threading.Event()
        self._answering.set()
        self._ended = False
        self._mark = b""
        self._reaction = _Reaction.NONE
        self._left: int | None = None
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._listener.settimeout(_ACCEPT_POLL_S)
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break every connection, with a reset; new ones are welcome."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            pair.close()

    def lead_to(self, target_port: int) -> None:
        """Pass bytes to another port from now on; who is connected is cut."""
        self._target_port = target_port
        self.cut()

    def refuse(self) -> None:
        """Break every connection, and accept none until `heal`."""
        self._refusing = True
        self.cut()

    def hold(self) -> None:
        """Pass nothing on, in either direction, until `heal`: a network that swallows, and says nothing."""
        self._flowing.clear()

    def hold_after(self, number: int) -> None:
        """Pass on so many more bytes of what clients say, and then nothing, until `heal`: also half a request."""
        self._left = number

    @property
    def holding(self) -> bool:
        """Whether nothing is passed on now."""
        return not self._flowing.is_set()

    def heal(self) -> None:
        """Be an honest proxy again; bytes that were held arrive."""
        self._refusing = False
        self._left = None
        self.delay_s = 0.0
        self.bytes_per_s = None
        self._reaction = _Reaction.NONE
        self._answering.set()
        self._flowing.set()

    def hold_answers_after(self, mark: bytes) -> None:
        """Pass requests on, but from the first one with this mark on no answers, until `heal`."""
        self._mark = mark
        self._reaction = _Reaction.HOLD_ANSWERS

    def cut_at(self, mark: bytes, *, arrives: bool) -> None:
        """Cut one connection, once, when a client sends this mark: before the server gets it, or before it answers."""
        self._mark = mark
        self._reaction = _Reaction.CUT_AFTER if arrives else _Reaction.CUT_BEFORE

    def close(self) -> None:
        """End the proxy."""
        self._ended = True
        self.heal()
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while not self._ended:
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            if self._refusing:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._target_port), timeout=5)
            except OSError:
                client.close()
                continue
            client.settimeout(None)
            server.settimeout(None)
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = _Pair(client, server)
            with self._lock:
                self._pairs.add(pair)
            threading.Thread(target=self._pump, args=(pair, client, server), daemon=True).start()
            threading.Thread(target=self._pump, args=(pair, server, client), daemon=True).start()

    def _pump(self, pair: _Pair, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(_CHUNK):
                self._flowing.wait()
                if source is pair.server:
                    self._answering.wait()
                elif self._reaction is not _Reaction.NONE and self._mark in data and not self._reacts(pair, data):
                    break
                elif self._left is not None:
                    data = self._begin_of(data, sink)
                if self.delay_s:
                    time.sleep(self.delay_s)
                if self.bytes_per_s:
                    time.sleep(len(data) / self.bytes_per_s)
                sink.sendall(data)
        except OSError:
            pass
        with self._lock:
            self._pairs.discard(pair)
        pair.close()

    def _begin_of(self, data: bytes, server: socket.socket) -> bytes:
        """Pass on what may still be said, and return the rest once it may be said too."""
        assert self._left is not None
        now, rest = data[: self._left], data[self._left :]
        self._left -= len(now)
        server.sendall(now)
        if rest:
            self.hold()
            self._flowing.wait()
        return rest

    def _reacts(self, pair: _Pair, data: bytes) -> bool:
        """Do what was asked for at the mark; False when the connection is to be cut now."""
        reaction, self._reaction = self._reaction, _Reaction.NONE
        if reaction is _Reaction.HOLD_ANSWERS:
            self._answering.clear()
            return True
        self.cuts += 1
        if reaction is _Reaction.CUT_AFTER:
            self._answering.clear()
            pair.server.sendall(data)
            time.sleep(_TO_ACT_S)
            with contextlib.suppress(OSError):
                pair.client.shutdown(socket.SHUT_RDWR)
            self._answering.set()
        return False

    def __enter__(self) -> Self:
        """Listen; it does so already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        self.close()
