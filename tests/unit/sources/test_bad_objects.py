"""The kinds of bad object: each is rejected, ignored or waited for by rule, named and counted, and stops no other."""

import gzip
import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from consumer.config import load_settings
from consumer.sources.configured import configured_places, configured_translator
from consumer.sources.detector_names import DetectorNames
from consumer.sources.header_reader import HeaderLimits
from consumer.sources.interfaces import EmitCommand, FoundObject
from consumer.sources.notified import NotificationIntake
from consumer.sources.object_stores import ObjectStores
from consumer.sources.place_reader import PlaceReader
from tests.support.emitting import Bench
from tests.support.sidecars import expected_sensors, header_of, key_of, sidecars, write
from tests.unit.sources.test_s3_notifications import changed, recorded

DETECTOR = "R22_S11"
BAD = key_of(1, f"{DETECTOR}.json")
BAD_FITS = key_of(1, f"{DETECTOR}.fits")
SMALL = HeaderLimits(header_bytes=64 * 1024)


class Store(Bench):
    """The pipeline on a real folder, with the real reader and the real translators."""

    def __init__(self, folder: Path) -> None:
        settings = load_settings(
            None, {}, below={"kafka": {"bootstrap_servers": "unused:1"}, "database": {"conninfo": ""}}
        )
        translator = configured_translator(settings)
        self.folder = folder
        (self.place,) = configured_places(settings.source, [folder]).places
        super().__init__(
            self.place,
            reader=PlaceReader(ObjectStores(), SMALL),
            translator=translator,
            detector_ids=DetectorNames(translator.detector_ids).ids,
        )

    def put(self, key: str, content: bytes) -> None:
        """Write a file, and offer it."""
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.offer_file(key)

    def offer_file(self, key: str, tag: str = "a") -> None:
        """Offer a file, as a watcher does."""
        self.pipeline.offer(
            FoundObject(
                place=self.place, key=key, tag=tag, command=EmitCommand.WATCH, done=lambda: self.done.update([key])
            )
        )

    def notify(self, body: bytes) -> None:
        """Take a notification."""
        intake = NotificationIntake(self.pipeline, self.places, self.metrics, EmitCommand.NOTIFICATIONS)
        intake.take(body, lambda: self.done.update(["notification"]))


