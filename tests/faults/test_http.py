"""Hostile clients of the port: probes are answered, nothing is logged, memory does not grow, events are read."""

import contextlib
import itertools
import math
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from urllib.parse import urlsplit

import pytest

from tests.faults.conftest import Scene, night
from tests.support.service import Replica

pytestmark = [pytest.mark.kafka, pytest.mark.alone]

SLOW_CLIENTS = 2_000
PROBE_S = 1.0
"""Within so long ``/healthz`` answers, whatever others do."""
MEMORY_KB = 20 * 1024
FILES = 1_024
"""The usual bound on a process' open files, fewer than there are clients."""
HOSTILE = [
    b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 65_536 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
    b"BREW /coffee HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://[::1 HTTP/1.1\r\nHost: [::1\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: [v1.x\r\n\r\n",
    b"GET /../../../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /%2e%2e%2f%00 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"POST /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n",
    b"POST /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\nx",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    bytes(range(256)) * 64,
]


def memory_kb(replica: Replica) -> int:
    """Return the resident memory of a process, kB."""
    status = Path(f"/proc/{replica.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


@contextlib.contextmanager
def slow_clients(address: tuple[str, int], number: int) -> Iterator[list[socket.socket]]:
    """Connect many clients of which each has sent one line of a request."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, number + 1024)), hard))
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(number):
            client = stack.enter_context(socket.socket())
            client.settimeout(5)
            client.connect(address)
            client.sendall(b"GET /metrics HTTP/1.1\r\n")
            clients.append(client)
        yield clients


@contextlib.contextmanager
def probes(address: tuple[str, int]) -> Iterator[list[float]]:
    """Ask for ``/healthz`` all the time; the list grows by what each answer took, seconds: infinity where none came."""
    answers: list[float] = []
    done = Event()

    def probe() -> None:
        while not done.wait(0.02):
            begin, answer = time.monotonic(), b""
            with contextlib.suppress(OSError), socket.create_connection(address, timeout=5) as connection:
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                answer = connection.recv(65_536)
            answers.append(time.monotonic() - begin if answer.startswith(b"HTTP/1.1 200 ") else math.inf)

    thread = Thread(target=probe)
    thread.start()
    try:
        yield answers
    finally:
        done.set()
        thread.join()


def drip(clients: list[socket.socket]) -> None:
    """Send one byte more of each request that is still taken."""
    for client in clients:
        with contextlib.suppress(OSError):
            client.send(b"x")


def test_two_thousand_slow_clients_and_hostile_requests(scene: Scene) -> None:
    with scene.replica() as replica:
        scene.produce(night(1, 10))
        scene.until(replica, 200)
        for _ in range(20):
            assert replica.get("/metrics").status == 200
        url = urlsplit(replica.lines("listening")[-1]["url"])
        assert url.hostname is not None
        assert url.port is not None
        address = (url.hostname, url.port)
        resource.prlimit(replica.pid, resource.RLIMIT_NOFILE, (FILES, FILES))
        before_kb = memory_kb(replica)
        with probes(address) as answers, slow_clients(address, SLOW_CLIENTS) as clients:
            for number, hostile in enumerate(itertools.chain(HOSTILE, HOSTILE), start=1):
                with socket.create_connection(address, timeout=5) as client, contextlib.suppress(OSError):
                    client.sendall(hostile)
                drip(clients)
                scene.produce(night(10 * number + 1, 10 * number + 10))  # the loop has work all the time
            grown_kb = memory_kb(replica) - before_kb
        assert len(answers) > len(HOSTILE)
        assert max(answers) < PROBE_S
        assert grown_kb < MEMORY_KB
        scene.judge(replica)
        assert "Traceback" not in replica.log_tail(10_000)
        assert not [line for line in replica.lines() if line.get("level") in {"warning", "error", "critical"}]
