"""Settings of the page for people."""

from typing import Annotated

from pydantic import Field

from consumer.config.sections import Section


class SiteSettings(Section):
    """Where the telescope stands, for the horizon on the sky map."""

    name: Annotated[str, Field(max_length=100)] = ""
    """Shown beside the horizon."""
    latitude_deg: Annotated[float, Field(ge=-90, le=90)]
    """Geodetic latitude, north positive."""
    longitude_deg: Annotated[float, Field(ge=-180, le=360)]
    """Longitude, east positive."""
    min_altitude_deg: Annotated[float, Field(ge=-90, le=90)] = 0.0
    """Altitude that the telescope does not go below: the horizon that is drawn."""


class PageSettings(Section):
    """The page for people, with its JSON API: `visit-consumer page`."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address to listen on: this machine alone by default. The page asks for no password: put a proxy that does before
    it, where not everybody who reaches the address may see the tables."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8084
    """Port to listen on; 0: any free port; the log shows its number."""
    max_clients: Annotated[int, Field(ge=1, le=10_000)] = 500
    """Open pages that one process keeps up to date; another one is answered 503, and asks again."""
    sessions: Annotated[int, Field(ge=1, le=32)] = 4
    """Sessions of the database that answer requests, besides one that watches the tables and one that listens."""
    user_header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,100}$")] | None = None
    """Header in which a proxy names the user, such as `X-Forwarded-User`: the name is shown, and decides on nothing."""
    site: SiteSettings | None = None
    """Where the telescope stands; null: no horizon is drawn."""
