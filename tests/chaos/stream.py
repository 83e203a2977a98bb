"""The messages of an endless night: raws out of order, doubled, corrected, some unusable, some of them missing."""

import random
from collections.abc import Iterator
from dataclasses import replace
from heapq import heappop, heappush
from typing import Any

from consumer.events import encode
from consumer.model import Exposure, RawIngested
from consumer.simulation import INSTRUMENTS as SIMULATED
from consumer.simulation import Corruption, SimulatedRaw, SimulationSettings, message_value, simulate_exposures
from tests.support.service import Wire

INSTRUMENTS: dict[str, dict[str, Any]] = {
    "LSSTCam": {"group_exposures": "one-to-one"},
    "LSSTComCam": {"group_exposures": "by-group-metadata"},
    "LATISS": {"group_exposures": "one-to-one-and-by-counter"},
}
"""Settings of the services: each rule of grouping has one."""
_EXPOSURES_PER_S = {"LSSTCam": 0.4, "LSSTComCam": 2.0, "LATISS": 2.0}
PARTITIONS = 4
"""Of the topic, when it is created."""

# Shares of exposures, and of raws
_ABSENT, _CORRECTED, _UNKNOWN_SIZE = 0.03, 0.2, 0.5
_DOUBLED, _BAD, _ELSEWHERE, _LATE = 0.1, 0.01, 0.1, 0.02
_USUAL_S, _LATE_S, _CORRECTED_S = 6.0, 60.0, 30.0
_VERSIONS = 3


class Stream:
    """Draws messages, second after second: equal seeds, equal messages. No two records of a version disagree.

    Parameters
    ----------
    seed
        Of the exposures and of all that happens to their raws.

    Attributes
    ----------
    bad
        How many of the messages are no events.
    """

    def __init__(self, seed: int) -> None:
        self.bad = 0
        self._dice = random.Random(f"stream {seed}")  # noqa: S311 - a reproducible night, no secret
        self._sources = {
            name: simulate_exposures(
                SimulationSettings(
                    instrument=name, seed=seed, exposures=10_000_000, snaps=0.4, closed_dome=0.1, calibrations=0.0
                )
            )
            for name in INSTRUMENTS
        }
        self._waiting: list[tuple[float, int, Wire]] = []
        self._pushed = 0
        self._now_s = 0.0

    def next_second(self) -> Iterator[Wire]:
        """Take some more exposures, and yield what is announced within the next second."""
        self._now_s += 1.0
        for instrument, rate in _EXPOSURES_PER_S.items():
            for _ in range(int(rate) + (self._dice.random() < rate % 1)):
                self._announce(next(self._sources[instrument]))
        while self._waiting and self._waiting[0][0] <= self._now_s:
            yield heappop(self._waiting)[2]

    def rest(self) -> Iterator[Wire]:
        """Yield what is not announced yet, and take no more exposures."""
        while self._waiting:
            yield heappop(self._waiting)[2]

    def _announce(self, exposure: Exposure) -> None:
        dice = self._dice
        if exposure.instrument == "LSSTComCam" and (exposure.seq_start or 0) % 2:
            exposure = replace(exposure, group_size=None)  # its group closes only by the clock
        if dice.random() < _ABSENT:
            return
        versions = [exposure]
        while len(versions) < _VERSIONS and dice.random() < _CORRECTED:
            versions.append(self._correct(versions[-1]))
        detectors = range(SIMULATED[exposure.instrument].detectors)
        for number, record in enumerate(versions):
            again = detectors if number == 0 else dice.sample(detectors, dice.randint(1, len(detectors)))
            for detector in again:
                raw = RawIngested(exposure=record, detector=detector)
                after_s = number * dice.uniform(0, _CORRECTED_S)
                self._push(raw, after_s)
                if dice.random() < _DOUBLED:
                    self._push(raw, after_s)
                if dice.random() < _BAD:
                    self.bad += 1
                    self._push(raw, after_s, dice.choice(list(Corruption)))

    def _correct(self, record: Exposure) -> Exposure:
        """Change what moves a region, a visit's metadata, whether there is a visit, or which exposures it has."""
        version = record.record_version + 1
        changes: list[dict[str, Any]] = [
            {"tracking_dec": (record.tracking_dec or 0.0) * 0.9},
            {"science_program": f"corrected {version}"},
            {"can_see_sky": not record.can_see_sky},
        ]
        if record.seq_num != record.seq_start:
            changes.append({"group": f"{record.group.partition('#')[0]}#{version}"})
        return replace(record, record_version=version, **self._dice.choice(changes))

    def _push(self, raw: RawIngested, after_s: float, spoilt: Corruption | None = None) -> None:
        dice = self._dice
        due_s = self._now_s + after_s + dice.uniform(0, _LATE_S if dice.random() < _LATE else _USUAL_S)
        key = f"{raw.exposure.instrument}/{raw.exposure.group}"
        value = encode(raw) if spoilt is None else message_value(SimulatedRaw(raw, key, due_s, 0, spoilt))
        partition = dice.randrange(PARTITIONS) if dice.random() < _ELSEWHERE else -1
        self._pushed += 1
        heappush(self._waiting, (due_s, self._pushed, Wire(value, key.encode(), partition)))