def fits(cards: dict[str, Any], *, end: bool = True) -> bytes:
    """Return header blocks of a FITS file."""

    def card(name: str, value: Any) -> str:
        if isinstance(value, bool):
            text = f"{'T' if value else 'F':>20}"
        elif isinstance(value, int | float):
            text = f"{value!r:>20}"
        else:
            text = "'" + str(value) + "'"
        return f"{name:<8}= {text}"[:80].ljust(80)

    lines = [card("SIMPLE", True), card("BITPIX", 8), card("NAXIS", 0)]
    lines += [card(name, value) for name, value in cards.items() if value is not None]
    text = "".join(lines) + ("END".ljust(80) if end else "")
    return text.ljust(-(-len(text) // 2880) * 2880).encode()


REAL = {
    name: value
    for name, value in header_of(1, DETECTOR).items()
    if name not in {"SIMPLE", "BITPIX", "NAXIS", "EXTEND"} and len(name) <= 8
}


HALF_DATES = {name: "\ud800" for name in REAL if name.startswith(("DATE", "MJD"))}
"""JSON can escape half of a character, which is no text."""


def sidecar(**changes: Any) -> bytes:
    """Return a sidecar with some keywords changed, or left out where they are None."""
    header = header_of(1, DETECTOR) | changes
    return json.dumps(
        {name: value for name, value in header.items() if value is not None or name not in changes}
    ).encode()


@dataclass(frozen=True)
class Case:
    """One kind, what it comes to, and how it is put there."""

    name: str
    outcome: tuple[str, str]
    """``event``, ``rejected`` or ``ignored``; and the reason."""
    prepare: Callable[[Store], None]
    says: str = field(default="")
    """What a rejection says among other things."""


def link_out(store: Store) -> None:
    secret = store.folder.parent / "secret.json"
    secret.write_bytes(sidecar())
    path = store.folder / BAD
    path.parent.mkdir(parents=True)
    path.symlink_to(secret)
    store.offer_file(BAD)


def pipe(store: Store) -> None:
    path = store.folder / BAD
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    store.offer_file(BAD)


def growing(store: Store) -> None:
    content = sidecar()
    for size in (0, 100, len(content) - 1):
        store.put(BAD, content[:size])
        store.run(passing_s=1)
    store.put(BAD, content)


def name_of_another_encoding(store: Store) -> None:
    folder = store.folder / "LSSTCam"
    folder.mkdir(exist_ok=True)
    name = os.fsdecode(b"old\xe9.fits")
    (folder / name).write_bytes(fits(REAL))
    store.offer_file(f"LSSTCam/{name}")


def cut_in_a_character(store: Store) -> None:
    content = json.dumps(header_of(1, DETECTOR) | {"OBJECT": "\N{MICRO SIGN} Orionis"}, ensure_ascii=False).encode()
    store.put(BAD, content[: content.index("\N{MICRO SIGN}".encode()) + 1])


def cut_behind_a_brace(store: Store) -> None:
    content = sidecar(OBJECT="{x} Orionis")
    store.put(BAD, content[: content.index(b"{x}") + 3])


def cut_yaml(store: Store) -> None:
    content = yaml.safe_dump({**header_of(1, DETECTOR), "SEQNUM": 42}, sort_keys=False)
    store.put(key_of(1, f"{DETECTOR}.yaml"), content[: content.index("SEQNUM: 4") + 9].encode())


def huge(store: Store) -> None:
    path = store.folder / BAD_FITS
    path.parent.mkdir(parents=True)
    path.write_bytes(fits(REAL, end=False))
    with path.open("r+b") as stream:  # 200 MB of zeros that take no place on the disk
        stream.truncate(200_000_000)
    store.offer_file(BAD_FITS)


def many_cards(store: Store) -> None:
    store.put(BAD_FITS, fits(REAL, end=False) + b"COMMENT ".ljust(80) * 36_000)


CASES = [
    Case(
        "a FITS file that ends in its header", ("rejected", "truncated"), lambda s: s.put(BAD_FITS, fits(REAL)[:4000])
    ),
    Case("an empty file", ("rejected", "empty"), lambda s: s.put(BAD, b"")),
    Case("a file that grows", ("event", ""), growing),
    Case("no FITS", ("rejected", "unknown_format"), lambda s: s.put(BAD_FITS, b"Not Found" * 1000)),
    Case("no INSTRUME", ("rejected", "no_instrument"), lambda s: s.put(BAD, sidecar(INSTRUME=None))),
    Case(
        "an unknown instrument",
        ("rejected", "unknown_instrument"),
        lambda s: s.put(BAD, sidecar(INSTRUME="X", TELESCOP="X")),
    ),
    Case("a sidecar that is cut off", ("rejected", "truncated"), lambda s: s.put(BAD, sidecar()[:2000])),
    Case("a name of another encoding", ("rejected", "not_allowed"), name_of_another_encoding, "no UTF-8"),
    Case("a sidecar that is cut in a character", ("rejected", "truncated"), cut_in_a_character),
    Case("a sidecar that is cut in a text behind a brace", ("rejected", "truncated"), cut_behind_a_brace),
    Case("YAML that is cut in a number", ("rejected", "truncated"), cut_yaml),
    Case("half a character", ("rejected", "invalid_value"), lambda s: s.put(BAD, sidecar(**HALF_DATES))),
    Case(
        "a counter that reaches the next night",
        ("rejected", "invalid_value"),
        lambda s: s.put(BAD, sidecar(SEQNUM=100_042)),
    ),
    Case("200 MB of header", ("rejected", "too_large"), huge),
    Case("a header without end", ("rejected", "too_large"), many_cards),
    Case("a sidecar beyond the limit", ("rejected", "too_large"), lambda s: s.put(BAD, b" " * 70_000 + sidecar())),
    Case("deleted before it is read", ("rejected", "missing"), lambda s: s.offer_file(BAD)),
    Case("a list for a sidecar", ("rejected", "unknown_format"), lambda s: s.put(BAD, b"[1, 2]")),
    Case("nested without end", ("rejected", "bad_header"), lambda s: s.put(BAD, b'{"a":' * 5000 + b"1" + b"}" * 5000)),
    Case(
        "YAML that makes objects",
        ("rejected", "bad_header"),
        lambda s: s.put("x.yaml", b"!!python/object/apply:os.system ['touch pwned']"),
    ),
    Case(
        "YAML that grows",
        ("rejected", "bad_header"),
        lambda s: s.put("x.yaml", b"a: &a [x, x]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]\n"),
    ),
    Case(
        "a gzip that grows",
        ("rejected", "too_large"),
        lambda s: s.put(f"{BAD_FITS}.gz", gzip.compress(fits(REAL, end=False) + b" " * 20_000_000)),
    ),
    Case("a link out of the folder", ("rejected", "not_allowed"), link_out, "symbolic link"),
    Case("a pipe", ("rejected", "not_allowed"), pipe, "no regular file"),
    Case("a guider's file", ("ignored", "no_pattern"), lambda s: s.put(key_of(1, "R00_SG0_guider.fits"), fits(REAL))),
    Case("a hidden file", ("ignored", "no_pattern"), lambda s: s.put("LSSTCam/.x.fits", fits(REAL))),
    Case("a picture", ("ignored", "no_pattern"), lambda s: s.put("LSSTCam/x.png", b"png")),
    Case("a path that leads out", ("ignored", "outside"), lambda s: s.offer_file("../secret.json")),
    Case(
        "a detector that no camera has", ("rejected", "unknown_detector"), lambda s: s.put(BAD, sidecar(CCDSLOT="S99"))
    ),
    Case("a text for a number", ("rejected", "invalid_value"), lambda s: s.put(BAD, sidecar(SEQNUM="seven"))),
    Case(
        "a number that is none",
        ("rejected", "missing_keyword"),
        lambda s: s.put(BAD, sidecar().replace(b'"SEQNUM": 1', b'"SEQNUM": NaN')),
    ),
    Case("no day", ("rejected", "missing_keyword"), lambda s: s.put(BAD, sidecar(DAYOBS=None))),
    Case(
        "expected sensors of another kind",
        ("rejected", "bad_expected_sensors"),
        lambda s: s.put(key_of(1, "expectedSensors.json"), b'{"obsId": "x", "expectedSensors": {"R22_S11": "PARTY"}}'),
    ),
    Case(
        "expected sensors that are cut off",
        ("rejected", "truncated"),
        lambda s: s.put(key_of(1, "expectedSensors.json"), expected_sensors(1).content[:100]),
    ),
    Case(
        "expected sensors without a raw",
        ("rejected", "no_header"),
        lambda s: s.put(key_of(1, "expectedSensors.json"), expected_sensors(1).content),
    ),
    Case("no Records", ("rejected", "bad_notification"), lambda s: s.notify(b"{}"), "no list of Records"),
    Case("no JSON", ("rejected", "bad_notification"), lambda s: s.notify(b"\xff")),
    Case(
        "a key that is badly encoded",
        ("rejected", "bad_notification"),
        lambda s: s.notify(changed("aws_put", s3__object__key="%zz")),
    ),
    Case("an unknown store", ("rejected", "bad_notification"), lambda s: s.notify(changed("aws_put", eventSource="x"))),
    Case("a test event", ("ignored", "test_event"), lambda s: s.notify(recorded("aws_test_event"))),
    Case("a removal", ("ignored", "not_created"), lambda s: s.notify(recorded("aws_removal"))),
    Case("another bucket", ("ignored", "outside"), lambda s: s.notify(recorded("ceph_put"))),
    Case(
        "a file:// for a bucket",
        ("ignored", "outside"),
        lambda s: s.notify(changed("ceph_put", s3__bucket__name="file:///etc")),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_kind_has_its_outcome_and_stops_no_other(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "raws"
    folder.mkdir()
    store = Store(folder)
    case.prepare(store)
    (good,) = sidecars(2, [DETECTOR])
    write(folder, good)
    store.offer_file(good.key)
    store.run()
    assert [exposure for exposure, _ in store.raws()][-1:] == [2026090100002]
    for _ in range(80):
        store.run(passing_s=1)
    kind, reason = case.outcome
    assert store.pipeline.idle
    assert Counter(each["reason"] for each in store.rejections()).total() == (kind == "rejected")
    assert len(store.raws()) == 1 + (kind == "event")
    if kind == "rejected":
        (rejection,) = store.rejections()
        assert rejection["reason"] == reason
        assert store.count("rejected_total", reason=rejection["reason"]) == 1
        assert case.says in rejection["detail"]
    if kind == "ignored":
        assert store.count("ignored_total", reason=reason) == 1
    assert not (tmp_path / "pwned").exists()


def test_there_are_thirty_kinds() -> None:
    assert len({case.name for case in CASES}) >= 30


def test_a_key_with_blank_plus_percent_and_beyond_ascii_is_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    key = BAD.removesuffix(".json") + " a+b%20é.fits"
    store.put(key, fits(REAL))
    store.run()
    assert len(store.raws()) == 1
