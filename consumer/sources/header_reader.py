"""Reads the header of one object: FITS header blocks by ranged reads, or a JSON or YAML sidecar.

Nothing but headers is read of a FITS file, whatever its size; what is read, and what it decompresses to, is bounded.
"""

import gzip
import zlib
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, NoReturn, Protocol

from astropy.io import fits

from consumer.sources.model import Header, HeaderValue, NotReadableYetError, RejectedError, RejectReason
from consumer.sources.observation import quiet_astropy
from consumer.sources.sidecar import SidecarError, parse_sidecar

_BLOCK: Final = 2880
_CARD: Final = 80
_END: Final = b"END     "
SIDECAR_ENDINGS: Final = (".json", ".yaml", ".yml", ".json.gz")
_GZIP: Final = b"\x1f\x8b"
_COMMENTS: Final = frozenset({"", "COMMENT", "HISTORY", "CONTINUE", "END"})


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderLimits:
    """Bounds on what one object may make this process read or hold."""

    header_bytes: int = 4 * 2**20
    """Of all header blocks that are read, or of a sidecar; decompressed where it is compressed."""
    skipped_bytes: int = 64 * 2**20
    """Decompressed data between two headers of a ``.gz``."""
    extensions: int = 8
    """Header-only units and tables that are passed over before the image."""


def read_header(stream: BinaryIO, uri: str, limits: HeaderLimits) -> Header:
    """Read the header of one raw; the primary header is inherited by the extension that has the data.

    Parameters
    ----------
    stream
        The object, open; its ``size``, if it has one, tells whether it is whole.
    uri
        Its address, for errors; the ending of the name only decides that a text is YAML, the bytes decide on the rest.
    limits
        Bounds.

    Raises
    ------
    RejectedError
        The object is no raw and no sidecar, or is too large.
    NotReadableYetError
        It is empty or ends within its header.
    """
    try:
        return _Reading(uri, _Counted(stream, limits, uri), limits, getattr(stream, "size", None)).header()
    except EOFError:
        _not_yet(uri)(
            RejectReason.TRUNCATED, "its compressed data ends too early: it is still being written, or cut off"
        )
    except (gzip.BadGzipFile, zlib.error) as error:
        _reject(uri)(RejectReason.BAD_HEADER, f"its compressed data is broken: {error}")
    except SidecarError as error:
        if error.at_end:
            _not_yet(uri)(RejectReason.TRUNCATED, f"the sidecar ends too early: {error}")
        _reject(uri)(RejectReason.BAD_HEADER, str(error))


class _File(Protocol):
    def read(self, size: int, /) -> bytes: ...
    def seek(self, offset: int, /) -> int: ...


class _Raise(Protocol):
    def __call__(self, reason: RejectReason, detail: str) -> NoReturn: ...


def _reject(uri: str) -> _Raise:
    def fail(reason: RejectReason, detail: str) -> NoReturn:
        raise RejectedError(reason, detail, uri=uri)

    return fail


def _not_yet(uri: str) -> _Raise:
    def fail(reason: RejectReason, detail: str) -> NoReturn:
        raise NotReadableYetError(reason, detail, uri=uri)

    return fail


class _Counted:
    """A file of which no more is read than the bound."""

    def __init__(self, file: _File, limits: HeaderLimits, uri: str) -> None:
        self.file = file
        self._left = limits.header_bytes
        self._reject = _reject(uri)
        self._limit = limits.header_bytes

    def read(self, size: int) -> bytes:
        content = self.file.read(min(size, self._left + 1))
        self._left -= len(content)
        if self._left < 0:
            self._reject(
                RejectReason.TOO_LARGE, f"its header is larger than {self._limit} bytes (source.max_header_bytes)"
            )
        return content


