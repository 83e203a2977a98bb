"""Regions computed before the transaction that needs them, by the thread that gathers events.

Where an exposure is a group by itself, it is clear which regions a batch will ask for as soon as the first raw of it is
read. They are computed then, many together, while the writer waits for PostgreSQL with the batch before. In
the writer's thread they would not only make the transaction longer: numpy gives Python's lock away in each of its
calls, and beside a thread that decodes gets it back only when that one's turn is over. A hundred calls a visit then
take many times as long as their arithmetic.

A prefetched region is a guess at what will be asked, never the answer to another question: it holds for the very
`~consumer.model.Exposure` object from which it was computed, alone, under an algorithm that looks at nothing else.
What was not prefetched is computed in the transaction; what is stored already was prefetched in vain. Pure: no clock,
no I/O.
"""

from collections.abc import Mapping
from typing import NamedTuple

from consumer.domain import Instrument
from consumer.errors import GroupError
from consumer.model import Exposure, RawRegion, VisitDefinition, VisitRegions
from consumer.regions import compute_each

_MAX_SEEN = 1024
"""Exposures that are remembered as seen; more than a batch has of a camera with many detectors."""
_MAX_PREFETCHED = 500
"""Visits of one batch; those of LSSTCam take 30 kB each."""


class PrefetchedRegions(NamedTuple):
    """The regions of the visit that is this exposure alone."""

    exposure: Exposure
    regions: VisitRegions


Prefetched = Mapping[int, PrefetchedRegions]
"""By the identity of the exposure's object, which the entry keeps alive."""


def prefetched_regions(
    prefetched: Prefetched, visit: VisitDefinition, raws: tuple[RawRegion, ...]
) -> VisitRegions | None:
    """Find the regions of a visit among those that were prefetched; None where they were not."""
    if raws or len(visit.exposures) != 1:
        return None
    found = prefetched.get(id(visit.exposures[0]))
    return None if found is None or found.exposure is not visit.exposures[0] else found.regions


class RegionPrefetch:
    """Notes exposures as they are first read, and computes their visits' regions. Not thread-safe.

    Parameters
    ----------
    rules
        By instrument. Exposures whose group has others to wait for, and instruments whose regions need headers, are
        left to the transaction.
    """

    def __init__(self, rules: Mapping[str, Instrument]) -> None:
        self._rules = {name: each for name, each in rules.items() if not each.algorithm.needs_headers}
        self._seen: dict[int, Exposure] = {}
        self._noted: dict[str, list[Exposure]] = {}
        self._prefetched: dict[int, PrefetchedRegions] = {}

    def note(self, exposure: Exposure) -> None:
        """Take note that a raw of this exposure was read; an object that was noted lately is not noted again."""
        if id(exposure) in self._seen:
            return
        if len(self._seen) >= _MAX_SEEN:
            del self._seen[next(iter(self._seen))]
        self._seen[id(exposure)] = exposure
        rules = self._rules.get(exposure.instrument)
        if rules is not None and exposure.off_sky_reason is None and rules.rule.complete((exposure,)) is True:
            self._noted.setdefault(exposure.instrument, []).append(exposure)

    def compute(self) -> None:
        """Compute the regions of what was noted."""
        for instrument, exposures in self._noted.items():
            wanted = exposures[: _MAX_PREFETCHED - len(self._prefetched)]
            computed = compute_each(self._rules[instrument].algorithm, [((each,), ()) for each in wanted])
            for exposure, regions in zip(wanted, computed, strict=True):
                # A visit that has none fails where its group is named: in the transaction.
                if not isinstance(regions, GroupError):
                    self._prefetched[id(exposure)] = PrefetchedRegions(exposure, regions)
        self._noted.clear()

    def take(self) -> Prefetched:
        """Take what was computed since this was asked last."""
        prefetched, self._prefetched = self._prefetched, {}
        return prefetched
