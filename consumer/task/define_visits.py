"""The batch driver in the form in which the task is known: ``DefineVisitsTask``.

Names and arguments are those of Rubin's task of the same name, so that a script can switch; the work is done by
`consumer.task.define`, on the same core as the service's. It writes to nothing but the store that it is given.
"""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from multiprocessing.pool import AsyncResult
from typing import Any, ClassVar, Protocol

from consumer.errors import ConfigurationError, GroupError
from consumer.grouping import GroupingRule, Skip, get_rule
from consumer.model import Exposure, GroupKey, VisitDefinition, VisitRecords, VisitRegions
from consumer.regions import (
    CameraSet,
    RegionAlgorithm,
    RegionSettings,
    VisitInputs,
    built_in_names,
    camera_set,
    compute_each,
    get_algorithm,
)
from consumer.task.define import (
    DefineError,
    DefineOptions,
    DefineResult,
    MemoryStore,
    OfflineCandidate,
    VisitStore,
    define_batch,
    find_candidates,
    group_exposures,
    merge_exposures,
    with_stored_members,
    without_stored,
)
from consumer.task.exposure_inputs import GivenExposure, resolve_exposures
from consumer.task.interface import Config, SubtaskField, Task

_CHUNKS_PER_PROCESS = 4
"""Visits go to processes in chunks: the camera travels once with each, and the last ones end at about one time."""
_CHUNK = 50
"""Visits of a chunk at most: they go through numpy together, and a tenth of a second is short to wait for one."""
_AHEAD = 2
"""Chunks that each other process has before it, so that it need not wait for this one."""

Progress = Callable[[int, int], None]
"""Called with how many visits of how many have their regions."""


class Pool(Protocol):
    """What maps a function over many inputs: a pool of `multiprocessing`, or an executor of `concurrent.futures`."""

    def map(self, function: Callable[[Any], Any], inputs: Iterable[Any], /) -> Iterable[Any]:
        """Return the function's values in the order of the inputs."""
        ...


class ChosenSubtask(SubtaskField):
    """A subtask that is chosen by name, in the original's spelling: a field of a registry.

    ``config.groupExposures.name = "one-to-one"`` and ``config.computeVisitRegions["single-raw-wcs"].padding = 250``.
    """

    @property
    def name(self) -> str:
        """Name of the rule or of the algorithm."""
        return str(getattr(self.value, self._attribute))

    @name.setter
    def name(self, name: str) -> None:
        setattr(self.value, self._attribute, name)

    @property
    def active(self) -> "ChosenSettings":
        """The settings of the rule or algorithm that is chosen."""
        return self[self.name]

    def __getitem__(self, name: str) -> "ChosenSettings":
        """Return the settings of a rule or of an algorithm; all of one kind share them."""
        return ChosenSettings(self.value)

    @property
    def _attribute(self) -> str:
        return str(getattr(self.target, "_choice"))  # noqa: B009  # of the two tasks below


class ChosenSettings:
    """Settings under the original's names.

    Raises
    ------
    AttributeError
        When there is no setting of a name.
    """

    _NAMES: ClassVar[Mapping[str, str]] = {
        "padding": "padding",
        "mergeExposures": "merge_exposures",
        "detectorId": "detector_id",
        "requireVersionedCamera": "require_versioned_camera",
    }

    def __init__(self, config: Config) -> None:
        object.__setattr__(self, "_config", config)

    def __getattr__(self, name: str) -> Any:
        if name not in self._NAMES or not isinstance(self._config, ComputeVisitRegionsConfig):
            raise AttributeError(f"no setting {name!r}; there are {', '.join(self._NAMES)} of computeVisitRegions")
        return getattr(self._config.settings, self._NAMES[name])

    def __setattr__(self, name: str, value: Any) -> None:
        getattr(self, name)
        self._config.settings = replace(self._config.settings, **{self._NAMES[name]: value})


@dataclass(kw_only=True)
class GroupExposuresConfig(Config):
    """Settings of `GroupExposuresTask`."""

    rule: str = "one-to-one"
    group_id: str = "digits"


