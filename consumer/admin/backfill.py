"""Exposures of whole surveys into the tables: in parts, by several processes, so that it can be ended and go on.

Delivery: each part, which is some whole groups, is stored in one transaction or not at all. Of a part of which some is
stored already, every visit is compared, as ``define`` does: what is equal stays, what differs is reported. So the
command may be killed at any moment and run again, beside a running service too.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import groupby, islice
from multiprocessing import get_context, parent_process
from time import time_ns

from consumer.admin.define import define_given, observed_regions
from consumer.admin.exposure_files import ExposureList
from consumer.config import DatabaseSettings, InstrumentSettings
from consumer.config.resolve import task_config
from consumer.errors import GroupError, RegionError
from consumer.events.visit_defined import announcer
from consumer.model import Exposure
from consumer.postgres.connection import LOOKS_UP_BY_KEY, Database
from consumer.postgres.migrate import check_schema, store_visit_systems
from consumer.postgres.offline_store import PostgresVisitStore
from consumer.task.define import DefineError, DefineOptions, MemoryStore, merge_exposures
from consumer.task.define_visits import DefineVisitsTask

_PART = 250
"""Exposures of one transaction, more or less: 50,000 rows of the largest camera."""
_AHEAD = 2
"""Parts that wait for each process."""

Report = Callable[[int, int], None]
"""Called with how many exposures of how many are stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillJob:
    """What each process needs to know."""

    instrument: InstrumentSettings
    database: DatabaseSettings
    announce_topic: str | None
    """None: the visits are not announced."""


@dataclass(slots=True, kw_only=True)
class BackfillResult:
    """What became of the exposures."""

    n_exposures: int = 0
    n_new: int = 0
    """Visits that were written."""
    n_unchanged: int = 0
    """Visits that were stored already, and are equal."""
    failed: list[str] = field(default_factory=list)
    """Groups of which nothing was changed, with the reason."""

    def add(self, other: "BackfillResult") -> None:
        """Add the counts of a part."""
        self.n_exposures += other.n_exposures
        self.n_new += other.n_new
        self.n_unchanged += other.n_unchanged
        self.failed += other.failed


def backfill(
    given: ExposureList, job: BackfillJob, *, processes: int = 1, report: Report = lambda _done, _of: None
) -> BackfillResult:
    """Store exposures and their visits.

    Parameters
    ----------
    given
        Exposures of one instrument, in any order, copies included.
    job
        How and where.
    processes
        How many compute and write.
    report
        Called after each part.

    Raises
    ------
    DefineError
        When copies of an exposure contradict each other.
    TransientError
        When the database is lost; what was stored stays, and the same call goes on from there.
    """
    exposures = merge_exposures(given.exposures)
    task = DefineVisitsTask(task_config(job.instrument))
    rule = task.groupExposures.rule
    with Database(job.database, application_name="visit-consumer backfill") as database:
        check_schema(database)
        store_visit_systems(database, {exposures[0].instrument: rule.visit_systems})
    parts = _parts(given, exposures, rule.key)
    total = BackfillResult()
    for part in _results(parts, job, processes):
        total.add(part)
        report(total.n_exposures, len(exposures))
    return total


def _parts(
    given: ExposureList, exposures: Sequence[Exposure], key: Callable[[Exposure], str]
) -> Iterator[ExposureList]:
    """Yield whole groups, so many that a part has some 250 exposures; in order of time, as a log would hold them."""
    raws: dict[int, list[int]] = {}
    for number, raw in enumerate(given.raws):
        raws.setdefault(raw.exposure.id, []).append(number)
    first: dict[str, int] = {}
    for each in exposures:
        first[key(each)] = min(first.get(key(each), each.id), each.id)
    part: list[Exposure] = []
    ordered = sorted(exposures, key=lambda e: (e.day_obs, first[key(e)], key(e), e.id))

    def finished() -> ExposureList:
        of_part = tuple(given.raws[number] for each in part for number in raws.get(each.id, ()))
        return ExposureList(exposures=tuple(part), raws=of_part)

    for _, group in groupby(ordered, key=key):
        part += group
        if len(part) >= _PART:
            yield finished()
            part = []
    if part:
        yield finished()


