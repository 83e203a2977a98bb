"""Headers are read from FITS files and sidecars; what is none, or not whole, is named, and nothing else is read."""

import gzip
import json
import os
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from fsspec.implementations.local import LocalFileSystem

from consumer.sources.header_reader import HeaderLimits, read_header
from consumer.sources.model import Header, NotReadableYetError, RejectedError, RejectReason
from consumer.sources.objects import NamedObject


def read(path: Path, limits: HeaderLimits | None = None) -> Header:
    with NamedObject(str(path), str(path), LocalFileSystem()).open() as stream:
        return read_header(stream, str(path), limits or HeaderLimits())


def write_fits(path: Path, *, compressed: bool = False, tables: int = 0) -> Path:
    primary = fits.PrimaryHDU()
    primary.header["INSTRUME"] = "LSSTCam"
    primary.header["SEQNUM"] = 7
    primary.header["OBJECT"] = ("O'Neil " * 12).strip()
    primary.header["FILTER2"] = None
    primary.header["HIERARCH SIMULATE MTDOME"] = True
    primary.header["COMMENT"] = "no card"
    table = fits.BinTableHDU.from_columns([fits.Column("x", "D", array=np.zeros(5))])
    image: Any = (fits.CompImageHDU if compressed else fits.ImageHDU)(np.zeros((20, 30), np.int32))
    image.header["CCDNUM"] = 4
    image.header["SEQNUM"] = 8
    fits.HDUList([primary, *[table] * tables, image]).writeto(path)
    return path


def test_the_primary_header_is_inherited_by_the_extension_with_the_image(tmp_path: Path) -> None:
    header = read(write_fits(tmp_path / "a.fits", tables=2))
    assert (header["INSTRUME"], header["CCDNUM"], header["SEQNUM"]) == ("LSSTCam", 4, 8)
    assert header["OBJECT"] == ("O'Neil " * 12).strip()
    assert header["FILTER2"] is None
    assert header["SIMULATE MTDOME"] is True
    assert "COMMENT" not in header


def test_a_compressed_image_has_its_true_size(tmp_path: Path) -> None:
    header = read(write_fits(tmp_path / "a.fits.fz", compressed=True))
    assert (header["ZNAXIS1"], header["ZNAXIS2"], header["CCDNUM"]) == (30, 20, 4)


def test_a_gzipped_file_reads_like_the_plain_one(tmp_path: Path) -> None:
    plain = write_fits(tmp_path / "a.fits")
    packed = tmp_path / "a.fits.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read(packed) == read(plain)


def test_an_image_in_the_primary_unit_and_a_header_without_any_data(tmp_path: Path) -> None:
    image = fits.PrimaryHDU(np.zeros((4, 4), np.int16))
    image.header["INSTRUME"] = "HSC"
    image.writeto(tmp_path / "image.fits")
    fits.PrimaryHDU(header=fits.Header({"INSTRUME": "DECam"})).writeto(tmp_path / "empty.fits")
    assert read(tmp_path / "image.fits")["INSTRUME"] == "HSC"
    assert read(tmp_path / "empty.fits")["INSTRUME"] == "DECam"


def test_only_header_blocks_are_read() -> None:
    stream = BytesIO()
    fits.HDUList([fits.PrimaryHDU(np.zeros((1500, 1500)))]).writeto(stream)
    stream.seek(0)
    read_bytes = 0

    class Counting(BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            nonlocal read_bytes
            content = super().read(size)
            read_bytes += len(content)
            return content

    read_header(Counting(stream.getvalue()), "large.fits", HeaderLimits())
    assert 0 < read_bytes <= 2 * 2880


def sidecar(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        '{"INSTRUME": "LATISS", "SEQNUM": 12, "RA": null, "EXPTIME": NaN}',
        '\ufeff {"header": {"INSTRUME": "LATISS", "SEQNUM": 12, "RA": null, "EXPTIME": null}}',
        '{"INSTRUME": "LATISS", "SEQNUM": 12, "RA": null, "EXPTIME": null, "COMMENT": ["a"], "__CONTENT__": "x"}',
    ],
)
def test_a_json_sidecar_has_its_keywords_outside_or_inside(tmp_path: Path, content: str) -> None:
    header = read(sidecar(tmp_path / "a.json", content))
    assert header == {"INSTRUME": "LATISS", "SEQNUM": 12, "RA": None, "EXPTIME": None}


def test_yaml_is_read_as_people_mean_it(tmp_path: Path) -> None:
    text = (
        "INSTRUME: LATISS\nRA: 12:34:56\nDATE-OBS: 2026-01-02T03:04:05\nSEQNUM: 0012\nDOME: no\nX: 1e3\nY:\nZ: true\n"
    )
    assert read(sidecar(tmp_path / "a.yaml", text)) == {
        "INSTRUME": "LATISS",
        "RA": "12:34:56",
        "DATE-OBS": "2026-01-02T03:04:05",
        "SEQNUM": 12,
        "DOME": "no",
        "X": 1000.0,
        "Y": None,
        "Z": True,
    }


def truncated_in_data(path: Path) -> Path:
    whole = write_fits(path).read_bytes()
    path.write_bytes(whole[:-2880])
    return path


