"""The tables of the database, held against the rows of a file of ``tests/data/define_visits``."""

from typing import Any

import lsst.sphgeom
import numpy as np
import psycopg
import pytest
from psycopg.rows import dict_row

from tests.support.define_visits import Night, Row

REGION_TOLERANCE_RAD = 1e-12
ANGLE_TOLERANCE_DEG = 1e-9


def assert_rows_of(night: Night, dsn: str) -> None:
    """Hold every table to the night's rows: all equal, angles modulo 360, regions corner by corner within 1e-12 rad."""
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        for table in ("visit_system", "visit_definition", "visit_system_membership"):
            expected = night.tables[table]
            names = sorted(expected[0])
            rows = _read(connection, table)
            assert sorted(_values(row, names) for row in rows) == sorted(_values(row, names) for row in expected), table
        _assert_visits(night.tables["visit"], _read(connection, "visit"))
        _assert_regions(night.tables["visit_detector_region"], _read(connection, "visit_detector_region"))
        assert _read(connection, "open_group") == []
        assert _read(connection, "dead_letter") == []


def _read(connection: "psycopg.Connection[Row]", table: str) -> list[Row]:
    return connection.execute(
        psycopg.sql.SQL("SELECT * FROM visits.{}").format(psycopg.sql.Identifier(table))
    ).fetchall()


def _values(row: Row, names: list[str]) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


def _assert_visits(expected: list[Row], rows: list[Row]) -> None:
    found = {row["id"]: row for row in rows}
    assert sorted(found) == sorted(row["id"] for row in expected)
    for want in expected:
        have = found[want["id"]]
        for name, value in want.items():
            if name == "region":
                assert corner_distance(have["region"], bytes.fromhex(value)) < REGION_TOLERANCE_RAD
            elif name in {"azimuth", "zenith_angle"} and value is not None:
                assert have[name] is not None
                apart = (have[name] - value + 180) % 360 - 180
                assert apart == pytest.approx(0, abs=ANGLE_TOLERANCE_DEG), (want["id"], name)
            elif isinstance(value, float):
                assert have[name] == pytest.approx(value, rel=1e-12), (want["id"], name)
            else:
                assert have[name] == value, (want["id"], name)


def _assert_regions(expected: list[Row], rows: list[Row]) -> None:
    found = {(row["instrument"], row["visit"], row["detector"]): row["region"] for row in rows}
    wanted = {(row["instrument"], row["visit"], row["detector"]): row["region"] for row in expected}
    assert sorted(found) == sorted(wanted)
    for key, region in wanted.items():
        assert corner_distance(found[key], bytes.fromhex(region)) < REGION_TOLERANCE_RAD, key


def corner_distance(one: bytes, other: bytes) -> float:
    """Give the largest distance of corresponding corners of two encoded polygons, radians."""
    corners, others = _corners(one), _corners(other)
    assert corners.shape == others.shape
    # The same polygon may begin at another of its corners.
    shift = int(np.argmin(np.linalg.norm(corners - others[0], axis=1)))
    return float(np.linalg.norm(np.roll(corners, -shift, axis=0) - others, axis=1).max())


def _corners(encoded: bytes) -> Any:  # a float array of lsst.sphgeom's numbers
    polygon: Any = lsst.sphgeom.Region.decode(encoded)
    return np.array([[v.x(), v.y(), v.z()] for v in polygon.getVertices()])