def _results(parts: Iterator[ExposureList], job: BackfillJob, processes: int) -> Iterator[BackfillResult]:
    if processes == 1:
        worker = _Worker(job)
        try:
            yield from map(worker.store, parts)
        finally:
            worker.database.close()
        return
    # Not forked: this process may have threads, of a database driver for one.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_begin, initargs=(job,)) as pool:
        running: set[Future[BackfillResult]] = {pool.submit(_store, part) for part in islice(parts, processes * _AHEAD)}
        try:
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                running |= {pool.submit(_store, part) for part in islice(parts, len(done))}
                yield from (each.result() for each in done)
        finally:
            for each in running:
                each.cancel()


class _Worker:
    """Stores parts, in one session."""

    def __init__(self, job: BackfillJob) -> None:
        self.database = Database(job.database, application_name="visit-consumer backfill", session=LOOKS_UP_BY_KEY)
        self._config = task_config(job.instrument)
        announce = None if job.announce_topic is None else announcer(job.announce_topic, now_ns=time_ns)
        self._store = PostgresVisitStore(self.database, announce=announce)

    def store(self, part: ExposureList) -> BackfillResult:
        """Store one part: at once where nothing of it is stored, else by comparing."""
        if not self._store.stored_exposures(part.exposures):
            try:
                if (written := self._write_new(part)) is not None:
                    return BackfillResult(n_exposures=len(part.exposures), n_new=written)
            except (DefineError, GroupError, RegionError):
                pass  # which group it was, is found by taking them one by one
        return self._compare(part)

    def _write_new(self, part: ExposureList) -> int | None:
        task = DefineVisitsTask(self._config)
        regions = observed_regions(task, part.exposures[0].instrument, part.raws)
        memory = task.store = MemoryStore(raws=regions)
        task.run(part.exposures)
        self._store.begin(part.exposures, rule=task.groupExposures.rule, regions=regions)
        visits = [memory.visits[key] for key in sorted(memory.visits)]
        return len(visits) if self._store.write_new(visits) else None

    def _compare(self, part: ExposureList) -> BackfillResult:
        """Define a part as ``define`` does; where that fails, its groups one by one."""
        try:
            result = define_given(part, self._config, self._store, DefineOptions(incremental=True))
        except (DefineError, GroupError, RegionError) as error:
            rule = DefineVisitsTask(self._config).groupExposures.rule
            groups = list(_parts_of_one_group(part, rule.key))
            if len(groups) == 1:
                failed = [f"group {rule.key(part.exposures[0])!r}: {error}"]
                return BackfillResult(n_exposures=len(part.exposures), failed=failed)
            total = BackfillResult()
            for each in groups:
                total.add(self._compare(each))
            return total
        changed = result.n_new + result.n_fully_updated + result.n_partially_updated
        return BackfillResult(n_exposures=len(part.exposures), n_new=changed, n_unchanged=result.n_visits - changed)


def _parts_of_one_group(part: ExposureList, key: Callable[[Exposure], str]) -> Iterator[ExposureList]:
    for _, group in groupby(sorted(part.exposures, key=lambda e: (key(e), e.id)), key=key):
        exposures = tuple(group)
        ids = {each.id for each in exposures}
        yield ExposureList(exposures=exposures, raws=tuple(raw for raw in part.raws if raw.exposure.id in ids))


_worker: _Worker
"""Of a process of the pool."""


def _begin(job: BackfillJob) -> None:
    """Make ready a process of the pool, which ends with the one that started it, however that ends."""
    global _worker  # noqa: PLW0603 -- what an initializer of a pool is for
    _worker = _Worker(job)
    parent = parent_process()
    assert parent is not None  # noqa: S101 -- it was spawned

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, name="end with parent", daemon=True).start()


def _store(part: ExposureList) -> BackfillResult:
    return _worker.store(part)
