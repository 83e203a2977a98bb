"""Settings of the ObsCore table, by which the Virtual Observatory finds visits."""

from string import Formatter
from typing import Annotated

from pydantic import AfterValidator, Field

from consumer.config.sections import Section

_EXAMPLE = {"instrument": "I", "visit": 1, "name": "N", "obs_id": "I/1", "day_obs": 20261101}


def _template(text: str) -> str:
    """Refuse names in braces that no visit has."""
    try:
        names = {name for _, name, spec, conversion in Formatter().parse(text) if name is not None}
        text.format_map(_EXAMPLE)
    except (ValueError, KeyError, IndexError, AttributeError, TypeError):
        names = {""}
    if not names <= _EXAMPLE.keys():
        raise ValueError("may hold no other braces than " + ", ".join(f"{{{name}}}" for name in _EXAMPLE))
    return text


Template = Annotated[str, Field(min_length=1), AfterValidator(_template)]
"""A text that names the visit: `{instrument}`, `{visit}`, `{name}`, `{obs_id}`, `{day_obs}`."""


class ObscoreSettings(Section):
    """The table `visit_obscore` and its public view.

    In texts, `{instrument}`, `{visit}`, `{name}`, `{obs_id}` and `{day_obs}` stand for those of the visit.
    """

    enabled: bool = True
    """Write a row with each visit. After a change of these settings, `visit-consumer obscore fill --rewrite` applies it
    to the rows that are stored."""
    collection: Template = "{instrument}"
    """`obs_collection`."""
    publisher_did: Template = "ivo://example.org/visits?{obs_id}"
    """`obs_publisher_did`: begin it with your own registered authority."""
    access_url: Template | None = None
    """`access_url`: where the data of a visit are; null: not public."""
    access_format: Annotated[str, Field(min_length=1)] = "application/fits"
    """`access_format`, where there is an access_url."""
    embargo_hours: Annotated[float, Field(ge=0, le=1_000_000)] = 0.0
    """A row is in the public view so long after the end of its visit; 0: from the start."""
    view_schema: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]{0,62}$")] | None = None
    """Schema in which `visit-consumer migrate` makes the view `obscore` of public rows, such as `ivoa`; null: none
    besides `visit_obscore_public`."""
