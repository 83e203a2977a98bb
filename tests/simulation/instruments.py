"""Three instruments of one detector, and exposures of theirs that contend for the ids and names of visits."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from consumer.config import ClosingSettings, InstrumentSettings
from consumer.config.resolve import resolve_instrument
from consumer.domain import Instrument
from consumer.events import encode
from consumer.model import Exposure, RawIngested, RawRegion, VisitRegions
from tests.support.exposures import exposure

_CLOSING = ClosingSettings(next_group_grace_s=3, close_after_s=10, max_open_s=25)


@dataclass(frozen=True, slots=True)
class OneRegion:
    """Gives every visit the same region: what regions are is not simulated."""

    regions: VisitRegions
    name: str = "one-region"
    padding: int = 0
    needs_headers: bool = False
    required_detectors: frozenset[int] = frozenset()

    def observe(self, raw: RawIngested) -> RawRegion | None:
        """Keep nothing."""
        del raw
        return None

    def compute(self, exposures: Sequence[Exposure], raws: Sequence[RawRegion]) -> VisitRegions:
        """Return the region."""
        del exposures, raws
        return self.regions

    def fingerprint(self, exposures: Sequence[Exposure]) -> str:
        """Return the same text always."""
        del exposures
        return "one"


def _instrument(rule: str, on_change: str) -> Instrument:
    settings = InstrumentSettings(camera=("lsstcomcam",), group_exposures=rule, on_change=on_change)  # type: ignore[arg-type] # one of two
    return resolve_instrument(settings, _CLOSING)


_BY_NAME = {
    "Grouped": _instrument("by-group-metadata", "update"),
    "Counted": _instrument("one-to-one-and-by-counter", "update"),
    "Kept": _instrument("one-to-one", "keep"),
}
_whole = _BY_NAME["Grouped"].algorithm.compute([exposure(1)], [])
_ONE = OneRegion(
    VisitRegions(
        visit=_whole.visit,
        detectors=_whole.detectors[:1],
        detector_regions=_whole.detector_regions[:1],
        htm7=_whole.htm7,
        camera_version=_whole.camera_version,
    )
)
RULES: Mapping[str, Instrument] = {name: replace(each, algorithm=_ONE) for name, each in _BY_NAME.items()}


@dataclass(slots=True)
class Exposures:
    """Draws raws: new exposures, ones that were there before, and corrections of them."""

    random: random.Random
    _made: dict[tuple[str, int, int], bytes] = field(default_factory=dict)
    names: dict[bytes, tuple[str, int]] = field(default_factory=dict)
    """Instrument and number of each value that was given."""
    _numbers: int = 4

    def draw(self) -> bytes:
        """Return a message's value."""
        draw = self.random
        self._numbers += draw.random() < 0.3
        instrument = draw.choice(list(RULES))
        number = draw.randint(max(1, self._numbers - 6), self._numbers)
        version = draw.choice((0, 0, 0, 1, 2))
        key = (instrument, number, version)
        if key not in self._made:
            value = self._made[key] = encode(RawIngested(exposure=self._exposure(*key), detector=0))
            self.names[value] = (instrument, number)
        return self._made[key]

    def _exposure(self, instrument: str, number: int, version: int) -> Exposure:
        draw = self.random
        first = number - (number - 1) % 3
        return exposure(
            number,
            instrument=instrument,
            record_version=version,
            # The digits of a group's name are the visit's id
            group=f"{draw.choice('ab')}{(number - 1) // 2 + draw.choice((0, 0, 0, 1))}",
            group_size=draw.choice((None, 2)),
            obs_id=f"x{draw.choice((number, number, number - 1, 1))}",
            seq_start=first,
            seq_end=draw.choice((first, first + 2, first + 2)),
            can_see_sky=draw.random() < 0.9,
        )
