"""Which visits, and which of their detectors, cover a place on the sky: by index first, by region then."""

from dataclasses import dataclass

from consumer.postgres.connection import Database
from consumer.postgres.sky_search import NearVisit, detector_regions, visits_near
from consumer.regions import contains, htm7_around, overlaps_circle


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One visit that covers the place."""

    visit: NearVisit
    detectors: tuple[int, ...]
    """Those whose own regions do, ascending. None of them may: there are gaps between detectors."""


def find_visits(
    database: Database,
    ra_deg: float,
    dec_deg: float,
    *,
    radius_deg: float = 0.0,
    instrument: str | None = None,
    day_obs: int | None = None,
) -> list[Found]:
    """Find the visits whose region contains a point, or overlaps a circle.

    Parameters
    ----------
    database
        A session of the reader role.
    ra_deg, dec_deg
        The place, degrees, ICRS.
    radius_deg
        Of the circle; 0 for a point.
    instrument, day_obs
        Only visits of these; None: of all.

    Returns
    -------
    found
        Ordered by instrument and visit. Exact: padding included, as the regions are stored. The visits are of one
        moment; their detectors are read after them, some visits at a time.
    """

    def covers(region: bytes) -> bool:
        if radius_deg == 0:
            return contains(region, ra_deg, dec_deg)
        return overlaps_circle(region, ra_deg, dec_deg, radius_deg)

    trixels = htm7_around(ra_deg, dec_deg, radius_deg)
    near = visits_near(database, trixels, instrument=instrument, day_obs=day_obs)
    visits = [each for each in near if covers(each.region)]
    detectors: dict[tuple[str, int], list[int]] = {(each.instrument, each.id): [] for each in visits}
    for own_instrument, visit, detector, region in detector_regions(database, visits):
        if covers(region):
            detectors[own_instrument, visit].append(detector)
    return [Found(visit=each, detectors=tuple(detectors[each.instrument, each.id])) for each in visits]
