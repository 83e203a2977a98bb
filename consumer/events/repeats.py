"""The fast path: raws whose exposure fields repeat, byte for byte, those of a raw decoded before.

An exposure of LSSTCam arrives as 205 events that differ in the detector, the address and the time of ingest; their
other 250 bytes are the same. Our schema puts them in one piece::

    | framing, instrument, exposure | detector | obs_id ... record_version | uri, ingested_at | wcs, naxis1, naxis2 |
    | prefix, a key of the memory   | varint   | equal to the known bytes? | read by hand     | a key of the memory |

Equal bytes under one schema mean equal values, so an event whose two constant pieces equal those of a known exposure
has that very `~consumer.model.Exposure`, and gets the same object (which makes "did it change?" a comparison of
identities downstream). Nothing less than that equality counts: the prefix alone names the exposure, but not its
record. The varying pieces are read by hand in their usual form: a detector of one or two bytes, an address whose
length has one or two, or none, a time of eight bytes (1988 to 2540) or none, dimensions that were seen before.
**Whatever is unusual, short or wrong makes this path answer None**, and the event is decoded whole: so this path has no
errors of its own, and every fault is found and worded by the plain path. It applies only to events that were written
with our schema.

Only decoded and validated events are remembered, in bounded memories that drop their oldest entry.
"""

from dataclasses import dataclass, replace
from typing import TypeVar

from consumer.events.encoder import encode_fields
from consumer.events.validation import MAX_URI
from consumer.events.writer_schemas import RAW_INGESTED, section
from consumer.model import Exposure, RawIngested

_K = TypeVar("_K")
_V = TypeVar("_V")

_MAX_RESTS = 256
_REST_SECTION = section(RAW_INGESTED, "wcs", "naxis2")

_LAST_BYTE = 0x7F
"""The largest byte that ends a variable-length integer; larger ones announce another byte."""
_NULL, _PRESENT = 0x00, 0x02
"""Index of a nullable field's branch, as encoded: there is no value, or there is one."""
_HIGH_BITS, _EIGHT_BYTES = 0x8080_8080_8080_8080, 0x0080_8080_8080_8080
"""Seven bytes that announce another one, and one that does not; little-endian."""

# A frozen dataclass's own constructor takes 1.3 us for the seven fields of a raw; setting its slots takes 0.5 us.
_new = object.__new__
_set_exposure = RawIngested.__dict__["exposure"].__set__
_set_detector = RawIngested.__dict__["detector"].__set__
_set_uri = RawIngested.__dict__["uri"].__set__
_set_ingested_at = RawIngested.__dict__["ingested_at"].__set__
_set_wcs = RawIngested.__dict__["wcs"].__set__
_set_naxis1 = RawIngested.__dict__["naxis1"].__set__
_set_naxis2 = RawIngested.__dict__["naxis2"].__set__


@dataclass(frozen=True, slots=True)
class _Known:
    prefix: bytes
    record: bytes
    exposure: Exposure


