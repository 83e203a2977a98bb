"""The circuit breaker: when most messages are bad, the fault is systemic, and reading stops instead.

A wrong schema or a wrong topic would otherwise turn into as many dead letters as there are messages. The window is the
batch that is about to be written, and those before it as far as it is small: a batch that is mostly bad is first held
until there is enough to judge, or until it has been held for long enough. Pure: no clock. A database that fails is
another matter: `consumer.service.writer` tries again.
"""

from collections import deque
from enum import StrEnum

from consumer.config import BreakerSettings


class Judgement(StrEnum):
    """What to do with the batch that is gathered."""

    WRITE = "write"
    HOLD = "hold"
    """Mostly bad, but too small to say so: wait for more."""
    TRIP = "trip"
    """Drop it, and read no more until an operator resets the breaker."""


def judge(settings: BreakerSettings, *, messages: int, bad: int, held_s: float) -> Judgement:
    """Judge a batch by itself.

    Parameters
    ----------
    settings
        When to stop.
    messages
        Gathered in it.
    bad
        Those of them that are no usable events, and that no operator has accepted already.
    held_s
        For how long it was held, seconds.
    """
    if not settings.enabled or bad <= messages * settings.max_bad_fraction:
        return Judgement.WRITE
    if messages >= settings.min_messages:
        return Judgement.TRIP
    return Judgement.HOLD if held_s < settings.hold_s else Judgement.WRITE


class CircuitBreaker:
    """Judges each batch before it is written, together with those before it as far as a small one needs them.

    Parameters
    ----------
    settings
        When it opens.
    """

    def __init__(self, settings: BreakerSettings) -> None:
        self._settings = settings
        self._latest: deque[tuple[int, int]] = deque()
        self._held_since_s: float | None = None

    def judge(self, *, messages: int, bad: int, now_s: float) -> Judgement:
        """Judge the batch that is gathered; one that is mostly good is written, whatever came before it.

        Parameters
        ----------
        messages, bad
            See `judge`.
        now_s
            Of a monotonic clock: a batch is held from its first bad message on.
        """
        if not bad:
            self._held_since_s = None
            return Judgement.WRITE
        if self._held_since_s is None:
            self._held_since_s = now_s
        held_s = now_s - self._held_since_s
        judgement = judge(self._settings, messages=messages, bad=bad, held_s=held_s)
        if self._latest and bad > messages * self._settings.max_bad_fraction:
            before, bad_before = (sum(numbers) for numbers in zip(*self._latest, strict=True))
            together = judge(self._settings, messages=before + messages, bad=bad_before + bad, held_s=held_s)
            if together is Judgement.TRIP:
                judgement = together
        if judgement is Judgement.TRIP:
            self._held_since_s = None
            self._latest.clear()
        return judgement

    def wrote(self, *, messages: int, bad: int) -> None:
        """Note a batch that was given to the writer."""
        self._held_since_s = None
        if not messages:
            return
        self._latest.append((messages, bad))
        while sum(number for number, _ in self._latest) - self._latest[0][0] >= self._settings.min_messages:
            self._latest.popleft()
