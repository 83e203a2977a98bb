"""What a registry answers: an id that it does not know is a fault of the message, all else a reason to wait."""

import http.server
import threading
import time
from collections.abc import Iterator

import pytest

from consumer.config import RegistrySettings
from consumer.errors import TransientError
from consumer.kafka import schema_registry
from consumer.kafka.schema_registry import RegistryClient

JSON, HTML = "application/json", "text/html"


class Answering(http.server.BaseHTTPRequestHandler):
    """Gives one answer to everything."""

    status, kind, body, delay_s = 404, JSON, b"", 0.0
    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        time.sleep(self.delay_s)
        self.send_response(self.status)
        self.send_header("Content-Type", self.kind)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Write nothing."""


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Write nothing of clients that did not wait."""


@pytest.fixture
def handler() -> type[Answering]:
    return type("Handler", (Answering,), {})


@pytest.fixture
def client(handler: type[Answering]) -> Iterator[RegistryClient]:
    server = Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    opened = RegistryClient(RegistrySettings(url=f"http://127.0.0.1:{server.server_port}", timeout_s=0.2))
    yield opened
    opened.close()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (404, JSON, b'{"error_code": 40403, "message": "Schema not found"}'),
        (404, JSON, b'{"error_code": 40401, "message": "Subject not found"}'),
        (404, JSON, b"{}"),
        (404, JSON, b""),
        (404, HTML, b"<html><h1>Not Found</h1></html>"),
        (400, HTML, b"<html>bad id</html>"),
        (422, JSON, b'{"error_code": 42201, "message": "invalid"}'),
    ],
)
def test_an_id_that_is_not_known_is_the_messages_fault_in_whatever_form(
    client: RegistryClient, handler: type[Answering], status: int, kind: str, body: bytes
) -> None:
    handler.status, handler.kind, handler.body = status, kind, body
    for _ in range(3):
        with pytest.raises(LookupError):
            client.fetch(7)
    assert handler.asked == 1


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (401, JSON, b'{"error_code": 401, "message": "Unauthorized"}'),
        (403, HTML, b"<html>Forbidden</html>"),
        (407, HTML, b"<html>Proxy</html>"),
        (408, HTML, b""),
        (429, JSON, b"{}"),
        (500, JSON, b'{"error_code": 50001, "message": "store"}'),
        (502, HTML, b"<html>Bad Gateway</html>"),
        (503, HTML, b""),
        (504, HTML, b""),
        (200, HTML, b"<html>Please log in</html>"),
        (200, JSON, b"{}"),
    ],
)
def test_anything_else_is_a_reason_to_wait_and_the_registry_is_left_alone_for_a_while(
    client: RegistryClient, handler: type[Answering], status: int, kind: str, body: bytes
) -> None:
    handler.status, handler.kind, handler.body = status, kind, body
    for _ in range(3):
        with pytest.raises(TransientError):
            client.fetch(7)
    assert handler.asked == 1


def test_one_that_hangs_costs_others_a_part_of_the_time_and_heals(
    client: RegistryClient, handler: type[Answering], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(schema_registry, "monotonic", lambda: now[0])
    handler.status, handler.delay_s = 200, 0.5
    handler.body = b'{"schema": "{}"}'
    with pytest.raises(TransientError, match="cannot be reached"):
        client.fetch(7)
    handler.delay_s = 0.0
    with pytest.raises(TransientError):
        client.fetch(7)
    now[0] += 1.0
    assert client.fetch(7) == "{}"
