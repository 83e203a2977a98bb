"""How long to wait before an object that cannot be read is tried again, and when to give it up. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

_GROWTH = 2.0
_LEAST_FRACTION = 0.5
_MOST_DOUBLINGS = 60
"""Beyond that a float has no room, and the longest pause holds anyway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Growing pauses, with jitter: what became unreadable together is not tried again together."""

    first_s: float
    """Before the second attempt; each further pause is twice as long."""
    max_s: float
    """Longest pause."""
    give_up_s: float
    """An object that cannot be read so long after its first attempt is rejected."""

    def pause_s(self, attempts: int, random: Callable[[], float]) -> float:
        """Return the pause after so many attempts, seconds; ``random`` returns numbers in [0, 1)."""
        pause_s = min(self.first_s * _GROWTH ** min(attempts - 1, _MOST_DOUBLINGS), self.max_s)
        return pause_s * (_LEAST_FRACTION + (1 - _LEAST_FRACTION) * random())
