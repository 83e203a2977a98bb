"""Objects are listed on any file system that fsspec knows, and addresses lose their secrets."""

from collections.abc import Iterator
from typing import Any

import fsspec
import pytest

from consumer.errors import ConfigurationError, TransientError
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
        return [source.uri.removeprefix("memory:///raws/") for source, _ in list_objects(uris)]

    below = ["a b+%é.json", "b.fits", "c[1].yaml", "deep/D.JSON", "deep/d.fits.fz"]
    assert names("memory://raws") == below
    assert names("memory://raws/*.json") == ["a b+%é.json", "b.json"]
    assert names("memory://raws/c[1].yaml") == ["c[1].yaml"]
    assert names("memory://raws/notes.txt", "memory://raws/none.fits") == ["notes.txt", "none.fits"]
    assert next(list_objects(["memory://raws/*.yaml"]))[0].size == 1


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
