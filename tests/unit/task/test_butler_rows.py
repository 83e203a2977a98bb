"""Visits are laid out as the reference nights are: same tables, same rows, same columns in the same order."""

import json
from operator import itemgetter
from typing import Any

import numpy as np
import pytest

from consumer.regions import decode
from consumer.task.butler_rows import visit_tables
from consumer.task.define import MemoryStore
from tests.support.define_visits import load_night, night_names
from tests.unit.task.test_define_visits import night_task

ANGLES = ("azimuth", "zenith_angle")
KEYS = {
    "visit_system": ("id",),
    "visit": ("id",),
    "visit_definition": ("visit", "exposure"),
    "visit_system_membership": ("visit", "visit_system"),
    "visit_detector_region": ("visit", "detector"),
}


def assert_row(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        if name == "region":
            assert np.abs(decode(bytes.fromhex(found[name])) - decode(bytes.fromhex(value))).max() <= 1e-12
        elif name in ANGLES and value is not None:
            assert abs((found[name] - value + 180) % 360 - 180) <= 1e-9
        else:
            assert found[name] == value, name


@pytest.mark.parametrize("name", night_names())
def test_tables_of_a_night(name: str) -> None:
    night = load_night(name)
    store = MemoryStore()
    task = night_task(night, store)
    task.run(night.exposures)
    visits = list(store.visits.values())[::-1]
    tables = visit_tables(night.config["instrument"], task.groupExposures.rule.visit_systems, visits)
    written = json.loads(json.dumps(tables, allow_nan=False))
    assert list(written) == list(night.tables)
    for table, rows in night.tables.items():
        assert len(written[table]) == len(rows) > 0
        in_order = sorted(rows, key=itemgetter(*KEYS[table]))
        for found, expected in zip(written[table], in_order, strict=True):
            assert_row(found, expected)
