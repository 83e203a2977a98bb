"""Finding visits and exposures by whatever is known of them: an id, a name, a target, a place on the sky."""

import re
from typing import NamedTuple, cast

from consumer.postgres.connection import Database
from consumer.read.visit_rows import VisitRow, read_visit_rows
from consumer.regions import contains, htm7_around, overlaps_circle

_POSITION = re.compile(r"\s*([+-]?\d{1,3}(?:\.\d{1,12})?)(?:\s+|\s*,\s*)([+-]?\d{1,2}(?:\.\d{1,12})?)\s*", re.ASCII)
_ID = re.compile(r"\d{1,18}", re.ASCII)


class SkyPlace(NamedTuple):
    """A place on the sky, degrees, ICRS."""

    ra_deg: float
    dec_deg: float


class Hit(NamedTuple):
    """One thing that was found."""

    kind: str
    """``visit``, ``exposure`` or ``group``, whose id is that of one of its exposures."""
    instrument: str
    id: int
    label: str
    day_obs: int | None


def parse_place(text: str) -> SkyPlace | None:
    """Read a position such as ``53.1 -27.8`` (degrees, ICRS); None where the text is none."""
    found = _POSITION.fullmatch(text)
    if found is None:
        return None
    place = SkyPlace(float(found[1]), float(found[2]))
    return place if 0 <= place.ra_deg <= 360 and abs(place.dec_deg) <= 90 else None  # noqa: PLR2004 -- the whole sky


def read_hits(database: Database, text: str, *, limit: int) -> list[Hit]:
    """Read what has this id or name, or whose target's name begins so.

    Parameters
    ----------
    database
        A session of the reader role.
    text
        The id of a visit or an exposure, an obs_id, a visit's name, a group's key, or the beginning of a target's name.
    limit
        At most so many.
    """
    escaped = re.sub(r"([\\%_])", r"\\\1", text.lower())
    wanted = {"text": text, "prefix": f"{escaped}%", "limit": limit}
    wanted["number"] = int(text) if _ID.fullmatch(text) else None
    with database.snapshot() as session:
        return [Hit(*row) for row in session.rows("page", "search", wanted)]  # type: ignore[arg-type]  # the columns' types


def read_cone(
    database: Database, place: SkyPlace, *, radius_deg: float = 0.0, instrument: str | None = None, limit: int
) -> tuple[list[VisitRow], bool]:
    """Read the newest visits whose regions contain a place, or overlap a circle around it.

    Parameters
    ----------
    database
        A session of the reader role.
    place
        Centre.
    radius_deg
        Of the circle; 0 for the place alone.
    instrument
        Only of this one; None: of all.
    limit
        At most so many.

    Returns
    -------
    visits
        The newest night first.
    truncated
        Whether there may be more.
    """
    looked_at = 3 * limit + 100
    wanted = {"trixels": list(htm7_around(*place, radius_deg)), "instrument": instrument, "limit": looked_at}
    with database.snapshot() as session:
        near = cast("list[tuple[str, int, bytes]]", session.rows("page", "near", wanted))
        found: list[tuple[str, int]] = []
        for own_instrument, visit, region in near:
            inside = overlaps_circle(region, *place, radius_deg) if radius_deg else contains(region, *place)
            if inside:
                found.append((own_instrument, visit))
            if len(found) > limit:
                break
        rows = read_visit_rows(session, found[:limit])
    return rows, len(found) > limit or len(near) == looked_at
