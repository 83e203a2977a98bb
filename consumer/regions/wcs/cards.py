"""A raw's FITS header: the cards that place its pixels on the sky, checked before wcslib sees them."""

import re
import warnings
from typing import TYPE_CHECKING, Final, NamedTuple

from consumer.errors import BadMessageError, DeadLetterReason
from consumer.model import RawIngested
from consumer.regions.camera.geometry import Floats
from consumer.regions.wcs.isolated import ISOLATED

if TYPE_CHECKING:
    from astropy.io import fits

_CARD_LENGTH: Final = 80

_CELESTIAL: Final = re.compile(
    r"WCSAXES|Z?NAXIS\d?|CTYPE\d|CRVAL\d|CRPIX\d|CDELT\d|CUNIT\d|CROTA\d|(CD|PC)(\d_\d|00\d00\d)|PV\d_\d+|PS\d_\d+|"
    r"PROJP\d+|LONPOLE|LATPOLE|RADESYS|RADECSYS|EQUINOX|EPOCH|WAT\d_\d+|[AB]P?_(ORDER|\d_\d)|"
    r"AMD[XY]\d+|PPO\d|PLT(RA[HMS]|DEC(SN|[DMS])|SCALE)|[XY]PIXELSZ|CNPIX\d"
)
"""Keywords of the primary WCS as wcslib reads it: older spellings (PC001001, PROJP1, EPOCH) and the distortions SIP,
TPV, TNX, ZPX and DSS.

Everything else in a header (dates, alternate systems, an observatory's own words) moves no pixel, and is often not
quite FITS: reading it could only fail or warn.
"""

_TEXTS: Final = re.compile(r"CTYPE\d|CUNIT\d|PS\d_\d+|RADESYS|RADECSYS|WAT\d_\d+|PLTDECSN")
_COUNTS: Final = re.compile(r"WCSAXES|Z?NAXIS\d?|[AB]P?_ORDER")
_REQUIRED: Final = ("CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2")
"""wcslib would take defaults for what is missing here, and place the raw somewhere else."""
_MAX_SIP_ORDER: Final = 9
"""The convention's own bound; each coefficient's name has one digit for each power."""

_LOOKUP_TABLE: Final = re.compile(r"(CPDIS|D2IMDIS|CQDIS)\d|D2IMEXT|AXISCORR")
_TEXT_EQUINOX: Final = re.compile(r"\s*([JB]?)\s*(\d+(?:\.\d*)?)\s*", re.IGNORECASE)
_J2000: Final = 2000.0


class RawWcs(NamedTuple):
    """The cards of one raw and its true size in pixels."""

    raw: RawIngested
    cards: str
    width: int | None
    height: int | None

    def to_sky(self, pixels: Floats) -> Floats:
        """Map pixels to the sky, distortion included.

        Parameters
        ----------
        pixels
            (n, 2) float64, the centre of the first pixel is (0, 0).

        Returns
        -------
        vectors
            (n, 3) float64, ICRS unit vectors; not finite where the WCS has no sky.

        Raises
        ------
        BadMessageError
            If the cards hold no usable celestial WCS.
        TransientError
            If the process that reads headers was ended from outside.
        """
        try:
            return ISOLATED.icrs_vectors(self.cards, pixels)
        except ValueError as error:
            raise _bad(self.raw, str(error)) from error


def places_pixels(keyword: str) -> bool:
    """Whether a card says where on the sky a raw's pixels are: those are what ``wcs`` of an event needs."""
    return bool(_CELESTIAL.fullmatch(keyword) or _LOOKUP_TABLE.fullmatch(keyword))


def read_wcs(raw: RawIngested) -> RawWcs:
    """Read the cards that place a raw on the sky.

    Parameters
    ----------
    raw
        With ``wcs`` set: cards of 80 characters each without separators.

    Raises
    ------
    BadMessageError
        If a card cannot be parsed (names the card), or one is missing.
    """
    header = _celestial_header(raw)
    for keyword in _REQUIRED:
        if keyword not in header:
            raise _bad(raw, f"card {keyword} is missing")
    if not any(keyword.startswith(("CD", "PC", "AMD")) for keyword in header):
        raise _bad(raw, "no card says how large a pixel is (CDi_j, or CDELTi with PCi_j or CROTAi)")
    # wcslib takes a matrix of zeros for none at all.
    matrix = [header[keyword] for keyword in header if re.fullmatch(r"CD(\d_\d|00\d00\d)", keyword)]
    if matrix and not any(matrix):
        raise _bad(raw, "its CD matrix is zero")
    for keyword in ("A_ORDER", "B_ORDER", "AP_ORDER", "BP_ORDER"):
        if not 0 <= header.get(keyword, 0) <= _MAX_SIP_ORDER:
            raise _bad(raw, f"{keyword} is {header[keyword]}: SIP has orders up to {_MAX_SIP_ORDER}")
    _settle_equinox(raw, header)
    sizes = _size(raw, header, 1, raw.naxis1), _size(raw, header, 2, raw.naxis2)
    return RawWcs(raw, header.tostring(sep="", endcard=True, padding=False), *sizes)


