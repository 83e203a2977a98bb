"""The read-only port: what it answers, what it refuses, and that nobody can wear it out."""

import asyncio
import contextlib
import gzip
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.message import Message
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from structlog.testing import capture_logs

from consumer.errors import ConfigurationError
from consumer.metrics import Metrics
from consumer.model import PartitionId
from consumer.web import Health, HttpServer, PartitionStatus, ServiceStatus, read_only_port
from consumer.web import server as server_module
from consumer.web.read_only import SECURITY_HEADERS

GOOD = Health(ok=True)
STATUS = ServiceStatus(
    version="1.2.3",
    state="running",
    started_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    partitions=(
        PartitionStatus(partition=PartitionId("raw", 1), state="stalled", position=None, lag=None, detail="<gap> & co"),
        PartitionStatus(partition=PartitionId("raw", 0), state="reading", position=41_000, lag=7, open_groups=2),
    ),
    last_visit='LSSTCam <script>alert("x")</script>',
    last_visit_at=datetime(2026, 1, 2, 3, 5, 0, tzinfo=UTC),
    counts={"events": 41_205},
)


@dataclass
class Source:
    """A service of the test's own."""

    life: Health = GOOD
    readiness: Health = GOOD
    shown: ServiceStatus = STATUS
    fault: Exception | None = None
    asked: list[str] = field(default_factory=list)

    def reset(self) -> None:
        self.life = self.readiness = GOOD
        self.shown, self.fault = STATUS, None
        self.asked.clear()

    def alive(self) -> Health:
        self.asked.append(threading.current_thread().name)
        return self.life

    def ready(self) -> Health:
        return self.readiness

    def status(self) -> ServiceStatus:
        if self.fault is not None:
            raise self.fault
        return self.shown


@dataclass
class Reply:
    status: int
    headers: Message
    body: bytes


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[HttpServer, Source]]:
    """One server for most tests: stopping one takes a tenth of a second."""
    registry = CollectorRegistry()
    Metrics(registry, instruments=["LATISS"])
    source = Source()
    with HttpServer("127.0.0.1", 0, read_only_port(registry, source)) as running:
        yield running, source


@pytest.fixture
def source(shared: tuple[HttpServer, Source]) -> Source:
    shared[1].reset()
    return shared[1]


@pytest.fixture
def server(shared: tuple[HttpServer, Source], source: Source) -> HttpServer:
    assert source is shared[1]
    return shared[0]


def ask(server: HttpServer, path: str, *, method: str = "GET", body: bytes | None = None, **headers: str) -> Reply:
    """Send one request."""
    request = urllib.request.Request(  # noqa: S310  # our own server's URL
        server.url + path, method=method, data=body, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310  # the same
            return Reply(reply.status, reply.headers, reply.read())
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, error.headers, error.read())


def raw(server: HttpServer, data: bytes, *, wait_s: float = 10) -> bytes:
    """Send bytes as they are, and return the whole answer."""
    with socket.create_connection(server.address, timeout=wait_s) as connection:
        connection.sendall(data)
        answer = bytearray()
        while piece := connection.recv(65536):
            answer += piece
    return bytes(answer)


def test_metrics_are_exposed_in_both_forms_and_compressed(server: HttpServer) -> None:
    plain = ask(server, "/metrics")
    assert plain.status == 200
    assert plain.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert b'visit_consumer_events_total{instrument="LATISS",outcome="new"} 0.0' in plain.body
    scrape = ask(
        server, "/metrics", Accept="application/openmetrics-text;version=1.0.0", Accept_Encoding="br, gzip;q=1"
    )
    assert scrape.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert scrape.headers["Content-Encoding"] == "gzip"
    text = gzip.decompress(scrape.body).decode()
    families = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]  # the client leaves it so
    assert "visit_consumer_events" in {family.name for family in families}
    assert ask(server, "/metrics", Accept="application/openmetrics-text;version=x.y").status == 200


