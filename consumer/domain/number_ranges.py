"""Numbers for people: ``12-40, 44`` in place of thirty of them."""

from collections.abc import Iterable


def numbers_as_ranges(numbers: Iterable[int]) -> str:
    """Write numbers as ranges, such as ``12-40, 44``; empty where there is none. Order and copies do not matter."""
    spans: list[list[int]] = []
    for number in sorted(set(numbers)):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in spans)