def _settle_equinox(raw: RawIngested, header: "fits.Header") -> None:
    """Drop what means nothing to wcslib, and refuse an equinox in a form that it would pass over.

    A blank ``RADESYS`` is none. ``EQUINOX = 'J2000.0'``, a text, is dropped: it is the default of every system that has
    an equinox. Any other text would be half a degree on the sky.
    """
    for keyword in ("RADESYS", "RADECSYS"):
        if not str(header.get(keyword, "ICRS")).strip():
            del header[keyword]
    for keyword in ("EQUINOX", "EPOCH"):
        value = header.get(keyword)
        if isinstance(value, str):
            found = _TEXT_EQUINOX.fullmatch(value)
            system = str(header.get("RADESYS", header.get("RADECSYS", ""))).strip().upper()
            if system != "ICRS" and (found is None or found[1].upper() == "B" or float(found[2]) != _J2000):
                raise _bad(raw, f"{keyword} is the text {value!r}: it must be a number, such as 1950.0")
            del header[keyword]


def _celestial_header(raw: RawIngested) -> "fits.Header":
    """Parse the cards that place pixels on the sky; of a repeated card the last counts."""
    from astropy.io import fits  # noqa: PLC0415 -- loading it takes half a second, and few services read headers

    text = raw.wcs or ""
    header = fits.Header()
    for start in range(0, len(text), _CARD_LENGTH):
        card = text[start : start + _CARD_LENGTH].ljust(_CARD_LENGTH)
        keyword = card[:8].strip()
        if keyword == "END":
            break
        if _LOOKUP_TABLE.fullmatch(keyword):
            raise _bad(raw, f"card {card.strip()!r}: a distortion by lookup table is in the file, not in its header")
        if _CELESTIAL.fullmatch(keyword):
            header[keyword] = _value(raw, keyword, card)
    return header


def _value(raw: RawIngested, keyword: str, card: str) -> str | float:
    """Parse a card's value and refuse one of the wrong type: wcslib would pass over it."""
    from astropy.io import fits  # noqa: PLC0415 -- as above
    from astropy.utils.exceptions import AstropyWarning  # noqa: PLC0415

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", AstropyWarning)
            value = fits.Card.fromstring(card).value
    except (fits.VerifyError, AstropyWarning, ValueError) as error:
        raise _bad(raw, f"card {card.strip()!r} cannot be parsed: {error}") from error
    if _TEXTS.fullmatch(keyword):
        if isinstance(value, str):
            return value
    elif keyword in {"EQUINOX", "EPOCH"} and isinstance(value, str):
        return value
    elif _COUNTS.fullmatch(keyword):
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            return float(value)  # some observatories put numbers in quotes
        except ValueError:
            pass
    raise _bad(raw, f"card {card.strip()!r} has a value of the wrong type: {value!r}")


def _size(raw: RawIngested, header: "fits.Header", axis: int, announced: int | None) -> int | None:
    """Pixels along an axis: of a compressed raw ``ZNAXISn``, whatever ``NAXISn`` says of the table that holds it."""
    value: int | None = header.get(f"ZNAXIS{axis}", announced if announced is not None else header.get(f"NAXIS{axis}"))
    if value is None:
        return None
    if value < 1:
        raise _bad(raw, f"its size along axis {axis} is {value!r}, and no number of pixels")
    return value


def _bad(raw: RawIngested, problem: str) -> BadMessageError:
    exposure = raw.exposure
    where = f"wcs of exposure {exposure.id}, detector {raw.detector}"
    return BadMessageError(DeadLetterReason.INVALID_FIELD, f"{where}: {problem}", instrument=exposure.instrument)
