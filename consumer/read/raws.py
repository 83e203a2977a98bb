"""Which raws of exposures have arrived, asked by the observatory's own names of exposures."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from consumer.postgres.connection import Database
from consumer.postgres.row_codecs import detectors_from_text


class StoredDetectors(NamedTuple):
    """What is stored of one exposure."""

    instrument: str
    detectors: int
    """A bit for each detector whose raw has arrived."""


def stored_detectors(
    database: Database, obs_ids: Collection[str], days: Collection[int] | None = None
) -> Mapping[str, Sequence[StoredDetectors]]:
    """Read which raws have arrived of some exposures.

    Parameters
    ----------
    database
        A session of the reader role.
    obs_ids
        The observatory's names of exposures.
    days
        Observing days that all of them are of, which makes the question fast; None: unknown.

    Returns
    -------
    stored
        By obs_id, for those that are stored; two instruments may have exposures of one name.
    """
    if not obs_ids:
        return {}
    with database.snapshot() as session:
        rows = session.rows(
            "read",
            "detectors_of_exposures",
            {"obs_ids": list(obs_ids), "days": None if days is None else list(days)},
        )
    found: defaultdict[str, list[StoredDetectors]] = defaultdict(list)
    for obs_id, instrument, detectors in rows:
        found[str(obs_id)].append(StoredDetectors(str(instrument), detectors_from_text(str(detectors))))
    return found