class Repeats:
    """Remembers recent exposures with their bytes. Not thread-safe.

    Parameters
    ----------
    exposures
        How many exposures to remember; an entry takes about 1 kB, at most 50 kB.
    """

    def __init__(self, exposures: int) -> None:
        self._limit = exposures
        self._known: dict[bytes, _Known] = {}
        self._rests: dict[bytes, tuple[int | None, int | None]] = {}
        self._last: _Known | None = None

    def find(self, value: bytes, start: int) -> RawIngested | None:  # noqa: C901, PLR0911, PLR0912, PLR0915 - a call for each step would cost as much as the step
        """Build the raw of an event whose exposure is known, or answer None.

        Parameters
        ----------
        value
            The whole event, framing included.
        start
            Length of its framing.
        """
        try:
            known = self._last
            if known is None or not value.startswith(known.prefix):
                known = self._known.get(value[: prefix_end(value, start)])
                if known is None:
                    return None
                self._last = known
            at = len(known.prefix)
            detector = value[at]
            at += 1
            if detector > _LAST_BYTE:
                if value[at] > _LAST_BYTE:
                    return None
                detector = detector & 0x7F | value[at] << 7
                at += 1
            if detector & 1 or not value.startswith(known.record, at):
                return None
            at += len(known.record)
            uri = None
            if value[at] == _PRESENT:
                length = value[at + 1]
                at += 2
                if length > _LAST_BYTE:
                    if value[at] > _LAST_BYTE:
                        return None
                    length = length & 0x7F | value[at] << 7
                    at += 1
                if length & 1:
                    return None
                end = at + (length >> 1)
                uri = value[at:end].decode()
                if "\x00" in uri or len(uri) > MAX_URI:
                    return None
                at = end
            elif value[at] == _NULL:
                at += 1
            else:
                return None
            micros = None
            if value[at] == _PRESENT:
                end = at + 9
                micros = int.from_bytes(value[at + 1 : end], "little")
                if micros & _HIGH_BITS != _EIGHT_BYTES:
                    return None
                # Close the gaps between the 7-bit groups, pairs at a time.
                micros = (micros & 0x007F_007F_007F_007F) | (micros & 0x7F00_7F00_7F00_7F00) >> 1
                micros = (micros & 0x0000_3FFF_0000_3FFF) | (micros & 0x3FFF_0000_3FFF_0000) >> 2
                micros = (micros & 0x0000_0000_0FFF_FFFF) | (micros & 0x0FFF_FFFF_0000_0000) >> 4
                if micros & 1:
                    return None
                micros >>= 1
                at = end
            elif value[at] == _NULL:
                at += 1
            else:
                return None
            rest = self._rests.get(value[at:])
            if rest is None:
                return None
        except (IndexError, UnicodeDecodeError):
            return None
        raw = _new(RawIngested)
        _set_exposure(raw, known.exposure)
        _set_detector(raw, detector >> 1)
        _set_uri(raw, uri)
        _set_ingested_at(raw, micros)
        _set_wcs(raw, None)
        _set_naxis1(raw, rest[0])
        _set_naxis2(raw, rest[1])
        return raw

    def remember(self, value: bytes, start: int, record_end: int, raw: RawIngested) -> RawIngested:
        """Keep the bytes of an event that was decoded and validated.

        Parameters
        ----------
        value
            The whole event, framing included.
        start
            Length of its framing.
        record_end
            Where its ``record_version`` ends.
        raw
            What it says.

        Returns
        -------
        raw
            The raw, with the exposure object that was remembered before where the bytes are the same.
        """
        self._remember_rest(raw)
        try:
            prefix = value[: prefix_end(value, start)]
        except IndexError:
            return raw
        record = value[varint_end(value, len(prefix)) : record_end]
        known = self._known.get(prefix)
        if known is not None and known.record == record:
            return replace(raw, exposure=known.exposure)
        self._last = _Known(prefix, record, raw.exposure)
        _put(self._known, prefix, self._last, self._limit)
        return raw

    def _remember_rest(self, raw: RawIngested) -> None:
        # Encoded again, rather than cut out of the event: an integer may be written in more bytes than it needs, and
        # a cut at the wrong place would be a wrong answer for later events.
        if raw.wcs is None:
            rest = encode_fields({"wcs": None, "naxis1": raw.naxis1, "naxis2": raw.naxis2}, _REST_SECTION)
            _put(self._rests, rest, (raw.naxis1, raw.naxis2), _MAX_RESTS)


def varint_end(value: bytes, start: int) -> int:
    """Find where a variable-length integer ends.

    Raises
    ------
    IndexError
        The bytes end before it does.
    """
    while value[start] > _LAST_BYTE:
        start += 1
    return start + 1


def prefix_end(value: bytes, start: int) -> int:
    """Find where the identity of the exposure, a text and an integer, ends.

    Raises
    ------
    IndexError
        The bytes end before it does, or the text has more than 63 bytes: no instrument's name is so long.
    """
    length = value[start]
    if length > _LAST_BYTE:
        raise IndexError(start)
    return varint_end(value, start + 1 + (length >> 1))


def _put(memory: dict[_K, _V], key: _K, value: _V, limit: int) -> None:
    """Store an entry; the oldest one makes room."""
    if key not in memory and len(memory) >= limit:
        del memory[next(iter(memory))]
    memory[key] = value
