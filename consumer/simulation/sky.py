"""Where a field stands over Cerro Pachón, by ERFA's routines: UTC serves as UT1, without precession or refraction.

That is good to half a degree, which a simulation needs.
"""

from typing import NamedTuple

import erfa
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LONGITUDE_DEG, LATITUDE_DEG = -70.749, -30.244
"""Of Cerro Pachón: east and north positive."""
_UNIX_EPOCH_JD = 2_440_587.5
_GOLDEN_ANGLE = np.pi * (3.0 - 5.0**0.5)


class MountPosition(NamedTuple):
    """A direction over the site, degrees."""

    azimuth_deg: float
    """From north through east, [0, 360)."""
    altitude_deg: float
    parallactic_deg: float
    """Angle at the target from the pole to the zenith, positive west of the meridian, (-180, 180]."""


def zenith_deg(utc_s: float) -> tuple[float, float]:
    """Compute the right ascension (the local mean sidereal time) and declination of the zenith.

    Parameters
    ----------
    utc_s
        Time, UTC seconds since the Unix epoch.
    """
    return float(np.degrees(erfa.gmst82(_UNIX_EPOCH_JD, utc_s / 86400.0)) + LONGITUDE_DEG) % 360.0, LATITUDE_DEG


def mount_position(ra_deg: float, dec_deg: float, utc_s: float) -> MountPosition:
    """Compute where a target stands at a time, UTC seconds since the Unix epoch."""
    sidereal_deg, latitude_deg = zenith_deg(utc_s)
    angles = np.radians((sidereal_deg - ra_deg, dec_deg, latitude_deg))
    return MountPosition(*np.degrees((*erfa.hd2ae(*angles), erfa.hd2pa(*angles))).tolist())


def unit_vector(ra_deg: Floats | float, dec_deg: Floats | float) -> Floats:
    """Return directions as (..., 3) float64 unit vectors."""
    return np.asarray(erfa.s2c(np.radians(ra_deg), np.radians(dec_deg)), dtype=np.float64)


def survey_fields(count: int) -> tuple[Floats, Floats]:
    """Spread fields evenly over the sphere, on a Fibonacci spiral.

    Returns
    -------
    ra_deg, dec_deg
        Centres, (count,) float64, degrees; their numbers are their indices.
    """
    number = np.arange(count, dtype=np.float64)
    dec = np.arcsin(1.0 - (2.0 * number + 1.0) / count)
    return np.degrees(number * _GOLDEN_ANGLE) % 360.0, np.degrees(dec)


def offset(ra_deg: float, dec_deg: float, east_deg: float, north_deg: float) -> tuple[float, float]:
    """Move a pointing by small steps to the east and north; it stays a direction next to the poles too.

    Returns
    -------
    ra_deg, dec_deg
        In [0, 360) and [-90, 90].
    """
    ra, dec = np.degrees(erfa.tpsts(*np.radians((east_deg, north_deg, ra_deg, dec_deg)))).tolist()
    return ra, dec
