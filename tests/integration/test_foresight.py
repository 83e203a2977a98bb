"""Regions that were computed ahead leave the tables that regions computed in the transaction leave."""

from dataclasses import replace
from typing import Any

from consumer.regions import RegionAlgorithm
from consumer.simulation import SimulationSettings, simulate_exposures
from tests.support.nights import START_MS, NightLog, Rows, canonical, prepare, raws_of, reader, rules_of, wipe
from tests.support.postgres import PostgresServer

CONFIG = {
    "instrument": "LSSTComCam",
    "camera": "lsstcomcam",
    "group_exposures": "one-to-one",
    "group_id": "lsst",
    "padding": 250,
    "merge_exposures": False,
}


class _Counting:
    def __init__(self, inner: RegionAlgorithm) -> None:
        self.calls = 0
        self._inner = inner

    def compute(self, exposures: Any, raws: Any) -> Any:
        self.calls += 1
        return self._inner.compute(exposures, raws)

    def __getattr__(self, name: str) -> Any:
        if name == "compute_many":
            raise AttributeError(name)
        return getattr(self._inner, name)


def _read(dsn: str, log: NightLog, *, prefetch: bool) -> tuple[Rows, int]:
    """Read a log in batches that cut through exposures; return the tables, and how often a transaction computed."""
    wipe(dsn)
    rules = rules_of(CONFIG)
    counting = _Counting(rules["LSSTComCam"].algorithm)
    in_transactions = 0
    with reader(dsn, {"LSSTComCam": replace(rules["LSSTComCam"], algorithm=counting)}) as one:
        one.claim(log.partitions)
        messages = [each for partition in log.partitions.values() for each in partition]
        for first in range(0, len(messages), 40):
            one.put(messages[first : first + 40])
            if prefetch:
                one.builder.prefetch()
            before = counting.calls
            one.write()
            in_transactions += counting.calls - before
    return canonical(dsn), in_transactions


def test_the_tables_are_the_same_and_no_transaction_computes(postgres18: PostgresServer) -> None:
    night = SimulationSettings(instrument="LSSTComCam", exposures=30, calibrations=0.1, seed=5)
    log = NightLog.of()
    for number, raw in enumerate(raws_of(simulate_exposures(night), *range(9))):
        log.append(raw, at_ms=START_MS + number)
    with postgres18.database(prepare) as dsn:
        plain, computed = _read(dsn, log, prefetch=False)
        prefetched, computed_late = _read(dsn, log, prefetch=True)
    assert computed > 20
    assert computed_late == 0
    assert prefetched == plain
