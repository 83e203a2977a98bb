"""The check of ``bench-quick``: a drop of the ratio to the floor is what fails, and nothing else."""

from typing import Any

import pytest

from tests.benchmarks.__main__ import compare


def figures(ratio: float) -> dict[str, Any]:
    return {"throughput": {"ratio_to_floor": ratio}}


@pytest.mark.parametrize(("now", "code"), [(1.5, 0), (1.0, 0), (0.71, 0), (0.69, 1), (0.1, 1)])
def test_a_drop_by_more_than_thirty_percent_fails(now: float, code: int) -> None:
    assert compare(figures(now), figures(1.0)) == code


def test_each_ratio_that_was_committed_is_compared() -> None:
    before = {"throughput": {"ratio_to_floor": 1.0, "ratio_to_ceiling": 0.2, "exposures_ratio_to_raws": 1.5}}
    assert compare(before, before) == 0
    for name in before["throughput"]:
        slow = {"throughput": before["throughput"] | {name: 0.5 * before["throughput"][name]}}
        assert compare(slow, before) == 1


def test_without_committed_figures_there_is_nothing_to_pass() -> None:
    assert compare(figures(1.0), {}) == 1
