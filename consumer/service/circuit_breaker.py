"""The circuit breaker: when most messages are bad, the fault is hardly theirs, and none of them is set aside.

A wrong schema or a wrong topic would otherwise turn into as many dead letters as there are messages. The window is the
batch that is about to be written, and those before it as far as it is small: a batch that is mostly bad is first held
until there is enough to judge, or until it has been held for long enough. Pure: no clock.
"""

from collections import deque
from dataclasses import dataclass
from enum import StrEnum


class Judgement(StrEnum):
    """What to do with the batch that is gathered."""

    WRITE = "write"
    HOLD = "hold"
    """Mostly bad, but too small to say so: wait for more."""
    TRIP = "trip"
    """Nothing of it is kept, and reading stops until an operator's word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When to stop instead of setting messages aside; see ``breaker`` in the settings."""

    enabled: bool = True
    min_messages: int = 100
    max_bad_fraction: float = 0.5
    hold_s: float = 2.0

    def judge(self, *, messages: int, bad: int, held_s: float) -> Judgement:
        """Judge a batch.

        Parameters
        ----------
        messages
            Gathered in it.
        bad
            Those of them that are no usable events, and that no operator has accepted already.
        held_s
            For how long it was held, seconds.
        """
        if not self.enabled or bad <= messages * self.max_bad_fraction:
            return Judgement.WRITE
        if messages >= self.min_messages:
            return Judgement.TRIP
        return Judgement.HOLD if held_s < self.hold_s else Judgement.WRITE


class BreakerWindow:
    """The latest batches, as far as a small one needs them to be judged.

    Parameters
    ----------
    breaker
        The policy.
    """

    def __init__(self, breaker: BreakerPolicy) -> None:
        self._breaker = breaker
        self._latest: deque[tuple[int, int]] = deque()

    def judge(self, *, messages: int, bad: int, held_s: float) -> Judgement:
        """Judge a batch; one that is mostly good is written, whatever came before it. See `BreakerPolicy.judge`."""
        alone = self._breaker.judge(messages=messages, bad=bad, held_s=held_s)
        if bad <= messages * self._breaker.max_bad_fraction:
            return alone
        before, bad_before = (sum(numbers) for numbers in zip(*self._latest, strict=True)) if self._latest else (0, 0)
        together = self._breaker.judge(messages=before + messages, bad=bad_before + bad, held_s=held_s)
        return Judgement.TRIP if together is Judgement.TRIP else alone

    def wrote(self, *, messages: int, bad: int) -> None:
        """Take note of a batch that was written."""
        if not messages:
            return
        self._latest.append((messages, bad))
        while sum(number for number, _ in self._latest) - self._latest[0][0] >= self._breaker.min_messages:
            self._latest.popleft()

    def forget(self) -> None:
        """Begin anew, after an operator's word."""
        self._latest.clear()
