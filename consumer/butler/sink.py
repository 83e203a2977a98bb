"""The sink: takes from the tables what a Butler registry lacks, writes it, and moves its position.

Delivery: at least once, and writing twice changes nothing. The registry's transaction comes first and the position
after it; the digest of the regions is stored before both, so that a process that died in between recognises its own
regions. The work list is a question to the tables, so that no announcement has to arrive.
"""

import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic, time
from typing import NamedTuple

from consumer.butler.changes import RegistryChange, SinkResult, find_change
from consumer.butler.registry import ButlerRegistry, RegistryRefusedError
from consumer.config import ButlerSettings
from consumer.errors import TransientError
from consumer.logs import get_logger
from consumer.metrics.butler import ButlerMetrics
from consumer.model import Exposure, VisitRecords
from consumer.postgres.backoff import Backoff
from consumer.postgres.sink_positions import Advance, PendingVisit, SinkPositions

MOST_PENDING = 20_000
"""Visits of one look: 400 transactions; the next look finds the others."""
NOTED = ("kept", "refused", "removed")
"""States of visits that an operator may have to look at."""
_LATE_S = 3600.0
"""The short look goes so far back."""

_log = get_logger(__name__)

VisitKey = tuple[str, int]


class SinkPreview(NamedTuple):
    """What would become of one visit."""

    instrument: str
    visit: int
    day_obs: int
    result: str
    """A `SinkResult`, or ``waiting``."""
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compared:
    """A batch held against the registry."""

    changes: list[RegistryChange]
    refused: list[tuple[VisitRecords, str]]
    missing: dict[int, list[Exposure]]
    """Members that the registry lacks, by visit."""