class GroupExposuresTask(Task):
    """Groups exposures and defines visits, by one of the rules of `consumer.grouping`."""

    ConfigClass = GroupExposuresConfig
    _DefaultName = "groupExposures"
    _choice = "rule"
    config: GroupExposuresConfig

    def __init__(self, config: Config | None = None, **arguments: Any) -> None:
        super().__init__(config, **arguments)
        self.rule: GroupingRule = get_rule(self.config.rule, group_id=self.config.group_id)

    def group(self, exposures: Iterable[Exposure]) -> tuple[list[tuple[GroupKey, VisitDefinition]], list[Skip]]:
        """Return the visits with their groups, and what defines none; see `consumer.task.define.group_exposures`."""
        definitions, skips = group_exposures(self.rule, exposures)
        for skip in skips:
            if skip.warn:
                self.log.warning("%s", skip.detail)
        return definitions, skips


@dataclass(kw_only=True)
class ComputeVisitRegionsConfig(Config):
    """Settings of `ComputeVisitRegionsTask`."""

    algorithm: str = "single-raw-wcs"
    settings: RegionSettings = field(default_factory=RegionSettings)
    cameras: Mapping[str, CameraSet] = field(default_factory=dict)
    """Camera collections by name; where there is none, the package's camera of the instrument's name."""


