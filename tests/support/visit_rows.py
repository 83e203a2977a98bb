"""Comparing visits as rows of JSON with those that DefineVisitsTask made."""

from collections.abc import Mapping
from operator import itemgetter
from typing import Any

import numpy as np

from consumer.regions import decode
from tests.support.define_visits import Night, Row

ANGLES = ("azimuth", "zenith_angle")
KEYS = {
    "visit_system": ("id",),
    "visit": ("id",),
    "visit_definition": ("visit", "exposure"),
    "visit_system_membership": ("visit", "visit_system"),
    "visit_detector_region": ("visit", "detector"),
}
TOLERANCE_RAD = 1e-12


def assert_row(found: Row, expected: Row) -> None:
    """Compare one row: angles modulo 360, regions corner by corner, all else exactly, the columns' order too."""
    assert list(found) == list(expected)
    for name, value in expected.items():
        if name == "region":
            difference = decode(bytes.fromhex(found[name])) - decode(bytes.fromhex(value))
            assert np.abs(difference).max() <= TOLERANCE_RAD
        elif name in ANGLES and value is not None:
            assert abs((found[name] - value + 180) % 360 - 180) <= 1e-9
        else:
            assert found[name] == value, name


def assert_tables(found: Mapping[str, Any], night: Night) -> None:
    """Compare every table of a night."""
    for table, rows in night.tables.items():
        assert len(found[table]) == len(rows) > 0
        for mine, expected in zip(found[table], sorted(rows, key=itemgetter(*KEYS[table])), strict=True):
            assert_row(mine, expected)


def options_of(night: Night) -> list[str]:
    """Give the options of ``define`` that stand for a night's configuration."""
    config = night.config
    return [
        "--instrument", config["instrument"],
        "--camera", config["camera"].removesuffix(".json"),
        "--group-exposures", config["group_exposures"],
        "--group-id", config["group_id"],
        "--padding", str(config["padding"]),
        *(["--merge-exposures"] if config["merge_exposures"] else []),
    ]  # fmt: skip
