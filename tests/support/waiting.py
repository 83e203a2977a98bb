"""How long tests wait for what should happen."""

import time

PATIENCE = 4
"""A loaded machine takes so many times as long as an idle one, for which the tests name their seconds."""


def give_up_at(seconds: float) -> float:
    """Return the moment, on the monotonic clock, at which a test that waits has failed."""
    return time.monotonic() + PATIENCE * seconds
