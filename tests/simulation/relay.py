"""The relay of one replica, which stands still before each call to the outbox or the brokers until its next step."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, cast

import greenlet

from consumer.config import Settings
from consumer.events.visit_defined import Announcement, Sent
from consumer.metrics import Metrics
from consumer.postgres.outbox import Backlog, Outbox
from consumer.service.outbox_relay import OutboxRelay
from consumer.service.runtime import Runtime
from tests.simulation.world import SharedStore
from tests.support.service import settings_for
from tests.support.stepped import Flag


@dataclass(slots=True)
class Topic:
    """What the brokers have of the announcements: numbers in the outbox, in order."""

    arrived: list[int] = field(default_factory=list)


def _stand_still() -> None:
    hub = greenlet.getcurrent().parent
    assert hub is not None
    hub.switch()


class _StandingOutbox:
    """The outbox as one replica's session has it."""

    def __init__(self, store: SharedStore, replica: str) -> None:
        self._store = store
        self._replica = replica

    def lead(self) -> bool:
        _stand_still()
        if self._store.leader is None:
            self._store.leader = self._replica
        return self._store.leader == self._replica

    def unsent(self, limit: int) -> list[Announcement]:
        _stand_still()
        return self._store.state.unsent[:limit]

    def mark_sent(self, ids: list[int]) -> None:
        _stand_still()
        rows = self._store.state.copy()
        rows.sent |= frozenset(ids)
        self._store.state = rows

    def backlog(self) -> Backlog:
        return Backlog(0, None)

    def remove_sent(self, days: float) -> int:
        del days
        return 0

    remove_settled = remove_sent

    def close(self) -> None:
        if self._store.leader == self._replica:
            self._store.leader = None


class _StandingAnnouncer:
    """Brings announcements to the topic, and hears of most of them that they arrived."""

    def __init__(self, topic: Topic, draw: random.Random) -> None:
        self._topic = topic
        self._random = draw

    def send(self, announcements: Sequence[Announcement], stopping: Callable[[], bool]) -> Sent:
        del stopping
        heard = []
        for each in announcements:
            _stand_still()
            if self._random.random() < 0.95:
                self._topic.arrived.append(each.id)
                if self._random.random() < 0.95:
                    heard.append(each.id)
        return Sent(heard, "not all was heard of")

    def abandon(self) -> None:
        """Do nothing: nothing is under way."""


@cache
def _settings() -> Settings:
    return Settings(**settings_for("nowhere:1", "host=127.0.0.1", announce={"max_messages": 3}))


class Relay:
    """The relay of one replica.

    Parameters
    ----------
    store
        Of all.
    topic
        Where the announcements go.
    replica
        Whose it is.
    metrics, runtime
        Of the replica; it sleeps from one step to the next.
    draw
        Decides what arrives.
    """

    def __init__(
        self,
        store: SharedStore,
        topic: Topic,
        replica: str,
        *,
        metrics: Metrics,
        runtime: Runtime,
        draw: random.Random,
    ) -> None:
        self._store = store
        self._replica = replica
        relay = OutboxRelay(
            cast("Outbox", _StandingOutbox(store, replica)),
            lambda: _StandingAnnouncer(topic, draw),
            metrics,
            _settings(),
            give_up=self._gave_up,
            runtime=replace(runtime, new_stop_flag=lambda: Flag(lambda _: _stand_still())),
        )
        self._thread: Any = greenlet.greenlet(relay._run)

    def step(self) -> None:
        """Go on up to before the next call."""
        self._thread.switch()

    def crash(self) -> None:
        """End in the middle of whatever it does; its session ends, and the lock goes with it."""
        self._thread.throw(greenlet.GreenletExit)
        if self._store.leader == self._replica:
            self._store.leader = None

    @staticmethod
    def _gave_up() -> None:
        raise AssertionError("the relay gave up")