@pytest.mark.parametrize(("path", "name"), [("/healthz", "life"), ("/readyz", "readiness")])
def test_probes_say_yes_or_why_not(server: HttpServer, source: Source, path: str, name: str) -> None:
    good = ask(server, path)
    assert (good.status, json.loads(good.body)) == (200, {"ok": True, "reasons": []})
    setattr(source, name, Health(ok=False, reasons=("the loop has not turned for 31 s", "x")))
    bad = ask(server, path + "?verbose")
    assert bad.status == 503
    assert bad.headers["Content-Type"] == "application/json"
    assert json.loads(bad.body) == {"ok": False, "reasons": ["the loop has not turned for 31 s", "x"]}


def test_the_status_page_shows_partitions_in_order_and_escapes_everything(server: HttpServer, source: Source) -> None:
    page = ask(server, "/")
    text = page.body.decode()
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    for part in (
        "1.2.3",
        "running",
        "2026-01-02 03:04:05 UTC",
        "41,205",
        "41,000",
        "Alive and ready.",
        "&lt;gap&gt; &amp; co",
    ):
        assert part in text
    assert text.index("reading") < text.index("stalled")
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert not any(word in text for word in ("src=", "http://", "https://", "@import", "url("))
    source.readiness = Health(ok=False, reasons=("<b>no database</b>",))
    source.shown = replace(STATUS, partitions=(), last_visit=None, last_visit_at=None)
    text = ask(server, "/").body.decode()
    assert "not ready: &lt;b&gt;no database&lt;/b&gt;" in text
    assert "None assigned to this replica." in text
    assert "none since the start" in text


def test_pages_come_from_other_threads(server: HttpServer, source: Source) -> None:
    ask(server, "/healthz")
    assert source.asked
    assert threading.current_thread().name not in source.asked


def test_head_is_get_without_a_body(server: HttpServer) -> None:
    head, get = ask(server, "/healthz", method="HEAD"), ask(server, "/healthz")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == str(len(get.body))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
@pytest.mark.parametrize("path", ["/", "/metrics", "/elsewhere"])
def test_other_methods_are_refused(server: HttpServer, method: str, path: str) -> None:
    reply = ask(server, path, method=method, body=b"x" * 10_000)
    assert reply.status == 405
    assert reply.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/elsewhere", "/metrics/", "/healthz/../..", "/%2e%2e/etc/passwd", "/favicon.ico"])
def test_other_paths_are_not_found_and_not_repeated(server: HttpServer, path: str) -> None:
    reply = ask(server, path)
    assert (reply.status, reply.body) == (404, b"404 Not Found\n")


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/nowhere"])
def test_every_answer_has_security_headers_and_no_banner(server: HttpServer, path: str) -> None:
    reply = ask(server, path)
    for name, value in SECURITY_HEADERS.items():
        assert reply.headers[name] == value
    assert reply.headers["Server"] is None
    assert "python" not in str(reply.headers).lower()


def test_a_page_that_fails_shows_nothing_of_it(server: HttpServer, source: Source) -> None:
    source.fault = RuntimeError("password=hunter2 in /srv/secret.py")
    reply = ask(server, "/")
    assert (reply.status, reply.body) == (500, b"500 Internal Server Error\n")
    assert ask(server, "/healthz").status == 200


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET <x> HTTP/9.9\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: " + b"y" * 65_536 + b"\r\n\r\n",
        b"GET /" + b"y" * 65_536 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    ],
)
def test_broken_and_oversized_requests_harm_nothing(server: HttpServer, request_bytes: bytes) -> None:
    try:
        answer = raw(server, request_bytes)
    except ConnectionError:
        answer = b"HTTP/1.1 400"  # it closed before it had read all of it
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 404", b"HTTP/1.1 200"))
    assert b"Traceback" not in answer
    assert b"<x>" not in answer
    assert b"yyyy" not in answer
    assert ask(server, "/healthz").status == 200


@pytest.mark.parametrize("host", [b"[::1", b"[", b"x:y:z", b"a b", b"\xff", b""])
def test_a_host_that_is_none_harms_nothing(server: HttpServer, host: bytes) -> None:
    answer = raw(server, b"GET /healthz HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n")
    assert answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 400"))
    assert ask(server, "/healthz").status == 200


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST"])
def test_a_body_that_is_none_is_not_logged(server: HttpServer, method: bytes, caplog: pytest.LogCaptureFixture) -> None:
    head = method + b" /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with capture_logs() as logged:
        assert raw(server, head + b"no number\r\n").count(b"HTTP/1.1 ") == 1
        with socket.create_connection(server.address, timeout=10) as connection:
            connection.sendall(head)
            assert connection.recv(65_536).startswith(b"HTTP/1.1 ")
            with contextlib.suppress(ConnectionError):  # a method that is refused ends the connection
                connection.sendall(b"no number\r\n")
                while connection.recv(65_536):
                    pass
        assert ask(server, "/healthz").status == 200
    assert not logged
    assert not caplog.records


