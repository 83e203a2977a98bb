"""How the exposures of one instrument become visits."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from consumer.domain.closing import ClosingPolicy
from consumer.domain.open_groups import Member
from consumer.grouping import GroupingRule
from consumer.regions import RegionAlgorithm


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """How the exposures of one instrument become visits: its configuration, resolved to objects."""

    rule: GroupingRule
    algorithm: RegionAlgorithm
    closing: ClosingPolicy = field(default_factory=ClosingPolicy)
    required_detectors: int = 0
    """Bit mask of the detectors whose raws must have arrived before an exposure counts as arrived; 0: any raw does."""
    ignore_non_science: bool = True
    """Whether exposures that are not on sky are skipped; otherwise they are dead letters."""
    keep_stored: bool = False
    """``on_change: keep``: a late exposure does not redefine its visit."""

    @property
    def buffers(self) -> bool:
        """Whether groups wait at all: for other exposures, or for the raws that matter."""
        return self.rule.buffers or self.required_detectors != 0

    def arrived(self, detectors: int) -> bool:
        """Whether an exposure of which these detectors (bit mask) were announced counts as arrived."""
        return detectors & self.required_detectors == self.required_detectors

    def complete(self, members: Iterable[Member]) -> bool:
        """Whether these are known to be all exposures of their group, arrived."""
        return self.rule.complete([m.exposure for m in members if m.arrived]) is True


class ExposureKey(NamedTuple):
    """Names one exposure."""

    instrument: str
    id: int
