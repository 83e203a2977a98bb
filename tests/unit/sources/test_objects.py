"""Objects are listed on any file system that fsspec knows, and addresses lose their secrets."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import fsspec
import pytest

from consumer.errors import ConfigurationError, TransientError
from consumer.sources.header_reader import HeaderLimits, read_header
from consumer.sources.model import NotReadableYetError
from consumer.sources.objects import list_objects, public_uri


@pytest.fixture
def memory() -> Iterator[Any]:
    filesystem = fsspec.filesystem("memory")
    for name in ("a b+%é.json", "b.fits", "b.json", "c[1].yaml", "notes.txt", "deep/d.fits.fz", "deep/D.JSON"):
        filesystem.pipe(f"/raws/{name}", b"x")
    yield filesystem
    filesystem.rm("/raws", recursive=True)


@pytest.mark.usefixtures("memory")
def test_folders_and_globs_name_raws_and_sidecars_and_what_is_named_itself_is_taken_as_it_is() -> None:
    def names(*uris: str) -> list[str]:
        return [each.uri.removeprefix("memory:///raws/") for each in list_objects(uris)]

    below = ["a b+%é.json", "b.fits", "c[1].yaml", "deep/D.JSON", "deep/d.fits.fz"]
    assert names("memory://raws") == below
    assert names("memory://raws/*.json") == ["a b+%é.json", "b.json"]
    assert names("memory://raws/c[1].yaml") == ["c[1].yaml"]
    assert names("memory://raws/notes.txt", "memory://raws/none.fits") == ["notes.txt", "none.fits"]


@pytest.mark.parametrize(
    ("uri", "public"),
    [
        ("/data/a?b#c.fits", "/data/a?b#c.fits"),
        ("s3://bucket/a b+%25?x.json", "s3://bucket/a b+%25?x.json"),
        ("https://user:secret@host.example.org/a.fits?X-Amz-Signature=abc", "https://host.example.org/a.fits"),
        ("ftp://user:secret@host.example.org:21/a.fits", "ftp://host.example.org:21/a.fits"),
    ],
)
def test_addresses_carry_no_credentials(uri: str, public: str) -> None:
    assert public_uri(uri) == public


def test_unknown_stores_and_stores_that_do_not_answer(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="unknown://x"):
        list(list_objects(["unknown://x"]))

    def refuse(*_: object) -> bool:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(type(memory), "isdir", refuse)
    with pytest.raises(TransientError, match="check the address and the credentials"):
        list(list_objects(["memory://raws"]))


class _Signed(BaseHTTPRequestHandler):
    """Serves a sidecar to whoever has the key."""

    def do_GET(self) -> None:
        content = b'{"INSTRUME": "LATISS"}'
        self.send_response(200 if self.path.endswith("?key=secret") else 403)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET  # noqa: N815  # the library's name

    def log_message(self, *_: object) -> None:
        """Be silent."""


def test_a_signed_url_is_read_with_its_signature_and_reported_without() -> None:
    with HTTPServer(("127.0.0.1", 0), _Signed) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/a.json"
        (named,) = list_objects([f"{address}?key=secret"])
        assert named.uri == address
        with named.open() as stream:
            assert read_header(stream, named.uri, HeaderLimits()) == {"INSTRUME": "LATISS"}
        guess = named._replace(path=f"{address}?key=guess")
        with pytest.raises(NotReadableYetError) as caught, guess.open() as stream:
            read_header(stream, named.uri, HeaderLimits())
        assert "guess" not in str(caught.value)
        server.shutdown()
