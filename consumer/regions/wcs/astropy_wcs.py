"""From a header's cards to the sky, by astropy and wcslib, in the process of `consumer.regions.wcs.isolated`.

Nothing is decided here: axis order, frame and distortions are what astropy makes of the cards, taken to ICRS.
"""

import warnings

import numpy as np
from astropy.coordinates import ICRS, BaseCoordinateFrame, CartesianRepresentation
from astropy.io import fits
from astropy.wcs import WCS, WcsError
from astropy.wcs.utils import wcs_to_celestial_frame

from consumer.regions.camera.geometry import Floats


def icrs_vectors(cards: str, pixels: Floats) -> Floats:
    """Map pixels to the sky, distortion included.

    Parameters
    ----------
    cards
        Cards of 80 characters without separators, checked by `consumer.regions.wcs.cards`.
    pixels
        (n, 2) float64, pixels; the centre of the first is (0, 0).

    Returns
    -------
    vectors
        (n, 3) float64, ICRS unit vectors; not finite where the WCS has no sky.

    Raises
    ------
    ValueError
        If the cards hold no usable celestial WCS of two axes; the text says what is wrong.
    """
    with warnings.catch_warnings():
        # astropy warns where it reads an old spelling (RADECSYS, PC001001) as the standard's: that is wanted.
        warnings.simplefilter("ignore")
        try:
            wcs = WCS(fits.Header.fromstring(cards))
            wcs.wcs.set()
        except (WcsError, ValueError, LookupError, TypeError, MemoryError) as error:
            raise ValueError(f"its cards hold no usable WCS: {' '.join(str(error).split())}") from error
        frame = _frame(wcs)
        longitude, latitude = wcs.all_pix2world(pixels, 0)[:, [wcs.wcs.lng, wcs.wcs.lat]].T
        lon, lat = np.radians(longitude), np.radians(latitude)
        vectors = np.stack((np.cos(lon) * np.cos(lat), np.sin(lon) * np.cos(lat), np.sin(lat)), axis=-1)
        return vectors if isinstance(frame, ICRS) else _to_icrs(frame, vectors)


def _to_icrs(frame: BaseCoordinateFrame, vectors: Floats) -> Floats:
    """Take unit vectors to ICRS: by a rotation, but for the terms of aberration in FK4."""
    if frame.name == "fk4":
        return _transformed(frame, vectors)
    key = f"{frame.name} {getattr(frame, 'equinox', '')}"
    if key not in _ROTATIONS:
        if len(_ROTATIONS) >= _MAX_ROTATIONS:
            _ROTATIONS.clear()
        _ROTATIONS[key] = _transformed(frame, np.eye(3))
    turned: Floats = vectors @ _ROTATIONS[key]
    return turned


def _transformed(frame: BaseCoordinateFrame, vectors: Floats) -> Floats:
    there = frame.realize_frame(CartesianRepresentation(*vectors.T)).transform_to(ICRS())
    moved = there.cartesian.xyz.value.T
    unit: Floats = moved / np.linalg.norm(moved, axis=-1, keepdims=True)
    return unit


_ROTATIONS: dict[str, Floats] = {}
"""By frame: astropy takes ten milliseconds to find one."""
_MAX_ROTATIONS = 100


def _frame(wcs: WCS) -> BaseCoordinateFrame:
    """Return the frame of a WCS of two celestial axes that is no singular one."""
    if wcs.naxis != 2:  # noqa: PLR2004 - an image
        raise ValueError(f"its WCS has {wcs.naxis} axes instead of two")
    axes = " and ".join(repr(axis) for axis in wcs.wcs.ctype)
    kind = "" if wcs.wcs.lng < 0 else str(wcs.wcs.ctype[wcs.wcs.lng])[:4]
    if kind not in {"RA--", "GLON"}:
        raise ValueError(f"CTYPE1 and CTYPE2 are {axes}, and no right ascension and declination, nor galactic ones")
    if not np.isfinite(wcs.pixel_scale_matrix).all() or np.linalg.det(wcs.pixel_scale_matrix) == 0:
        raise ValueError("its CD matrix (or PC and CDELT) is singular")
    try:
        return wcs_to_celestial_frame(wcs)
    except ValueError as error:
        raise ValueError(f"RADESYS {wcs.wcs.radesys!r} with axes {axes} is no frame that astropy knows") from error
