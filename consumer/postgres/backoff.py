"""Growing pauses between attempts, with jitter: replicas that fail together do not come back together."""

from collections.abc import Callable

_FIRST_FRACTION = 1 / 20
_GROWTH = 2.0
_LEAST_FRACTION = 0.5


class Backoff:
    """The pauses of one series of attempts.

    Parameters
    ----------
    max_s
        Longest pause, seconds. The first is a twentieth of it, each further one twice as long.
    random
        Returns numbers in [0, 1): each pause is cut to between a half and all of its length.
    """

    def __init__(self, max_s: float, *, random: Callable[[], float]) -> None:
        self._max_s = max_s
        self._random = random
        self._next_s = max_s * _FIRST_FRACTION

    def pause_s(self) -> float:
        """Return how long to wait before the next attempt, seconds."""
        pause_s = self._next_s
        self._next_s = min(pause_s * _GROWTH, self._max_s)
        return pause_s * (_LEAST_FRACTION + (1 - _LEAST_FRACTION) * self._random())

    def reset(self) -> None:
        """Begin again with the shortest pause, after an attempt that succeeded."""
        self._next_s = self._max_s * _FIRST_FRACTION
