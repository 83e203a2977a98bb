"""What the fuzzer tries and a test repeats over the kept corpus: any bytes end as a value or as a typed refusal."""

import atexit
import io
import socket
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from prometheus_client import CollectorRegistry

from consumer.config.database import conninfo_parameters
from consumer.errors import CameraError, ConfigurationError
from consumer.regions import parse_camera
from consumer.sources.header_map import HeaderMap
from consumer.sources.header_reader import HeaderLimits, read_header
from consumer.sources.model import NotReadableYetError, RejectedError
from consumer.sources.s3_notifications import parse_notification
from consumer.web import HttpServer, read_only_port
from tests.fuzz import decoder
from tests.unit.web.test_server import Source

CORPUS = Path(__file__).with_name("corpus")
_HERE = Path(__file__).parent
_LIMITS = HeaderLimits(header_bytes=65_536, skipped_bytes=65_536, extensions=3)
_MAX_DETAIL = 5_000
_TELLING = 12
"""Shorter texts may be words of any message."""


def _is_fit_to_store(detail: str) -> None:
    """Require a text that PostgreSQL, a log line and a terminal take."""
    assert detail
    assert len(detail) < _MAX_DETAIL, len(detail)
    assert "\x00" not in detail
    detail.encode()


def notifications(data: bytes) -> None:
    """Try bytes as a notification of a bucket."""
    try:
        parsed = parse_notification(data)
    except RejectedError as error:
        _is_fit_to_store(error.detail)
        return
    for each in parsed.created:
        f"{each}".encode()
    for rejected in parsed.rejected:
        _is_fit_to_store(rejected.detail)


def headers(data: bytes) -> None:
    """Try bytes as a raw, compressed or not, and as a sidecar."""
    for uri in ("s3://bucket/raw.fits", "s3://bucket/raw.fits.gz", "s3://bucket/raw.yaml"):
        try:
            found = read_header(io.BytesIO(data), uri, _LIMITS)
        except (RejectedError, NotReadableYetError) as error:
            _is_fit_to_store(error.detail)
        else:
            assert all(isinstance(keyword, str) for keyword in found)


def header_maps(data: bytes) -> None:
    """Try a text as a header map."""
    try:
        HeaderMap(data.decode("utf-8", "replace"), "map.yaml", _HERE)
    except ConfigurationError as error:
        _is_fit_to_store(str(error))


def conninfo(data: bytes) -> None:
    """Try a text as a connection string: what is refused is not repeated, since it may hold a password."""
    text = data.decode("utf-8", "replace")
    refused = ""
    try:
        conninfo_parameters(text)
    except ValueError as error:
        refused = str(error)
    assert len(text) < _TELLING or text not in refused


def cameras(data: bytes) -> None:
    """Try a text as a camera file."""
    try:
        parse_camera(data.decode("utf-8", "replace"), "camera.json")
    except CameraError as error:
        _is_fit_to_store(str(error))


@cache
def _server() -> HttpServer:
    server = HttpServer("127.0.0.1", 0, read_only_port(CollectorRegistry(), Source()))
    atexit.register(server.stop)
    return server.start()


def http(data: bytes) -> None:
    """Send bytes to the port: whoever hears anything hears HTTP, and never of a failure of the service."""
    with socket.create_connection(_server().address, timeout=10) as connection:
        heard = b""
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65_536):
                heard += piece
        except ConnectionError:
            pass  # the server need not hear all of what it refuses
    assert not heard or heard.startswith(b"HTTP/1.1 "), heard[:100]
    assert not heard.startswith(b"HTTP/1.1 5"), heard[:100]


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    "decoder": decoder.check,
    "notifications": notifications,
    "headers": headers,
    "header_maps": header_maps,
    "conninfo": conninfo,
    "cameras": cameras,
    "http": http,
}
