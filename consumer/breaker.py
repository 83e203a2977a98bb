"""The circuit breaker: when most messages are bad, the fault is hardly theirs, and none of them is set aside.

A wrong schema or a wrong topic would otherwise turn into as many dead letters as there are messages. The window is the
batch that is about to be written: a batch that is mostly bad is first held until it is large enough to be judged, or
until it has been held for long enough. Pure: no clock.
"""

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
class Breaker:
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