class ButlerSink:
    """Writes the visits of the tables into one registry.

    Parameters
    ----------
    positions
        Where the visits are, and how far the sink is.
    registry
        Where they go.
    settings
        Of the sink.
    metrics
        Counted into.
    from_night
        Only visits of this observing day and later ones; None: all.
    retry_max_s
        Longest pause after a database did not answer.
    """

    def __init__(
        self,
        positions: SinkPositions,
        registry: ButlerRegistry,
        settings: ButlerSettings,
        metrics: ButlerMetrics,
        *,
        from_night: int | None = None,
        retry_max_s: float = 30.0,
    ) -> None:
        self._positions = positions
        self._registry = registry
        self._settings = settings
        self._metrics = metrics
        self._from_night = from_night
        self._backoff = Backoff(retry_max_s, random=random.random)
        self._waiting: dict[VisitKey, list[int]] = {}
        """Members that the registry lacks, by visit; none where it lacks the instrument."""
        self._written_s: dict[VisitKey, float] = {}
        self._page_end: PendingVisit | None = None
        self._next_complete_s = self._next_waiting_s = monotonic()
        self.counts: Counter[str] = Counter()
        """What became of visits since the start, by `SinkResult`."""
        self.problem = "not started yet"
        """Why the last turn failed; empty after one that succeeded."""

    @property
    def waiting(self) -> int:
        """How many visits wait for exposures or their instrument."""
        return len(self._waiting)

    def run(
        self,
        stopping: threading.Event,
        *,
        prepare: Callable[[], None],
        turned: Callable[[], None] = lambda: None,
        rest: Callable[[float], object] | None = None,
    ) -> None:
        """Write until asked to stop, whatever the databases do.

        Parameters
        ----------
        stopping
            Ends it, at the end of a batch.
        prepare
            Called before the first turn, again where a database does not answer.
        turned
            Called often while it lives.
        rest
            Called where there is nothing to write, with the seconds that it may take at most; None: it waits so long.

        Raises
        ------
        VisitConsumerError
            When going on is useless: a missing table, right or repository.
        """
        prepared = False
        while not stopping.is_set():
            turned()
            try:
                if not prepared:
                    prepare()
                    prepared = True
                more = self.turn(stopping, turned)
            except TransientError as error:
                self.problem = str(error)
                self._metrics.errors.inc()
                self._metrics.active.set(0)
                _log.warning("a database does not answer, trying again", error=str(error))
                stopping.wait(self._backoff.pause_s())
                continue
            self._backoff.reset()
            self.problem = ""
            self._metrics.last_turn.set(time())
            if not more:
                (rest or stopping.wait)(self._settings.interval_s)

    def turn(self, stopping: threading.Event | None = None, turned: Callable[[], None] = lambda: None) -> bool:
        """Write what is pending; return whether there may be more at once.

        Raises
        ------
        TransientError
            When a database does not answer.
        """
        active = self._positions.lead()
        self._metrics.active.set(active)
        if not active:
            return False
        pending, complete, more = self._look()
        for batch in self._batches(pending):
            if stopping is not None and stopping.is_set():
                return False
            self._check_lead()
            with self._metrics.batch_duration.time():
                self._deal(batch[0].instrument, [each.id for each in batch])
            turned()
        if complete:
            self._positions.forget_removed()
        if complete or pending:
            self._report_notes()
        return more

    def preview(self) -> list[SinkPreview]:
        """Return what would be written, and write nothing."""
        pending = self._positions.pending(limit=MOST_PENDING, from_night=self._from_night)
        found: list[SinkPreview] = []
        for batch in self._batches(pending):
            instrument = batch[0].instrument
            visits, _ = self._positions.read(instrument, [each.id for each in batch])
            compared = self._compare(instrument, list(visits.values()))
            rows = [(c.records, str(c.result), c.detail) for c in compared.changes]
            rows += [(records, str(SinkResult.REFUSED), detail) for records, detail in compared.refused]
            rows += [
                (visits[visit], "waiting", f"exposures: {', '.join(str(e.id) for e in missing)}")
                for visit, missing in compared.missing.items()
            ]
            found += [
                SinkPreview(instrument, records.definition.id, records.aggregate.day_obs, result, detail)
                for records, result, detail in rows
            ]
        found += [
            SinkPreview(each.instrument, each.id, each.day_obs, "waiting", f"instrument {each.instrument}")
            for each in pending
            if each.key in self._waiting
        ]
        return sorted(found)

    def _look(self) -> tuple[list[PendingVisit], bool, bool]:
        """Return visits to deal with, whether they are a page of all visits, and whether there is another page."""
        now_s = monotonic()
        complete = now_s >= self._next_complete_s
        if complete and self._page_end is None:
            self._waiting.clear()
        pending = self._positions.pending(
            limit=MOST_PENDING,
            from_night=self._from_night,
            late_s=None if complete else _LATE_S,
            after=self._page_end if complete else None,
        )
        more = len(pending) >= MOST_PENDING
        if complete:
            self._page_end = pending[-1] if more else None
            self._next_complete_s = now_s + (0.0 if more else self._settings.complete_look_s)
        self._written_s = {key: self._written_s[key] for key in self._waiting} | {
            each.key: each.updated_at.timestamp() for each in pending
        }
        self._metrics.pending.set(len(self._written_s))
        self._metrics.oldest_pending.set(min(self._written_s.values(), default=0.0))
        pending = [each for each in pending if each.key not in self._waiting]
        if self._waiting and now_s >= self._next_waiting_s:
            self._next_waiting_s = now_s + self._settings.waiting_s
            pending += self._arrived()
        self._metrics.waiting.set(len(self._waiting))
        return pending, complete, more

    def _arrived(self) -> list[PendingVisit]:
        """Forget the waiting visits whose exposures are registered now, and return them."""
        instruments = self._registry.instruments(refresh=True)
        arrived: list[PendingVisit] = []
        for instrument in sorted({name for name, _ in self._waiting} & instruments):
            own = {key: missing for key, missing in self._waiting.items() if key[0] == instrument}
            there = self._registry.exposures(instrument, sorted({id_ for each in own.values() for id_ in each}))
            for key, missing in own.items():
                if there.issuperset(missing):
                    del self._waiting[key]
                    arrived.append(PendingVisit(*key, 0, datetime.fromtimestamp(self._written_s[key], UTC)))
        return arrived

    def _batches(self, pending: Sequence[PendingVisit]) -> list[list[PendingVisit]]:
        """Divide visits into batches of one instrument; those of instruments that the registry lacks wait."""
        known = self._registry.instruments() if pending else frozenset()
        size = self._settings.max_visits
        batches: list[list[PendingVisit]] = []
        for instrument in sorted({each.instrument for each in pending}):
            own = [each for each in pending if each.instrument == instrument]
            if instrument in known:
                batches += [own[start : start + size] for start in range(0, len(own), size)]
            else:
                _log.warning(
                    "the registry lacks an instrument, its visits wait", instrument=instrument, visits=len(own)
                )
                self._waiting.update({each.key: [] for each in own})
        return batches

    def _deal(self, instrument: str, ids: Sequence[int], *, again: bool = False) -> None:
        """Write some visits and move their positions; `again` is true for one that was refused a moment ago."""
        visits, revisions = self._positions.read(instrument, ids)
        compared = self._compare(instrument, list(visits.values()), insert=self._settings.exposures == "insert")
        for visit, missing in compared.missing.items():
            self._waiting[instrument, visit] = [e.id for e in missing]
        self._metrics.waiting.set(len(self._waiting))
        self._refuse(instrument, compared.refused, revisions)
        self._write(instrument, compared.changes, revisions, again=again)

    def _compare(self, instrument: str, visits: Sequence[VisitRecords], *, insert: bool = False) -> _Compared:
        """Hold visits against the registry; with `insert`, register the exposures that it lacks."""
        there, registered = self._registry.look_up(instrument, visits)
        compared = _Compared(changes=[], refused=[], missing={})
        remembered = self._positions.remembered(instrument, [v.definition.id for v in visits]) if registered else {}
        for each in visits:
            id_ = each.definition.id
            missing = [e for e in each.definition.exposures if e.id not in there]
            if each.aggregate.physical_filter is None:
                compared.refused.append((each, "its exposures have no physical filter in common; the Butler wants one"))
            elif not missing or (insert and self._insert(each, missing, compared)):
                compared.changes.append(find_change(each, registered.get(id_), remembered.get(id_, ())))
            elif not insert:
                compared.missing[id_] = missing
        return compared

    def _insert(self, visit: VisitRecords, missing: Sequence[Exposure], compared: _Compared) -> bool:
        try:
            self._registry.insert_exposures(missing)
        except RegistryRefusedError as error:
            compared.refused.append((visit, f"its exposures cannot be registered: {error}"))
            return False
        return True

    def _write(
        self, instrument: str, changes: Sequence[RegistryChange], revisions: dict[int, int], *, again: bool
    ) -> None:
        """Write changes in one transaction, or cut them in two until the one that is refused is alone."""
        if not changes:
            return
        writing = [c for c in changes if c.writes]
        if writing:
            try:
                digests = [(c.records.definition.id, c.digest) for c in writing if c.digest is not None]
                self._positions.intend(instrument, digests)
                systems = self._positions.visit_systems(instrument)
                self._registry.write(instrument, writing, systems, still_ours=self._check_lead)
            except RegistryRefusedError as error:
                if len(changes) > 1:
                    middle = len(changes) // 2
                    self._write(instrument, changes[:middle], revisions, again=again)
                    self._write(instrument, changes[middle:], revisions, again=again)
                elif again:
                    self._refuse(instrument, [(changes[0].records, str(error))], revisions)
                else:
                    # Another client may have written it since the lookup.
                    self._deal(instrument, [changes[0].records.definition.id], again=True)
                return
        moved = [
            Advance(
                c.records.definition.id,
                revisions[c.records.definition.id],
                "kept" if c.result is SinkResult.KEPT else "written",
                c.detail,
                c.digest,
            )
            for c in changes
        ]
        self._positions.advance(instrument, moved, [c.records.group for c in changes])
        for c in changes:
            self._count(c.result)
            if c.detail:
                _log.warning("visit differs", instrument=instrument, visit=c.records.definition.id, detail=c.detail)

    def _refuse(self, instrument: str, refused: Sequence[tuple[VisitRecords, str]], revisions: dict[int, int]) -> None:
        if not refused:
            return
        moved = [Advance(v.definition.id, revisions[v.definition.id], "refused", detail, None) for v, detail in refused]
        self._positions.advance(instrument, moved, [v.group for v, _ in refused])
        for visit, detail in refused:
            self._count(SinkResult.REFUSED)
            _log.error("visit refused", instrument=instrument, visit=visit.definition.id, detail=detail)

    def _count(self, result: SinkResult) -> None:
        self.counts[result] += 1
        self._metrics.visits.labels(result).inc()

    def _check_lead(self) -> None:
        if not self._positions.lead():
            raise TransientError(f"another process runs sink {self._positions.sink!r} now")

    def _report_notes(self) -> None:
        states = Counter(note.state for note in self._positions.notes())
        for state in NOTED:
            self._metrics.noted.labels(state).set(states[state])