class _Reading:
    """One object while it is read."""

    def __init__(self, uri: str, file: _Counted, limits: HeaderLimits, size: int | None) -> None:
        self._uri = uri
        self._file = file
        self._limits = limits
        self._size = size
        self._reject = _reject(uri)
        self._wait = _not_yet(uri)

    def header(self) -> Header:
        name = self._uri.lower()
        is_sidecar = name.endswith(SIDECAR_ENDINGS)
        # A sidecar is read at once.
        first = self._file.read(_BLOCK if self._size is None or not is_sidecar else self._size + 1)
        if first.startswith(_GZIP):
            self._file.file.seek(0)
            # The seekable file stays below: only what comes out is bounded.
            self._file = _Counted(gzip.GzipFile(fileobj=self._file.file), self._limits, self._uri)
            self._size = None
            first = self._file.read(_BLOCK)
        if not first:
            self._wait(RejectReason.EMPTY, "it is empty")
        if first.startswith(b"SIMPLE  ="):
            with quiet_astropy():
                return self._fits(first[:_BLOCK])
        content = first + self._file.read(self._limits.header_bytes)
        header = parse_sidecar(content, is_yaml=name.removesuffix(".gz").endswith((".yaml", ".yml")))
        if header is None:
            self._reject(RejectReason.UNKNOWN_FORMAT, "it is neither FITS nor a JSON or YAML sidecar")
        return header

    def _fits(self, first: bytes) -> Header:
        primary, at = self._unit(first, 0)
        end = at + _data_size(primary, self._reject)
        if end > at:
            self._check_complete(end)
            return primary
        for _ in range(self._limits.extensions):
            self._skip(at, end)
            at = end
            block = self._file.read(_BLOCK)
            if not block.startswith(b"XTENSION"):
                break
            extension, at = self._unit(block, at)
            end = at + _data_size(extension, self._reject)
            is_image = str(extension.get("XTENSION")).strip() == "IMAGE" or extension.get("ZIMAGE") is True
            if end > at and is_image:
                self._check_complete(end)
                return {**primary, **extension}
        return primary

    def _unit(self, block: bytes, at: int) -> tuple[dict[str, HeaderValue], int]:
        """Read one header from its first block on; return its cards and where its data begins."""
        blocks = [block]
        while True:
            if len(blocks[-1]) < _BLOCK:
                self._wait(
                    RejectReason.TRUNCATED, "it ends within a FITS header: it is still being written, or cut off"
                )
            if any(blocks[-1].startswith(_END, place) for place in range(0, _BLOCK, _CARD)):
                break
            blocks.append(self._file.read(_BLOCK))
        content = b"".join(blocks)
        if not content.isascii():
            self._reject(RejectReason.BAD_HEADER, "its FITS header has bytes that are no ASCII")
        return self._cards(fits.Header.fromstring(content)), at + len(content)

    def _cards(self, header: fits.Header) -> dict[str, HeaderValue]:
        cards: dict[str, HeaderValue] = {}
        for number, card in enumerate(header.cards, start=1):
            try:
                keyword, value = card.keyword, card.value
            except (fits.VerifyError, ValueError) as error:
                # Its text cannot always be had either: that of a CONTINUE without a text fails in the same way
                where = f"card {number}, after {list(cards)[-1]}" if cards else f"card {number}"
                self._reject(RejectReason.BAD_HEADER, f"{where}, cannot be parsed: {error}")
            if keyword not in _COMMENTS:
                cards.setdefault(keyword, value if isinstance(value, bool | int | float | str) else None)
        return cards

    def _check_complete(self, end: int) -> None:
        """Wait for the rest where the file is shorter than its header says."""
        if self._size is not None and self._size < end:
            detail = f"it has {self._size} of {end} bytes or more: it is still being written, or cut off"
            self._wait(RejectReason.TRUNCATED, detail)

    def _skip(self, at: int, end: int) -> None:
        if self._size is None and end - at > self._limits.skipped_bytes:
            self._reject(RejectReason.TOO_LARGE, f"{end - at} bytes of data stand before its image, decompressed")
        self._file.file.seek(end)


def _data_size(header: dict[str, HeaderValue], reject: _Raise) -> int:
    """Return the bytes of a unit's data, padded.

    Source: https://fits.gsfc.nasa.gov/fits_standard.html, section 4.4.1.
    """

    def count(keyword: str, default: int) -> int:
        value: Any = header.get(keyword, default)
        if not isinstance(value, int) or (value < 0 and keyword != "BITPIX"):
            reject(RejectReason.BAD_HEADER, f"{keyword} is {value!r}, and no number of bits, axes or pixels")
        return value

    axes = [count(f"NAXIS{axis}", 0) for axis in range(1, min(count("NAXIS", 0), 999) + 1)]
    if not axes:
        return 0
    pixels = 1
    for length in axes:
        pixels *= length
    size = abs(count("BITPIX", 8)) // 8 * count("GCOUNT", 1) * (count("PCOUNT", 0) + pixels)
    return -(-size // _BLOCK) * _BLOCK
