"""A raw's FITS header: cards to an astropy WCS, reading no card that does not place pixels on the sky."""

import contextlib
import re
import warnings
from typing import Final, NamedTuple

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS, WcsError

from consumer.errors import BadMessageError, DeadLetterReason
from consumer.model import RawIngested
from consumer.regions.camera.geometry import Floats

_CARD_LENGTH: Final = 80

_CELESTIAL: Final = re.compile(
    r"WCSAXES|Z?NAXIS\d?|CTYPE\d|CRVAL\d|CRPIX\d|CDELT\d|CUNIT\d|CROTA\d|CD\d_\d|PC\d_\d|PV\d_\d+|PS\d_\d+|"
    r"LONPOLE|LATPOLE|RADESYS|RADECSYS|EQUINOX|EPOCH|WAT\d_\d+|[AB]P?_(ORDER|DMAX|\d_\d)"
)
"""Keywords of the primary WCS with its SIP, TPV and TNX distortions.

Everything else in a header (dates, alternate systems, an observatory's own words) moves no pixel, and is often not
quite FITS: reading it could only fail or warn.
"""

_TEXTS: Final = re.compile(r"CTYPE\d|CUNIT\d|PS\d_\d+|RADESYS|RADECSYS|WAT\d_\d+|[AB]_DMAX")
_COUNTS: Final = re.compile(r"WCSAXES|Z?NAXIS\d?|[AB]P?_ORDER")
_REQUIRED: Final = ("CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2")
"""wcslib would take defaults for what is missing here, and place the raw somewhere else."""

_LOOKUP_TABLE: Final = re.compile(r"(CPDIS|D2IMDIS|CQDIS)\d")
_ICRS_LIKE: Final = ("ICRS", "FK5")
"""Systems that agree to 0.02 arcsec at equinox 2000, far below the padding."""


class RawWcs(NamedTuple):
    """The WCS of one raw and its true size in pixels."""

    wcs: WCS
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
        """
        ra, dec = np.radians(self.wcs.all_pix2world(pixels, 0)).T
        return np.stack((np.cos(ra) * np.cos(dec), np.sin(ra) * np.cos(dec), np.sin(dec)), axis=-1)


def read_wcs(raw: RawIngested) -> RawWcs:
    """Make a WCS of a raw's header cards.

    Parameters
    ----------
    raw
        With ``wcs`` set: cards of 80 characters each without separators.

    Raises
    ------
    BadMessageError
        If the cards cannot be parsed (names the card) or hold no celestial WCS.
    """
    header = _celestial_header(raw)
    _refuse_other_systems(raw, header)
    try:
        with warnings.catch_warnings():
            # astropy warns where it reads an old spelling (RADECSYS, PC001001) as the standard's: that is wanted.
            warnings.simplefilter("ignore", AstropyWarning)
            wcs = WCS(header)
            wcs.wcs.set()
    except (WcsError, ValueError, KeyError, TypeError, IndexError, MemoryError) as error:
        raise _bad(raw, f"its cards hold no usable WCS: {' '.join(str(error).split())}") from error
    if wcs.naxis != 2:  # noqa: PLR2004 - an image
        raise _bad(raw, f"its WCS has {wcs.naxis} axes instead of two")
    if not np.isfinite(wcs.pixel_scale_matrix).all() or np.linalg.det(wcs.pixel_scale_matrix) == 0:
        raise _bad(raw, "its CD matrix (or PC and CDELT) is singular")
    return RawWcs(wcs, _size(raw, header, 1, raw.naxis1), _size(raw, header, 2, raw.naxis2))


def _refuse_other_systems(raw: RawIngested, header: fits.Header) -> None:
    """Raise unless the header speaks of right ascension and declination in ICRS, or in what is as good."""
    for keyword in _REQUIRED:
        if keyword not in header:
            raise _bad(raw, f"card {keyword} is missing")
    axes = [str(header[f"CTYPE{i}"]) for i in (1, 2)]
    if sorted(a[:4] for a in axes) != ["DEC-", "RA--"]:
        raise _bad(raw, f"CTYPE1 and CTYPE2 are {axes[0]!r} and {axes[1]!r}, and no right ascension and declination")
    system = str(header.get("RADESYS", header.get("RADECSYS", "ICRS"))).strip().upper()
    equinox = header.get("EQUINOX", 2000.0)
    if system not in _ICRS_LIKE or equinox != 2000:  # noqa: PLR2004 - J2000
        raise _bad(raw, f"RADESYS {system!r} with EQUINOX {equinox!r} is not ICRS (or FK5 at equinox 2000)")
    matrix = [float(header.get(f"CD{i}_{j}", 0.0)) for i in (1, 2) for j in (1, 2)]
    # wcslib takes a matrix of zeros for none at all.
    if any(f"CD{i}_{j}" in header for i in (1, 2) for j in (1, 2)) and not any(matrix):
        raise _bad(raw, "its CD matrix is zero")


def _celestial_header(raw: RawIngested) -> fits.Header:
    """Parse the cards that place pixels on the sky; of a repeated card the last counts."""
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
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", AstropyWarning)
            value = fits.Card.fromstring(card).value
    except (fits.VerifyError, AstropyWarning, ValueError) as error:
        raise _bad(raw, f"card {card.strip()!r} cannot be parsed: {error}") from error
    if _TEXTS.fullmatch(keyword):
        if isinstance(value, str):
            return value
    elif _COUNTS.fullmatch(keyword):
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        # Some observatories put numbers in quotes.
        with contextlib.suppress(ValueError):
            return float(value)
    raise _bad(raw, f"card {card.strip()!r} has a value of the wrong type: {value!r}")


def _size(raw: RawIngested, header: fits.Header, axis: int, announced: int | None) -> int | None:
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
