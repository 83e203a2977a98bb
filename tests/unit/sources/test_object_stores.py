"""Objects of folders: only regular files within, and only folders that may hold what is asked for."""

import os
from pathlib import Path

import pytest

from consumer.config.source_places import PatternSettings
from consumer.errors import TransientError
from consumer.sources.configured import compiled
from consumer.sources.model import NotReadableYetError, RejectedError, RejectReason
from consumer.sources.object_stores import ObjectStores
from consumer.sources.places import Place


def folder(path: Path, *prefixes: str) -> Place:
    return Place(url=str(path.resolve()), prefixes=prefixes or ("",), patterns=compiled(PatternSettings()))


def read(place: Place, key: str) -> bytes:
    with ObjectStores().open(place, key) as stream:
        return stream.read()


@pytest.fixture
def raws(tmp_path: Path) -> Path:
    path = tmp_path / "raws"
    for name in ("a/20261101/x.json", "a/20261102/y.json", "b/z.json", "top.json"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(name)
    (tmp_path / "secret.json").write_text("secret")
    return path


def test_a_file_is_read(raws: Path) -> None:
    assert read(folder(raws), "b/z.json") == b"b/z.json"


def test_a_link_within_the_folder_is_followed_and_one_that_leads_out_is_not(raws: Path) -> None:
    (raws / "inner.json").symlink_to(raws / "b" / "z.json")
    assert read(folder(raws), "inner.json") == b"b/z.json"
    (raws / "outer.json").symlink_to(raws.parent / "secret.json")
    (raws / "out").symlink_to(raws.parent)
    for key in ("outer.json", "out/secret.json"):
        with pytest.raises(RejectedError, match="a symbolic link out of") as caught:
            read(folder(raws), key)
        assert caught.value.reason is RejectReason.NOT_ALLOWED


def test_a_pipe_and_a_folder_are_no_files_and_are_not_waited_for(raws: Path) -> None:
    os.mkfifo(raws / "pipe.json")
    with pytest.raises(RejectedError, match="no regular file"):
        read(folder(raws), "pipe.json")
    with pytest.raises((RejectedError, NotReadableYetError)):
        read(folder(raws), "b")


def test_what_is_not_there_or_forbidden_can_be_tried_again(raws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotReadableYetError) as caught:
        read(folder(raws), "b/none.json")
    assert caught.value.reason is RejectReason.MISSING

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # root may read everything
    with pytest.raises(NotReadableYetError) as caught:
        read(folder(raws), "b/z.json")
    assert caught.value.reason is RejectReason.NO_ACCESS


def test_an_error_while_a_file_is_read_can_be_tried_again(raws: Path) -> None:
    with (
        pytest.raises(NotReadableYetError, match="Stale file handle") as caught,
        ObjectStores().open(folder(raws), "top.json"),
    ):
        raise OSError(116, "Stale file handle")
    assert caught.value.reason is RejectReason.UNREACHABLE


def test_all_files_are_listed_with_what_changes_with_their_content(raws: Path) -> None:
    listed = dict(ObjectStores().list_objects(folder(raws)))
    assert set(listed) == {"a/20261101/x.json", "a/20261102/y.json", "b/z.json", "top.json"}
    (raws / "top.json").write_text("longer than before")
    assert dict(ObjectStores().list_objects(folder(raws)))["top.json"] != listed["top.json"]


def test_folders_of_other_days_and_prefixes_are_not_entered(raws: Path) -> None:
    def listed(*prefixes: str, days: list[int] | None = None) -> set[str]:
        return {each.key for each in ObjectStores().list_objects(folder(raws, *prefixes), days)}

    assert listed(days=[20261101]) == {"a/20261101/x.json", "b/z.json", "top.json"}
    assert listed("a/", days=[20261102]) == {"a/20261102/y.json"}
    assert listed("a/202611") == {"a/20261101/x.json", "a/20261102/y.json"}
    assert listed("nothing/yet/") == set()


def test_a_folder_that_is_not_there_cannot_be_listed(tmp_path: Path) -> None:
    with pytest.raises(TransientError, match="cannot be listed"):
        list(ObjectStores().list_objects(folder(tmp_path / "none")))


def test_an_inner_folder_that_is_forbidden_leaves_the_others(raws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("/b"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    keys = {each.key for each in ObjectStores().list_objects(folder(raws))}
    assert keys == {"a/20261101/x.json", "a/20261102/y.json", "top.json"}
    with pytest.raises(TransientError, match="cannot be listed"):  # what the settings name is no chance find
        list(ObjectStores().list_objects(folder(raws, "b/")))
