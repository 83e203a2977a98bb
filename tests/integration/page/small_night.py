"""Exposures of two nights: visits, an open group, hostile names, bad messages."""

from typing import Final

from tests.support.exposures import exposure, run_of
from tests.support.feeding import Feeder, raws_of

INSTRUMENTS: Final = {"LSSTComCam": {"group_exposures": "one-to-one-and-by-counter"}}
AT_MS: Final = 1_793_600_000_000
HOSTILE: Final = ("<script>alert('x')</script>", "\u202eevitisnes txet\u202c", "long " * 40, "100%_\\")
"""Names of targets."""
YESTERDAY: Final = 20261031
SNAPS: Final = run_of(1, 2)
SINGLE: Final = exposure(7, tracking_ra=53.1, tracking_dec=-27.8, target_name="ECDFS", physical_filter="i_06")
OLDER: Final = exposure(30, day_obs=YESTERDAY, id=YESTERDAY * 100_000 + 30)
TARGETS: Final = [exposure(10 + n, target_name=name) for n, name in enumerate(HOSTILE)]
WAITING: Final = run_of(20, 22)[0]
BAD: Final = 5
"""Messages that are none."""


def feed_small_night(feeder: Feeder) -> None:
    """Store all of it."""
    feeder.feed(raws_of([OLDER], range(9)), at_ms=AT_MS)
    feeder.feed(raws_of([*SNAPS, SINGLE, *TARGETS], range(8)), at_ms=AT_MS)
    feeder.feed(raws_of([WAITING], range(9)), at_ms=AT_MS)
    feeder.feed([b"<script>no event %d" % number for number in range(BAD)], at_ms=AT_MS)
