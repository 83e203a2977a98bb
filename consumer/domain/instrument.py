"""How the exposures of one instrument become visits."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from consumer.domain.closing import ClosingPolicy
from consumer.domain.open_groups import Member
from consumer.domain.record_merge import ExpectedDetectors
from consumer.grouping import GroupingRule
from consumer.model import Exposure, GroupKey
from consumer.regions import RegionAlgorithm


class ExposureKey(NamedTuple):
    """Names one exposure."""

    instrument: str
    id: int


class KnownExposure(NamedTuple):
    """One exposure as it is stored: its record, its group, and which detectors were announced (bit mask)."""

    record: Exposure
    group: GroupKey
    detectors: int
    announced: bool = False
    """Whether an event announced it; before migration 8 this was not noted, and an event always brought a detector."""
    expected: ExpectedDetectors | None = None

    @property
    def key(self) -> ExposureKey:
        """Name of the exposure."""
        return ExposureKey(self.record.instrument, self.record.id)

    @property
    def processed(self) -> bool:
        """Whether an event of it was processed; of an exposure that `define` alone has stored none was."""
        return self.announced or self.detectors != 0


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

    def arrived(self, known: KnownExposure) -> bool:
        """Whether an exposure counts as arrived: it was announced, and so were the raws that its regions need."""
        if self.algorithm.needs_headers and known.announced and not known.detectors:
            return False  # an event of the exposure alone brings no header
        return known.detectors & self.required_detectors == self.required_detectors

    def complete(self, members: Iterable[Member]) -> bool:
        """Whether these are known to be all exposures of their group, arrived."""
        return self.rule.complete([m.exposure for m in members if m.arrived]) is True