def test_a_client_that_drips_its_request_is_dropped_in_time(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "REQUEST_TIMEOUT_S", 0.3)
    with HttpServer("127.0.0.1", 0, read_only_port(CollectorRegistry(), source)) as running:
        started = time.monotonic()
        with socket.create_connection(running.address, timeout=5) as connection:
            try:
                while time.monotonic() - started < 10:
                    connection.sendall(b"x")
                    time.sleep(0.05)
            except ConnectionError:
                pass
        assert time.monotonic() - started < 9, "it was not dropped"


def test_a_kept_connection_has_the_whole_time_for_each_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "REQUEST_TIMEOUT_S", 1.0)

    async def slow(_: Request) -> Response:
        await asyncio.sleep(0.7)
        return Response(status_code=204)

    app = Starlette(routes=[Route("/", slow)])
    with (
        HttpServer("127.0.0.1", 0, app) as running,
        socket.create_connection(running.address, timeout=5) as connection,
    ):
        for pause_s in (0, 0.7):  # idle for most of the time that a request may take to come
            time.sleep(pause_s)
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(65_536).startswith(b"HTTP/1.1 204")


def test_a_flood_of_connections_drops_those_that_have_waited_longest(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 4)
    monkeypatch.setattr(server_module, "REQUEST_TIMEOUT_S", 60.0)  # longer than the flood lasts
    with HttpServer("127.0.0.1", 0, read_only_port(CollectorRegistry(), source)) as running:
        flood = [socket.create_connection(running.address, timeout=5) for _ in range(20)]
        try:
            for connection in flood[:16]:
                assert connection.recv(1) == b"", "dropped"
            assert ask(running, "/healthz").status == 200
            for connection in flood[-3:]:
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        finally:
            for connection in flood:
                connection.close()


def test_a_burst_of_requests_is_answered_whole(source: Source) -> None:
    with contextlib.ExitStack() as stack:
        running = HttpServer("127.0.0.1", 0, read_only_port(CollectorRegistry(), source))
        stack.callback(running.stop)
        burst = []
        for _ in range(server_module.MAX_CONNECTIONS + 100):  # they wait, since it listens but does not answer yet
            burst.append(stack.enter_context(socket.create_connection(running.address, timeout=10)))
            burst[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        running.start()
        for connection in burst:
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200")


def test_stopping_frees_the_port_and_can_be_repeated(source: Source) -> None:
    running = HttpServer("127.0.0.1", 0, read_only_port(CollectorRegistry(), source)).start()
    host, port = running.address
    assert ask(running, "/healthz").status == 200
    running.stop()
    running.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, port), timeout=2)
    again = HttpServer(host, port, read_only_port(CollectorRegistry(), source))
    again.stop()


def test_a_port_in_use_is_an_error_that_names_the_keys(server: HttpServer, source: Source) -> None:
    with pytest.raises(ConfigurationError, match=r"http\.host, http\.port: cannot listen on 127\.0\.0\.1 port \d+ \("):
        HttpServer(*server.address, read_only_port(CollectorRegistry(), source))
    with pytest.raises(ConfigurationError, match=r"http\.host, http\.port"):
        HttpServer("no-such-host.invalid", 0, read_only_port(CollectorRegistry(), source))


@pytest.mark.parametrize(("host", "url"), [("0.0.0.0", "http://127.0.0.1:"), ("::", "http://[::1]:")])  # noqa: S104  # what is tested
def test_the_url_can_be_asked_where_all_addresses_are_listened_on(source: Source, host: str, url: str) -> None:
    if ":" in host and not Path("/proc/net/if_inet6").exists():
        pytest.skip("no IPv6 on this machine")
    with HttpServer(host, 0, read_only_port(CollectorRegistry(), source)) as running:
        assert running.url.startswith(url)
        assert ask(running, "/healthz").status == 200
