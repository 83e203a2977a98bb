"""Sets up Python for a process that makes tens of thousands of short-lived objects and never a cycle of them."""

import gc
import sys

_SWITCH_INTERVAL_S = 0.0003
_COLLECT_AFTER = 10_000
"""Objects more than there were at the last look of the garbage collector."""


def tune_interpreter(*, two_threads: bool = False) -> None:
    """Search seldom for cycles of objects, and never in what is loaded by now.

    Parameters
    ----------
    two_threads
        Whether one thread computes while another mostly waits for PostgreSQL. The latter needs Python's lock for a
        moment after each statement, and would get it only after 5 ms, which add up to more than the statements take.
    """
    if two_threads:
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, *gc.get_threshold()[1:])
