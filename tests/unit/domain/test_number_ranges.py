"""Numbers as ranges."""

import pytest

from consumer.domain.number_ranges import numbers_as_ranges


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([], ""), ([7], "7"), ([3, 1, 2], "1-3"), ([44, *range(12, 41), 12], "12-40, 44"), ([1, 3], "1, 3")],
)
def test_ranges(numbers: list[int], text: str) -> None:
    assert numbers_as_ranges(numbers) == text
