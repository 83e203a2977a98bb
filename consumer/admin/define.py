"""Define the visits of given exposures: the batch driver with the settings of an instrument.

In memory, or in the service's own tables: then the exposures are stored too, as if they had been read from the log.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any

from pydantic import ValidationError

from consumer.admin.exposure_files import ExposureList
from consumer.config import DatabaseSettings, InstrumentSettings, Settings, known_instruments
from consumer.config.resolve import task_config
from consumer.domain.obscore import Obscore
from consumer.errors import BadMessageError, ConfigurationError
from consumer.events.visit_defined import Announce
from consumer.model import Exposure, GroupKey, RawIngested, RawRegion, VisitRecords, VisitSystem
from consumer.postgres.connection import Database
from consumer.postgres.migrate import check_schema, store_visit_systems
from consumer.postgres.offline_store import PostgresVisitStore
from consumer.regions import built_in_names
from consumer.task.define import DefineOptions, DefineResult, MemoryStore, VisitStore, merge_exposures
from consumer.task.define_visits import DefineVisitsTask, Progress
from consumer.task.interface import Config


@dataclass(frozen=True, slots=True, kw_only=True)
class DefineSummary:
    """What became of a batch."""

    result: DefineResult
    visits: tuple[VisitRecords, ...]
    """As they are stored now: those that the exposures define, in order of their ids."""
    visit_systems: tuple[VisitSystem, ...]
    off_sky: tuple[int, ...]
    """Ids of the given exposures that define no visit."""
    seconds: float
    """Time of the task's ``run`` alone."""


def instrument_settings(settings: Settings, name: str, overrides: Mapping[str, Any]) -> InstrumentSettings:
    """Return the settings of an instrument with a command's options laid over them.

    Parameters
    ----------
    settings
        Of the service.
    name
        An instrument that is configured, or that this package knows, or any other where `overrides` has all it needs.
    overrides
        Keys of the instrument's section; ``regions`` is a mapping of its own. Values that are None say nothing.

    Raises
    ------
    ConfigurationError
        When they do not make sense together.
    """
    known: InstrumentSettings | None = settings.instruments.get(name) or known_instruments().get(name)
    base: dict[str, Any] = {} if known is None else known.model_dump()
    if known is None and name.lower() in built_in_names():
        base["camera"] = name.lower()
    given = {key: value for key, value in overrides.items() if value is not None}
    regions = {key: value for key, value in given.pop("regions", {}).items() if value is not None}
    base |= given
    base["regions"] = base.get("regions", {}) | regions
    try:
        return InstrumentSettings(**base)
    except ValidationError as error:
        faults = (
            ".".join(map(str, each["loc"])) + ": " * bool(each["loc"]) + each["msg"].removeprefix("Value error, ")
            for each in error.errors()
        )
        raise ConfigurationError(f"instrument {name}: {'; '.join(faults)}") from error


def define_visits(
    given: ExposureList,
    instrument: InstrumentSettings,
    *,
    database: DatabaseSettings | None = None,
    announce: Announce | None = None,
    obscore: Obscore | None = None,
    options: DefineOptions | None = None,
    processes: int = 1,
    progress: Progress | None = None,
) -> DefineSummary:
    """Define the visits of exposures of one instrument.

    Parameters
    ----------
    given
        The exposures, in any order, copies included.
    instrument
        How its visits are made.
    database
        Where to store them; None: in memory only.
    announce
        Encodes announcements of stored visits, for the outbox; None: they are not announced.
    obscore
        Makes the rows of the ObsCore table; None: they are not written.
    options
        What to do with visits that are stored already.
    processes
        How many compute regions.
    progress
        Called with how many visits of how many have their regions.

    Raises
    ------
    DefineError
        When the exposures contradict each other, or the stored ones.
    VisitConsumerError
        See `consumer.task.define_visits.DefineVisitsTask.run`.
    """
    options = options or DefineOptions()
    config = task_config(instrument)
    if database is None:
        return _run(given, config, MemoryStore(), options, processes, progress)
    with Database(database, application_name="visit-consumer define") as session:
        check_schema(session)
        return _run(
            given, config, PostgresVisitStore(session, announce=announce, obscore=obscore), options, processes, progress
        )


