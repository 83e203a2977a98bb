"""The port that takes notifications: an answer follows the brokers', and nothing unbounded is taken."""

import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message

import pytest

from consumer.web import HttpServer
from consumer.web import notification_port as port_module
from consumer.web.notification_port import notification_port

TOKEN = "right-token"  # noqa: S105 - of this test alone
BODY = json.dumps({"Records": []}).encode()


class Sink:
    """Takes what is pushed, and acknowledges it at once unless told otherwise."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.taking = True
        self.acknowledging = True

    def accept(self, body: bytes, done: Callable[[], None]) -> bool:
        if not self.taking:
            return False
        self.bodies.append(body)
        if self.acknowledging:
            threading.Thread(target=done).start()
        return True


@contextmanager
def serving(sink: Sink, token: str | None = None) -> Iterator[str]:
    app = notification_port(sink, token=lambda: token, max_body_bytes=1024)
    with HttpServer("127.0.0.1", 0, app) as server:
        yield server.url


def post(url: str, body: bytes = BODY, method: str = "POST", **headers: str) -> tuple[int, Message]:
    request = urllib.request.Request(url, data=body, method=method, headers=headers)  # noqa: S310 - our own address
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - as above
            return answer.status, answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.headers


@pytest.mark.parametrize("path", ["/", "/notifications"])
def test_what_the_brokers_have_is_answered_with_200(path: str) -> None:
    sink = Sink()
    with serving(sink) as url:
        status, headers = post(url + path)
    assert status == 200
    assert sink.bodies == [BODY]
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_while_the_brokers_are_away_the_answer_is_503_with_retry_after() -> None:
    sink = Sink()
    sink.taking = False
    with serving(sink) as url:
        status, headers = post(url)
    assert (status, headers["Retry-After"]) == (503, "5")
    assert sink.bodies == []


def test_brokers_that_do_not_acknowledge_in_time_make_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_module, "_ANSWER_WITHIN_S", 0.2)
    sink = Sink()
    sink.acknowledging = False
    began_s = time.monotonic()
    with serving(sink) as url:
        status, headers = post(url)
    assert (status, headers["Retry-After"]) == (503, "5")
    assert time.monotonic() - began_s < 3


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ("Bearer right-token", 200),
        ("Bearer wrong-token", 401),
        ("Bearer right-token ", 200),  # HTTP: white space around a value is none of it
        ("bearer right-token", 401),
        ("Basic cmlnaHQ=", 401),
        ("", 401),
    ],
)
def test_the_token_is_asked_for_where_there_is_one(authorization: str, status: int) -> None:
    sink = Sink()
    with serving(sink, token=TOKEN) as url:
        assert post(url, Authorization=authorization)[0] == status
    assert len(sink.bodies) == (status == 200)


def test_a_body_beyond_the_limit_is_refused() -> None:
    sink = Sink()
    with serving(sink) as url:
        assert post(url, b"x" * 1024)[0] == 200
        assert post(url, b"x" * 1025)[0] == 413
    assert [len(each) for each in sink.bodies] == [1024]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/", 405), ("PUT", "/", 405), ("POST", "/x", 404)])
def test_nothing_else_is_served(method: str, path: str, status: int) -> None:
    with serving(Sink()) as url:
        assert post(url + path, method=method)[0] == status


def test_a_client_that_goes_in_the_middle_of_its_body_leaves_nothing() -> None:
    sink = Sink()
    with serving(sink) as url:
        host, _, number = url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(number))) as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert post(url)[0] == 200
    assert sink.bodies == [BODY]
