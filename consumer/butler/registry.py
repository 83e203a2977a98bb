"""A Butler registry, read and written by its public API.

Delivery: `write` is one transaction of the registry. New rows are inserted plainly, because ``replace`` and
``skip_existing`` halve the speed; the lookup before says which rows are new. Of two processes that insert one row the
second one is refused and looks again.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import lsst.sphgeom
import sqlalchemy.exc
from lsst.daf.butler import Butler, DimensionRecord, Timespan
from lsst.daf.butler.time_utils import TimeConverter

from consumer.butler.changes import RegisteredVisit, RegistryChange, SinkResult, visit_values
from consumer.errors import ConfigurationError, FatalError, TransientError, VisitConsumerError
from consumer.model import Exposure, VisitRecords

_IDS_AT_ONCE = 5000
_VISIT_COLUMNS = (
    "day_obs", "physical_filter", "name", "seq_num", "exposure_time", "target_name", "observation_reason",
    "science_program", "azimuth", "zenith_angle", "timespan",
)  # fmt: skip
_EXPOSURE_COLUMNS = (
    "day_obs", "group", "physical_filter", "obs_id", "exposure_time", "dark_time", "observation_type",
    "observation_reason", "seq_num", "seq_start", "seq_end", "target_name", "science_program", "tracking_ra",
    "tracking_dec", "sky_angle", "azimuth", "zenith_angle", "has_simulated", "can_see_sky",
)  # fmt: skip


_BOUNDS = ("timespan_begin", "timespan_end")


class RegistryRefusedError(VisitConsumerError):
    """The registry refuses some of the rows: halve the batch."""


class ButlerRegistry:
    """The registry of one repository; reopened after its server was away.

    Parameters
    ----------
    repository
        As ``Butler.from_config`` takes it: a folder, a URI, or a label of the repository index.
    writeable
        Whether `write` may be called.
    """

    def __init__(self, repository: str, *, writeable: bool = True) -> None:
        self.repository = repository
        self._writeable = writeable
        self._butler: Butler | None = None
        self._times = TimeConverter()

    def close(self) -> None:
        """End the sessions; the next call opens others."""
        butler, self._butler = self._butler, None
        if butler is not None:
            butler.close()

    def instruments(self, *, refresh: bool = False) -> frozenset[str]:
        """Return the names of the instruments that are registered.

        Parameters
        ----------
        refresh
            Whether to drop what the Butler has cached: instruments are among it.

        Raises
        ------
        TransientError
            When the registry is unavailable.
        ConfigurationError
            When there is no such repository.
        """
        with self._sorted_errors() as butler:
            if refresh:
                butler.registry.refresh()
            return frozenset(r.name for r in butler.query_dimension_records("instrument", explain=False))

    def exposures(self, instrument: str, ids: Sequence[int]) -> frozenset[int]:
        """Return those of these exposures that are registered."""
        with self._sorted_errors() as butler:
            pages = [ids[start : start + _IDS_AT_ONCE] for start in range(0, len(ids), _IDS_AT_ONCE)]
            return frozenset(r.id for page in pages for r in _records(butler, instrument, "exposure", "exposure", page))

    def read_exposures(self, instrument: str, day_obs: int | None = None) -> list[dict[str, Any]]:
        """Read the exposures that are registered of an instrument, of an observing day or of all.

        Returns
        -------
        exposures
            Values by the event's names; times in TAI nanoseconds. The registry has no group size and no record version.
        """
        with self._sorted_errors() as butler:
            night: dict[str, Any] = {"where": "day_obs = night", "bind": {"night": day_obs}} if day_obs else {}
            query = partial(butler.query_dimension_records, instrument=instrument, limit=None, explain=False)
            return [
                {"instrument": instrument, "id": record.id}
                | {name: getattr(record, name) for name in _EXPOSURE_COLUMNS}
                | dict(zip(_BOUNDS, _nanoseconds(record.timespan) or (None, None), strict=True))
                for record in query("exposure", **night)
            ]

    def visit_ids(self, instrument: str, day_obs: int) -> frozenset[int]:
        """Return which visits of an observing day are registered."""
        with self._sorted_errors() as butler:
            found = butler.query_dimension_records(
                "visit",
                instrument=instrument,
                where="day_obs = night",
                bind={"night": day_obs},
                limit=None,
                explain=False,
            )
            return frozenset(each.id for each in found)

    def look_up(
        self, instrument: str, visits: Sequence[VisitRecords]
    ) -> tuple[frozenset[int], dict[int, RegisteredVisit]]:
        """Return which members of visits are registered as exposures, and the visits that are registered."""
        ids = [v.definition.id for v in visits]
        members = sorted({e.id for v in visits for e in v.definition.exposures})
        exposures = self.exposures(instrument, members)
        with self._sorted_errors() as butler:
            records = partial(_records, butler, instrument)
            found = {r.id: r for r in records("visit", "visit", ids)}
            if not found:
                return exposures, {}
            there = sorted(found)
            definitions = _collect((r.visit, r.exposure) for r in records("visit_definition", "visit", there))
            systems = _collect((r.visit, r.visit_system) for r in records("visit_system_membership", "visit", there))
            regions: dict[int, dict[int, bytes]] = {}
            for row in records("visit_detector_region", "visit", there):
                regions.setdefault(row.visit, {})[row.detector] = b"" if row.region is None else row.region.encode()
        return exposures, {
            id_: RegisteredVisit(
                values={
                    name: getattr(record, name) if name != "timespan" else _nanoseconds(record.timespan)
                    for name in _VISIT_COLUMNS
                },
                region=None if record.region is None else record.region.encode(),
                exposures=frozenset(definitions.get(id_, ())),
                systems=frozenset(systems.get(id_, ())),
                detector_regions=regions.get(id_, {}),
            )
            for id_, record in found.items()
        }

    def insert_exposures(self, exposures: Collection[Exposure]) -> None:
        """Register exposures, with their observing days and groups, that are not registered yet.

        Raises
        ------
        RegistryRefusedError
            When the registry refuses one, such as of an unknown physical filter.
        """
        with self._sorted_errors(writes=True) as butler, butler.transaction():
            insert = butler.registry.insertDimensionData
            days = sorted({(e.instrument, e.day_obs) for e in exposures})
            groups = sorted({(e.instrument, e.group) for e in exposures})
            insert("day_obs", *({"instrument": i, "id": day} for i, day in days), skip_existing=True)
            insert("group", *({"instrument": i, "name": name} for i, name in groups), skip_existing=True)
            insert(
                "exposure",
                *(
                    {
                        "instrument": e.instrument,
                        "id": e.id,
                        **{name: getattr(e, name) for name in _EXPOSURE_COLUMNS},
                        "timespan": self._timespan((e.timespan_begin, e.timespan_end)),
                    }
                    for e in exposures
                ),
                skip_existing=True,
            )

    def write(
        self,
        instrument: str,
        changes: Sequence[RegistryChange],
        systems: Mapping[int, str],
        *,
        still_ours: Callable[[], None],
    ) -> None:
        """Write what the registry lacks, in one transaction.

        Parameters
        ----------
        instrument
            Of all of them.
        changes
            What is to be written.
        systems
            Names of the instrument's visit systems.
        still_ours
            Called just before the commit; what it raises undoes everything.

        Raises
        ------
        RegistryRefusedError
            When the registry refuses any of it; nothing was written then.
        TransientError
            When the registry is unavailable.
        """
        with self._sorted_errors(writes=True) as butler, butler.transaction():
            insert = butler.registry.insertDimensionData
            for number in sorted({s for c in changes for s in c.systems}):
                butler.registry.syncDimensionData(
                    "visit_system", {"instrument": instrument, "id": number, "name": systems[number]}
                )
            for new in (True, False):
                some = [c for c in changes if (c.result is SinkResult.NEW) is new]
                if not some:
                    continue
                how: dict[str, bool] = {} if new else {"replace": True}
                add: dict[str, bool] = {} if new else {"skip_existing": True}
                insert("visit", *(self._visit(c) for c in some if c.values is not None), **how)
                for element, rows in _associations(instrument, some).items():
                    insert(element, *rows, **add)
                regions = [
                    {
                        "instrument": instrument,
                        "visit": c.records.definition.id,
                        "detector": detector,
                        "region": lsst.sphgeom.Region.decode(region),
                    }
                    for c in some
                    for detector, region in c.detector_regions.items()
                ]
                insert("visit_detector_region", *regions, **how)
            self._update_obscore(butler, instrument, changes)
            still_ours()

    def _update_obscore(self, butler: Butler, instrument: str, changes: Sequence[RegistryChange]) -> None:
        """Update the regions of raws that were ingested before their visit, where the repository has ObsCore."""
        manager = butler.registry.obsCoreTableManager
        if manager is not None:
            manager.update_exposure_regions(
                instrument,
                [
                    (exposure.id, detector, lsst.sphgeom.Region.decode(region))
                    for c in changes
                    for exposure in c.records.definition.exposures
                    for detector, region in c.detector_regions.items()
                ],
            )

    def _visit(self, change: RegistryChange) -> dict[str, Any]:
        visit = change.records.definition
        values = dict(change.values or visit_values(change.records))
        timespan = values.pop("timespan")
        return {
            "instrument": visit.instrument,
            "id": visit.id,
            **values,
            "region": lsst.sphgeom.Region.decode(change.region),
            "timespan": self._timespan(timespan),
        }

    def _timespan(self, bounds: Any) -> Timespan | None:  # a pair, or None, as `visit_values` makes it
        if bounds is None or None in bounds:
            return None
        return Timespan(*map(self._times.nsec_to_astropy, bounds))

    @contextmanager
    def _sorted_errors(self, *, writes: bool = False) -> Iterator[Butler]:
        """Open the repository where it is not, and turn its errors into ours: only what is written can be refused."""
        try:
            if self._butler is None:
                self._butler = Butler.from_config(self.repository, writeable=self._writeable)
            yield self._butler
        except VisitConsumerError:
            raise
        except Exception as error:
            raise self._sorted(error, writes=writes) from error

    def _sorted(self, error: Exception, *, writes: bool) -> VisitConsumerError:
        if isinstance(error, FileNotFoundError):
            return ConfigurationError(f"{self.repository}: is no Butler repository: {_line(error)}")
        if isinstance(error, sqlalchemy.exc.DBAPIError):
            return self._sorted_by_database(error, writes=writes)
        if self._butler is None:
            return ConfigurationError(f"{self.repository}: cannot be opened: {_line(error)}")
        if writes:
            return RegistryRefusedError(_line(error))
        return FatalError(f"the registry of {self.repository} cannot be read: {_line(error)}")

    def _sorted_by_database(self, error: sqlalchemy.exc.DBAPIError, *, writes: bool) -> VisitConsumerError:
        if isinstance(error, sqlalchemy.exc.ProgrammingError):
            return FatalError(f"the registry of {self.repository} will not do it: {_line(error)}")
        if writes and not error.connection_invalidated and _is_about_rows(error):
            return RegistryRefusedError(_line(error))
        self.close()
        return TransientError(f"the registry of {self.repository} is unavailable: {_line(error)}")


def _records(butler: Butler, instrument: str, element: str, key: str, values: Sequence[int]) -> list[DimensionRecord]:
    if not values:
        return []
    return butler.query_dimension_records(
        element,
        instrument=instrument,
        where=f"{key} IN (ids)",
        bind={"ids": list(values)},
        limit=None,
        explain=False,
    )


def _associations(instrument: str, changes: Sequence[RegistryChange]) -> dict[str, list[dict[str, Any]]]:
    return {
        "visit_definition": [
            {"instrument": instrument, "exposure": exposure, "visit": c.records.definition.id}
            for c in changes
            for exposure in c.exposures
        ],
        "visit_system_membership": [
            {"instrument": instrument, "visit_system": system, "visit": c.records.definition.id}
            for c in changes
            for system in c.systems
        ],
    }


def _collect(pairs: Iterable[tuple[int, int]]) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for key, value in pairs:
        found.setdefault(key, set()).add(value)
    return found


def _nanoseconds(timespan: Timespan | None) -> tuple[int, int] | None:
    return None if timespan is None else (timespan.nsec[0], timespan.nsec[1])


def _is_about_rows(error: sqlalchemy.exc.DBAPIError) -> bool:
    """Whether the registry's database refuses what is written, and is not only read-only or damaged for a while.

    An exception that a trigger raises has a class of SQLSTATE of its own, P0.
    """
    if isinstance(error, sqlalchemy.exc.IntegrityError | sqlalchemy.exc.DataError):
        return True
    return str(getattr(error.orig, "pgcode", None) or "").startswith("P0")


def _line(error: Exception) -> str:
    """Return the first line of an error, which names the constraint and the key, without the statement."""
    cause = error.orig if isinstance(error, sqlalchemy.exc.DBAPIError) and error.orig is not None else error
    return " ".join(str(cause).split())[:1000] or type(error).__name__
