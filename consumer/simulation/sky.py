"""Where a field of the sky stands over a site: spherical trigonometry, good to half a degree, which a simulation needs.

Formulas: J. Meeus, Astronomical Algorithms (1998), 12.4 (sidereal time), 13.5 and 13.6 (horizontal coordinates, with
azimuths from north through east) and 14.1 (parallactic angle). UTC serves as UT1; no precession, no refraction.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_J2000_UTC_S = 946_728_000
"""2000-01-01T12:00:00 UTC, seconds since the Unix epoch."""
_GOLDEN_ANGLE_DEG = 180.0 * (3.0 - 5.0**0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A place on Earth: degrees, east and north positive."""

    longitude_deg: float
    latitude_deg: float


CERRO_PACHON = Site(longitude_deg=-70.749, latitude_deg=-30.244)


@dataclass(frozen=True, slots=True)
class MountPosition:
    """Directions over a site: arrays or numbers, degrees."""

    azimuth_deg: Floats
    """From north through east, [0, 360)."""
    altitude_deg: Floats
    parallactic_deg: Floats
    """Angle at the target from the pole to the zenith, east positive, (-180, 180]."""


def sidereal_time_deg(utc_s: float, site: Site) -> float:
    """Return the local mean sidereal time, degrees, of a UTC time in seconds since the Unix epoch."""
    days = (utc_s - _J2000_UTC_S) / 86400.0
    return (280.46061837 + 360.98564736629 * days + site.longitude_deg) % 360.0


def point(ra_deg: Floats | float, dec_deg: Floats | float, utc_s: float, site: Site) -> MountPosition:
    """Find directions of targets.

    Parameters
    ----------
    ra_deg, dec_deg
        Equatorial coordinates, (n,) float64 or numbers, degrees.
    utc_s
        Time, UTC seconds since the Unix epoch.
    site
        Where the telescope stands.
    """
    hour = np.radians(sidereal_time_deg(utc_s, site) - np.asarray(ra_deg))
    dec, latitude = np.radians(np.asarray(dec_deg)), np.radians(site.latitude_deg)
    sin_altitude = np.sin(dec) * np.sin(latitude) + np.cos(dec) * np.cos(latitude) * np.cos(hour)
    azimuth = np.arctan2(
        -np.cos(dec) * np.sin(hour),
        np.sin(dec) * np.cos(latitude) - np.cos(dec) * np.sin(latitude) * np.cos(hour),
    )
    parallactic = np.arctan2(np.sin(hour), np.tan(latitude) * np.cos(dec) - np.sin(dec) * np.cos(hour))
    return MountPosition(
        azimuth_deg=np.degrees(azimuth) % 360.0,
        altitude_deg=np.degrees(np.arcsin(np.clip(sin_altitude, -1.0, 1.0))),
        parallactic_deg=np.degrees(parallactic),
    )


def survey_fields(count: int) -> tuple[Floats, Floats]:
    """Spread fields evenly over the sphere, on a Fibonacci spiral.

    Returns
    -------
    ra_deg, dec_deg
        Centres, (count,) float64, degrees; their numbers are their indices.
    """
    number = np.arange(count, dtype=np.float64)
    dec = np.degrees(np.arcsin(1.0 - (2.0 * number + 1.0) / count))
    return (number * _GOLDEN_ANGLE_DEG) % 360.0, dec


def offset(ra_deg: float, dec_deg: float, east_deg: float, north_deg: float) -> tuple[float, float]:
    """Move a pointing by small steps to the east and north; it stays a direction next to the poles too.

    Returns
    -------
    ra_deg, dec_deg
        In [0, 360) and [-90, 90].
    """
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    toward = np.array([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    east = np.array([-np.sin(ra), np.cos(ra), 0.0])
    moved = toward + np.radians(east_deg) * east + np.radians(north_deg) * np.cross(toward, east)
    moved /= np.linalg.norm(moved)
    return (
        float(np.degrees(np.arctan2(moved[1], moved[0])) % 360.0),
        float(np.degrees(np.arcsin(np.clip(moved[2], -1.0, 1.0)))),
    )
