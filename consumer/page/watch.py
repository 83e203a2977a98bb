"""Watching the tables for every open page of the process: one look for all of them, when a replica has committed.

It looks while a page is open, and at nothing otherwise. A visit's ``updated_at`` is not in the order of commits, so
each look goes back a minute behind the newest visit that was seen, and sends what it has not sent before.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from time import monotonic, sleep
from typing import Any, Final

from pydantic_core import to_json

from consumer.config import DatabaseSettings
from consumer.errors import VisitConsumerError
from consumer.logs import get_logger
from consumer.page.answering import READ_ONLY, page_database
from consumer.page.answers import FootprintAnswer, GroupsAnswer, NightAnswer, StateAnswer, VisitsAnswer
from consumer.page.broadcast import Broadcast
from consumer.page.shapes import status_of
from consumer.postgres.connection import Database
from consumer.postgres.wake import Wake
from consumer.read.night_summary import read_night_summary
from consumer.read.overview import read_overview, read_waiting_groups
from consumer.read.visit_rows import ChangedVisit, read_changed_visits, read_visits_by_key

GROUPS: Final = 100
"""Open groups that are shown."""
_LOOK_EVERY_S: Final = 2.0
"""What no replica announces: that one has died."""
_PAUSE_S: Final = 0.8
"""Between two looks."""
_FLOOD_PAUSE_S: Final = 5.0
"""The same during a backfill, which needs the processor more."""
_STEP_S: Final = 0.1
_IDLE_S: Final = 0.25
_OVERLAP: Final = timedelta(minutes=1)
_AT_ONCE: Final = 500
"""Visits in one event."""
_FLOOD: Final = 200
"""More visits than this within the overlap are a backfill: pages fetch them themselves."""
_RELOAD_EVERY_S: Final = 15.0
_MOVES_BY_ITSELF: Final[dict[str, Any]] = {
    "at": True,
    "night": {"at": True},
    "status": {
        "at": True,
        "oldest_unsent_s": True,
        "replicas": {"__all__": {"silent_s"}},
        "partitions": {"__all__": {"age_s"}},
    },
}
"""What differs in each look, though nothing has changed."""

_log = get_logger(__name__)

Event = tuple[str, bytes, int]
"""Name, data and id."""


@dataclass(slots=True)
class _Sent:
    """What the open pages were sent."""

    newest: datetime | None = None
    """When the newest visit was written."""
    visits: set[tuple[str, int, int]] = field(default_factory=set)
    """Instrument, id and revision of those within the overlap."""
    groups: str = ""
    state: str = ""
    flooded: bool = False
    """Whether the last look found a backfill."""
    reload_due: bool = False
    reloaded_at_s: float = float("-inf")


class Watcher:
    """Looks at the tables and publishes what changed.

    Parameters
    ----------
    settings
        Where; the reader role is enough.
    broadcast
        To whom.
    """

    def __init__(self, settings: DatabaseSettings, broadcast: Broadcast) -> None:
        own = page_database(settings)
        self._database = Database(own, application_name="visit-consumer page watch", session=READ_ONLY)
        self._wake = Wake(own, application_name="visit-consumer page wake")
        self._broadcast = broadcast
        self._good_at: datetime | None = None
        self._stale = False
        self.looks = 0
        """How often it has looked."""
        self.turned_at_s = monotonic()
        """When it was not waiting last."""
        self._sent = _Sent()

    def run(self, stopped: Callable[[], bool]) -> None:
        """Watch until `stopped` returns True; it is asked several times a second."""
        first_pages = 0
        while not stopped():
            self.turned_at_s = monotonic()
            if not self._broadcast.watched.wait(_IDLE_S):
                continue
            if self._broadcast.first_pages != first_pages:
                first_pages, self._sent = self._broadcast.first_pages, _Sent()
            self._turn()
            self._rest(first_pages, stopped)

    def close(self) -> None:
        """End the sessions."""
        self._wake.close()
        self._database.close()

    def _rest(self, first_pages: int, stopped: Callable[[], bool]) -> None:
        """Wait for a reason to look again, and a moment at least, unless a first page is opened."""

        def ended() -> bool:
            return stopped() or self._broadcast.first_pages != first_pages

        until_s = monotonic() + (_FLOOD_PAUSE_S if self._sent.flooded else _PAUSE_S)
        self._wake.wait(_LOOK_EVERY_S, ended)
        while monotonic() < until_s and not ended():
            sleep(_STEP_S)

    def _turn(self) -> None:
        try:
            events = list(self._look())
        except VisitConsumerError as error:
            self._database.close()
            if not self._stale:
                _log.warning("the tables cannot be read", error=str(error))
            self._stale = True
            self._sent = replace(self._sent, state="")  # what is sent next ends it
            told = {"since": self._good_at, "detail": "the database cannot be asked"}
            self._broadcast.publish("stale", to_json(told), self._id())
            return
        self._stale = False
        self.looks += 1  # before a page hears of it: what it then asks is not answered from before
        for event in events:
            self._broadcast.publish(*event)

    def _look(self) -> Iterator[Event]:
        """Read the tables, and yield what there is to say."""
        sent = self._sent
        overview = read_overview(self._database)
        self._good_at = overview.at
        sent.newest = sent.newest or overview.at
        groups = GroupsAnswer.model_validate(read_waiting_groups(self._database, limit=GROUPS))
        night = NightAnswer.model_validate(read_night_summary(self._database))
        yield from self._changed(read_changed_visits(self._database, sent.newest - _OVERLAP, limit=_FLOOD + 1))
        shown = groups.model_dump_json(exclude={"at"})
        if shown != sent.groups:
            sent.groups = shown
            yield "groups", groups.model_dump_json().encode(), self._id()
        state = StateAnswer(at=overview.at, night=night, status=status_of(overview))
        shown = state.model_dump_json(exclude=_MOVES_BY_ITSELF)
        if shown != sent.state:
            sent.state = shown
            yield "state", state.model_dump_json().encode(), self._id()

    def _changed(self, changed: list[ChangedVisit]) -> Iterator[Event]:
        sent = self._sent
        known, sent.visits = sent.visits, {(each.instrument, each.visit, each.revision) for each in changed}
        new = [(i, v) for i, v, revision, _ in changed if (i, v, revision) not in known]
        if changed:
            sent.newest = max(sent.newest or changed[0].updated_at, changed[0].updated_at)
        sent.flooded = bool(new) and len(changed) > _FLOOD
        sent.reload_due |= sent.flooded
        if sent.reload_due and monotonic() - sent.reloaded_at_s > _RELOAD_EVERY_S:
            sent.reload_due, sent.reloaded_at_s = False, monotonic()
            yield "reload", b"{}", self._id()
        elif len(changed) <= _FLOOD:
            yield from visits_events(self._database, new, self._id())

    def _id(self) -> int:
        newest = self._sent.newest
        return 0 if newest is None else round(newest.timestamp() * 1_000_000)


def visits_events(database: Database, keys: list[tuple[str, int]], event_id: int) -> Iterator[Event]:
    """Yield events with the footprints of visits, instrument and id of each."""
    for start in range(0, len(keys), _AT_ONCE):
        rows = read_visits_by_key(database, keys[start : start + _AT_ONCE])
        made = VisitsAnswer(visits=[FootprintAnswer.model_validate(each) for each in rows])
        yield "visits", made.model_dump_json().encode(), event_id


def missed_events(database: Database, since: datetime, event_id: int) -> list[Event]:
    """Return what a page that comes back has missed.

    Parameters
    ----------
    database
        A session of the reader role.
    since
        The newest visit that it may have seen.
    event_id
        Of the events that are made.
    """
    changed = read_changed_visits(database, since - _OVERLAP, limit=_FLOOD + 1)
    if len(changed) > _FLOOD:
        return [("reload", b"{}", event_id)]
    return list(visits_events(database, [(each.instrument, each.visit) for each in changed], event_id))