def _run(
    given: ExposureList,
    config: Config,
    inner: MemoryStore | PostgresVisitStore,
    options: DefineOptions,
    processes: int,
    progress: Progress | None,
) -> DefineSummary:
    """Run the task on one store, and read back what the exposures' visits are now."""
    exposures: Sequence[Exposure] = merge_exposures(given.exposures)
    store = _Asked(inner)
    task = DefineVisitsTask(config, store=store, progress=progress)
    rule = task.groupExposures.rule
    regions = observed_regions(task, exposures[0].instrument, given.raws)
    if isinstance(inner, PostgresVisitStore):
        exposures = inner.merged(exposures, rule)
        inner.begin(exposures, rule=rule, regions=regions)
    else:
        store.inner = MemoryStore(raws=regions)
    started = perf_counter()
    result = task.run(exposures, processes=processes, **asdict(options))
    seconds = perf_counter() - started
    instrument = exposures[0].instrument
    if isinstance(inner, PostgresVisitStore):
        inner.finish()
        store_visit_systems(inner.database, {instrument: rule.visit_systems})
    stored = store.inner.stored_visits(instrument, store.asked)
    return DefineSummary(
        result=result,
        visits=tuple(stored[visit] for visit in sorted(stored)),
        visit_systems=rule.visit_systems,
        off_sky=tuple(sorted(e.id for e in exposures if e.off_sky_reason is not None)),
        seconds=seconds,
    )


def define_given(
    given: ExposureList, config: Config, store: PostgresVisitStore, options: DefineOptions
) -> DefineResult:
    """Define the visits of exposures in a store that is open; raises as `define_visits`."""
    task = DefineVisitsTask(config, store=store)
    rule = task.groupExposures.rule
    exposures = store.merged(merge_exposures(given.exposures), rule)
    store.begin(exposures, rule=rule, regions=observed_regions(task, exposures[0].instrument, given.raws))
    result = task.run(exposures, **asdict(options))
    store.finish()
    return result


def observed_regions(task: DefineVisitsTask, instrument: str, raws: Sequence[RawIngested]) -> tuple[RawRegion, ...]:
    """Return what the raws' own WCS say, where the algorithm asks for it; the first of each raw stays."""
    algorithm = task.computeVisitRegions.algorithm(instrument)
    kept: dict[tuple[int, int], RawRegion] = {}
    if algorithm.needs_headers:
        for raw in raws:
            try:
                region = algorithm.observe(raw)
            except BadMessageError as error:
                raise ConfigurationError(
                    f"exposure {raw.exposure.id}, detector {raw.detector}: {error.detail}"
                ) from error
            if region is not None:
                kept.setdefault((region.exposure, region.detector), region)
    return tuple(kept.values())


@dataclass(slots=True)
class _Asked:
    """A store that remembers which visits it was asked for: those that the exposures define."""

    inner: VisitStore
    asked: set[int] = field(default_factory=set)

    def stored_visits(self, instrument: str, visits: Collection[int]) -> Mapping[int, VisitRecords]:
        """Return those of these visits that are stored, with every row."""
        self.asked.update(visits)
        return self.inner.stored_visits(instrument, visits)

    def group_members(self, groups: Collection[GroupKey]) -> Sequence[Exposure]:
        """Return the stored exposures of these groups."""
        return self.inner.group_members(groups)

    def raw_regions(self, instrument: str, exposures: Collection[int]) -> Sequence[RawRegion]:
        """Return what is stored of these exposures' raws."""
        return self.inner.raw_regions(instrument, exposures)

    def exposures(self, instrument: str, ids: Collection[int]) -> Sequence[Exposure]:
        """Return those of these exposures that are stored."""
        return self.inner.exposures(instrument, ids)

    def write(self, records: VisitRecords, *, detector_regions: bool) -> None:
        """Put the rows of one visit in the place of those that are stored."""
        self.inner.write(records, detector_regions=detector_regions)
