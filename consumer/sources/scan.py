"""Lists buckets and folders, and offers what the tables lack: notifications get lost.

What a key does not name by exposure and detector is offered without asking the tables: a raw too much changes nothing.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from consumer.read.raws import StoredDetectors
from consumer.sources.interfaces import DetectorIds, EmitCommand, FoundObject, Stopping
from consumer.sources.live_pipeline import LivePipeline
from consumer.sources.model import RejectedError
from consumer.sources.places import ObjectIdentity, Place

_AT_ONCE = 10_000


class ListedObject(Protocol):
    """An object as a store lists it."""

    @property
    def key(self) -> str:
        """Its name within its place."""
        ...

    @property
    def tag(self) -> str:
        """See `FoundObject.tag`."""
        ...


ListObjects = Callable[[Place, Collection[int] | None], Iterator[ListedObject]]
"""Lists a place, without the folders that are named by other days than these; see `ObjectStores.list_objects`."""
FindStored = Callable[[Collection[str], Collection[int] | None], Mapping[str, Sequence[StoredDetectors]]]
"""Asks the tables; see `consumer.read.raws.stored_detectors`."""


@dataclass(slots=True)
class ScanReport:
    """What a scan found."""

    listed: int = 0
    """Raws, sidecars and files of expected sensors."""
    stored: int = 0
    """Of these, raws that the tables have."""
    offered: int = 0


class Scanner:
    """Compares places with the tables.

    Parameters
    ----------
    list_objects, find_stored
        List a place, and ask the tables.
    detector_ids
        Looks up the detectors that keys name.
    pipeline
        Takes what is missing.
    """

    def __init__(
        self, list_objects: ListObjects, find_stored: FindStored, detector_ids: DetectorIds, pipeline: LivePipeline
    ) -> None:
        self._list = list_objects
        self._find_stored = find_stored
        self._detector_ids = detector_ids
        self._pipeline = pipeline

    def scan(self, places: Sequence[Place], days: Collection[int] | None, stopping: Stopping) -> ScanReport:
        """List places once.

        Parameters
        ----------
        places
            Which.
        days
            Only these observing days, where keys name them; None: all.
        stopping
            Ends the scan early.

        Raises
        ------
        TransientError
            When a store or the database does not answer.
        """
        report = ScanReport()
        for place in places:
            objects = _identified(place, self._list(place, days), days)
            while chunk := list(islice(objects, _AT_ONCE)):
                report.listed += len(chunk)
                missing = self._missing(chunk)
                report.stored += len(chunk) - len(missing)
                for each in missing:
                    found = FoundObject(place=place, key=each.key, tag=each.tag, command=EmitCommand.SCAN)
                    if not self._pipeline.offer_when_there_is_room(found, stopping):
                        return report
                    report.offered += 1
        return report

    def _missing(self, chunk: Sequence[tuple[ListedObject, ObjectIdentity]]) -> list[ListedObject]:
        named = [identity for _, identity in chunk if identity.obs_id is not None and identity.detector is not None]
        days = {each.day_obs for each in named}
        stored = self._find_stored(
            {each.obs_id for each in named if each.obs_id is not None},
            None if None in days else {day for day in days if day is not None},
        )
        return [found for found, identity in chunk if not self._is_stored(identity, stored)]

    def _is_stored(self, identity: ObjectIdentity, stored: Mapping[str, Sequence[StoredDetectors]]) -> bool:
        if identity.obs_id is None or identity.detector is None:
            return False
        for each in stored.get(identity.obs_id, ()):
            try:
                (detector,) = self._detector_ids(each.instrument, [identity.detector])
            except RejectedError:  # another instrument's exposure of this name
                continue
            if each.detectors >> detector & 1:
                return True
        return False


def _identified(
    place: Place, objects: Iterator[ListedObject], days: Collection[int] | None
) -> Iterator[tuple[ListedObject, ObjectIdentity]]:
    for each in objects:
        identity = place.patterns.identify(each.key) if place.holds(each.key) else None
        if identity is not None and (days is None or identity.day_obs is None or identity.day_obs in days):
            yield each, identity