class ComputeVisitRegionsTask(Task):
    """Computes the regions of visits, by one of the algorithms of `consumer.regions`."""

    ConfigClass = ComputeVisitRegionsConfig
    _DefaultName = "computeVisitRegions"
    _choice = "algorithm"
    config: ComputeVisitRegionsConfig

    def algorithm(self, instrument: str, collections: Sequence[str] | None = None) -> RegionAlgorithm:
        """Return the algorithm with the cameras of some collections, to be searched in order.

        Parameters
        ----------
        instrument
            Names the package's own camera, where no camera is configured.
        collections
            Names of camera collections; None: all that are configured, in their order.

        Raises
        ------
        ConfigurationError
            When a collection is not known.
        """
        cameras = self.config.cameras
        if not cameras and instrument.lower() in built_in_names():
            cameras = {instrument: camera_set([instrument])}
        names = list(cameras) if collections is None else list(collections)
        unknown = [name for name in names if name not in cameras]
        if unknown:
            known = ", ".join(cameras) or "none"
            raise ConfigurationError(f"collections: unknown {', '.join(map(repr, unknown))}; known: {known}")
        return get_algorithm(self.config.algorithm, self.config.settings, [cameras[name] for name in names])

    def compute(
        self,
        algorithm: RegionAlgorithm,
        candidates: Sequence[OfflineCandidate],
        *,
        pool: Pool | None = None,
        processes: int = 1,
        progress: Progress | None = None,
    ) -> list[VisitRegions]:
        """Compute the regions of visits, in their order.

        Parameters
        ----------
        algorithm
            Computes them.
        candidates
            The visits.
        pool
            Where to compute; None: here, or on a pool of one's own where `processes` is more than one.
        processes
            Number of processes, of the pool that is given or of one's own.
        progress
            Called with how far it is.

        Raises
        ------
        RegionError
            When a visit's regions cannot be computed.
        """
        inputs: list[VisitInputs] = [(c.definition.exposures, c.raws) for c in candidates]
        size = max(1, min(_CHUNK, -(-len(inputs) // (_CHUNKS_PER_PROCESS * max(1, processes)))))
        jobs = [(algorithm, inputs[start : start + size]) for start in range(0, len(inputs), size)]
        if pool is not None:
            return _collect(pool.map(_compute_chunk, jobs), len(inputs), progress)
        others = min(processes, len(jobs)) - 1
        if others > 0:
            # Not forked: the parent may have threads, of a database driver for one.
            with multiprocessing.get_context("spawn").Pool(others) as own:
                return _collect(_share(own, jobs, _AHEAD * others), len(inputs), progress)
        return _collect(map(_compute_chunk, jobs), len(inputs), progress)


@dataclass(kw_only=True)
class DefineVisitsConfig(Config):
    """Settings of `DefineVisitsTask`."""

    groupExposures: ChosenSubtask = field(  # noqa: N815  # the subtask's name
        default_factory=lambda: ChosenSubtask("Groups exposures into visits.", GroupExposuresTask)
    )
    computeVisitRegions: ChosenSubtask = field(  # noqa: N815  # the subtask's name
        default_factory=lambda: ChosenSubtask("Computes the regions of visits.", ComputeVisitRegionsTask)
    )
    ignore_non_science_exposures: bool = True
    """Skip exposures that are not on sky; otherwise they are an error."""
    updateObsCoreTable: bool = True  # noqa: N815  # the original's name
    """Accepted and without effect: the sink of a Butler registry updates its ObsCore table where there is one."""

    @property
    def ignoreNonScienceExposures(self) -> bool:  # noqa: N802  # the original's name
        """The same as `ignore_non_science_exposures`."""
        return self.ignore_non_science_exposures

    @ignoreNonScienceExposures.setter
    def ignoreNonScienceExposures(self, value: bool) -> None:  # noqa: N802  # the original's name
        self.ignore_non_science_exposures = value


class DefineVisitsTask(Task):
    """Defines visits from exposures.

    Parameters
    ----------
    config
        Settings.
    store
        Where visits are stored; by default in memory, as its attribute `store`.
    progress
        Called with how many visits of how many have their regions.
    **arguments
        Those of `consumer.task.interface.Task`.
    """

    ConfigClass = DefineVisitsConfig
    _DefaultName = "defineVisits"
    config: DefineVisitsConfig
    groupExposures: GroupExposuresTask  # noqa: N815  # the subtask's name
    computeVisitRegions: ComputeVisitRegionsTask  # noqa: N815  # the subtask's name

    def __init__(
        self,
        config: Config | None = None,
        *,
        store: VisitStore | None = None,
        progress: Progress | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(config, **arguments)
        self.store: VisitStore = store if store is not None else MemoryStore()
        self._progress = progress
        self.makeSubtask("groupExposures")
        self.makeSubtask("computeVisitRegions")

    def run(  # noqa: PLR0913  # the task's interface
        self,
        exposures: Iterable[GivenExposure],
        *,
        pool: Pool | None = None,
        processes: int = 1,
        collections: Sequence[str] | str | None = None,
        update_records: bool = False,
        incremental: bool = False,
        skip_conflicting: bool = False,
        prefilter: bool = False,
        check_detector_regions: bool = False,
    ) -> DefineResult:
        """Define the visits of these exposures, and store them.

        Parameters
        ----------
        exposures
            Of one instrument, in any order; copies of one are merged. Exposures, ``exposure`` records of a Butler, or
            data ids (mappings with ``instrument`` and ``exposure``), which are looked up in the store.
        pool, processes
            Where regions are computed; see `ComputeVisitRegionsTask.compute`.
        collections
            Names of the camera collections to search, in order.
        update_records, incremental, skip_conflicting, prefilter, check_detector_regions
            What to do with visits that are stored already; see `consumer.task.define.DefineOptions`.

        Returns
        -------
        result
            How many visits there were, and what was done with them.

        Raises
        ------
        DefineError
            When there is more than one instrument, a data id that is not stored, or an exposure that is not on sky
            where that is an error.
        DatabaseConflictError
            When a stored visit differs and no option says what to do. Visits with lower ids are stored then.
        GroupError
            When a group can have no visit id.
        TypeError
            When `prefilter` is combined with `update_records` or `incremental`.
        RegionError
            When regions cannot be computed.
        ConfigurationError
            When a collection is not known, or a camera is missing.
        """
        options = DefineOptions(
            update_records=update_records,
            incremental=incremental,
            skip_conflicting=skip_conflicting,
            prefilter=prefilter,
            check_detector_regions=check_detector_regions,
        )
        searched = [collections] if isinstance(collections, str) else collections
        result = DefineResult()
        with self.timer("run"):
            given = resolve_exposures(exposures, self.store)
            if not given:
                return result
            known = self._checked(given)
            algorithm = self.computeVisitRegions.algorithm(known[0].instrument, searched)

            def compute(wanted: Sequence[OfflineCandidate]) -> list[VisitRegions]:
                with self.computeVisitRegions.timer("compute"):
                    return self.computeVisitRegions.compute(
                        algorithm, wanted, pool=pool, processes=processes, progress=self._progress
                    )

            def whole(stored: Sequence[VisitRecords]) -> set[int]:
                wanted = [OfflineCandidate(v.group, v.definition, (), v) for v in stored]
                pairs = zip(stored, compute(wanted), strict=True)
                return {v.definition.id for v, regions in pairs if {*regions.detectors} <= {*v.regions.detectors}}

            with self.groupExposures.timer("group"):
                rule = self.groupExposures.rule
                if incremental:
                    known = with_stored_members(rule, known, self.store)
                if prefilter:
                    is_whole = whole if check_detector_regions else None
                    known = without_stored(rule, known, self.store, result=result, is_whole=is_whole)
                definitions, _ = self.groupExposures.group(known)
                candidates = find_candidates(definitions, self.store, result)
            define_batch(
                candidates,
                rule=self.groupExposures.rule,
                algorithm=algorithm,
                compute=compute,
                store=self.store,
                options=options,
                result=result,
            )
        self.log.info("%d exposures, %s", len(known), result)
        return result

    def _checked(self, exposures: Iterable[Exposure]) -> list[Exposure]:
        known = merge_exposures(exposures)
        if not self.config.ignore_non_science_exposures:
            for one in known:
                if one.off_sky_reason is not None:
                    raise DefineError(
                        f"exposure {one.id} ({one.observation_type}) is not on sky: {one.off_sky_reason}; "
                        "ignore_non_science_exposures skips such exposures"
                    )
        return known


_Chunk = tuple[RegionAlgorithm, list[VisitInputs]]


def _compute_chunk(chunk: _Chunk) -> list[VisitRegions]:
    """Compute the regions of some visits; a function of the module, so that another process can find it."""
    algorithm, inputs = chunk
    regions: list[VisitRegions] = []
    for found in compute_each(algorithm, inputs):
        if isinstance(found, GroupError):
            raise found
        regions.append(found)
    return regions


class _Others(Protocol):
    """What runs calls beside this process: a pool of `multiprocessing`."""

    def apply_async(
        self, function: Callable[["_Chunk"], list[VisitRegions]], arguments: tuple["_Chunk"], /
    ) -> "AsyncResult[list[VisitRegions]]":
        """Run a call somewhere else."""
        ...


def _share(others: _Others, jobs: Sequence[_Chunk], ahead: int) -> Iterator[list[VisitRegions]]:
    """Work through jobs here and in other processes, and give their results in order.

    Other processes take a second or two to start. This one does not wait for them: it takes jobs as well, and in the
    end those that it has given away but that are not done, so that no number of processes is slower than one.
    """
    waiting = deque(range(len(jobs)))
    given: dict[int, AsyncResult[list[VisitRegions]]] = {}
    done: dict[int, list[VisitRegions]] = {}
    following = 0
    while following < len(jobs):
        while waiting and len(given) < ahead:
            number = waiting.popleft()
            given[number] = others.apply_async(_compute_chunk, (jobs[number],))
        # The one that was given away last is the least likely to have been begun.
        mine = waiting.popleft() if waiting else max(given, default=None)
        if mine is not None and (mine not in given or not given[mine].ready()):
            done[mine] = _compute_chunk(jobs[mine])
            given.pop(mine, None)
        for number in [each for each, answer in given.items() if answer.ready()]:
            done[number] = given.pop(number).get()
        while following in done:
            yield done.pop(following)
            following += 1


def _collect(chunks: Iterable[list[VisitRegions]], total: int, progress: Progress | None) -> list[VisitRegions]:
    def reported() -> Iterator[list[VisitRegions]]:
        done = 0
        for chunk in chunks:
            done += len(chunk)
            if progress is not None:
                progress(done, total)
            yield chunk

    return list(chain.from_iterable(reported()))