def cards(*lines: str) -> bytes:
    return "".join(line.ljust(80) for line in lines).encode()


def packed(content: bytes) -> bytes:
    return gzip.compress(content)


SIMPLE = cards("SIMPLE  =                    T", "BITPIX  =                    8", "NAXIS   =                    0")
WAIT: dict[str, tuple[bytes, str, RejectReason]] = {
    "empty": (b"", "a.fits", RejectReason.EMPTY),
    "cut within the header": (SIMPLE, "a.fits", RejectReason.TRUNCATED),
    "cut between blocks": (SIMPLE.ljust(2880), "a.fits", RejectReason.TRUNCATED),
    "JSON cut in a text": (b'{"INSTRUME": "LAT', "a.json", RejectReason.TRUNCATED),
    "JSON cut after a value": (b'{"INSTRUME": "LATISS"', "a.json", RejectReason.TRUNCATED),
    "YAML cut in a text": (b'INSTRUME: "LAT', "a.yaml", RejectReason.TRUNCATED),
    "gzip cut": (packed(SIMPLE * 50)[:-20], "a.fits.gz", RejectReason.TRUNCATED),
}
REJECT: dict[str, tuple[bytes, str, RejectReason]] = {
    "no FITS": (b"hello", "a.fits", RejectReason.UNKNOWN_FORMAT),
    "a list": (b"[1, 2]", "a.json", RejectReason.UNKNOWN_FORMAT),
    "broken JSON": (b'{"A": 1,, "B": 2}', "a.json", RejectReason.BAD_HEADER),
    "a key twice in JSON": (b'{"A": 1, "A": 2}', "a.json", RejectReason.BAD_HEADER),
    "a key twice in YAML": (b"A: 1\nA: 2\n", "a.yaml", RejectReason.BAD_HEADER),
    "JSON nested without end": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "a.json", RejectReason.BAD_HEADER),
    "a number of 10,000 digits": (b'{"A": ' + b"9" * 10_000 + b"}", "a.json", RejectReason.BAD_HEADER),
    "no keyword": (b'{"a": {"b": {}}}', "a.json", RejectReason.BAD_HEADER),
    "translated properties": (b'{"__CONTENT__": "translated", "a": 1}', "a.json", RejectReason.BAD_HEADER),
    "YAML that makes objects": (b"A: !!python/object/apply:os.getcwd []\n", "a.yaml", RejectReason.BAD_HEADER),
    "YAML with aliases": (b"A: &a [1]\nB: [*a, *a]\n", "a.yaml", RejectReason.BAD_HEADER),
    "not UTF-8": (b'{"A": "\xff"}', "a.json", RejectReason.BAD_HEADER),
    "no ASCII in FITS": ((SIMPLE + b"\xff").ljust(2800) + cards("END"), "a.fits", RejectReason.BAD_HEADER),
    "negative axes": (cards("SIMPLE  = T", "NAXIS   = -1", "END").ljust(2880), "a.fits", RejectReason.BAD_HEADER),
    "200 MB of header": (SIMPLE, "a.fits", RejectReason.TOO_LARGE),
    "200 MB of sidecar": (b'{"A": "aaa', "a.json", RejectReason.TOO_LARGE),
    "a bomb": (packed(SIMPLE + b" " * 50_000_000), "a.fits.gz", RejectReason.TOO_LARGE),
    "compressed twice": (packed(packed(SIMPLE)), "a.fits.gz", RejectReason.UNKNOWN_FORMAT),
    "broken gzip": (b"\x1f\x8b" + b"x" * 100, "a.fits.gz", RejectReason.BAD_HEADER),
}


@pytest.mark.parametrize(("content", "name", "reason"), WAIT.values(), ids=WAIT)
def test_what_may_still_be_written_is_tried_again(
    tmp_path: Path, content: bytes, name: str, reason: RejectReason
) -> None:
    with pytest.raises(NotReadableYetError) as caught:
        read(sidecar(tmp_path / name, content))
    assert caught.value.reason is reason
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize(("content", "name", "reason"), REJECT.values(), ids=REJECT)
def test_what_is_no_raw_is_rejected(tmp_path: Path, content: bytes, name: str, reason: RejectReason) -> None:
    file = sidecar(tmp_path / name, content)
    if reason is RejectReason.TOO_LARGE and not name.endswith(".gz"):
        os.truncate(file, 200_000_000)
    with pytest.raises(RejectedError) as caught:
        read(file)
    assert caught.value.reason is reason


def test_a_file_that_ends_within_its_data_is_tried_again(tmp_path: Path) -> None:
    with pytest.raises(NotReadableYetError, match="truncated"):
        read(truncated_in_data(tmp_path / "a.fits"))


def test_what_is_not_there_not_allowed_or_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotReadableYetError, match="missing"):
        read(tmp_path / "none.fits")
    with pytest.raises(RejectedError, match="no regular file"):
        read(tmp_path)
    os.mkfifo(tmp_path / "pipe.fits")
    with pytest.raises(RejectedError, match="no regular file"):
        read(tmp_path / "pipe.fits")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    file = sidecar(tmp_path / "a.json", json.dumps({"A": 1}))
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(NotReadableYetError, match="no_access"):
        read(file)
