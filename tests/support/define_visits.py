"""Nights of exposures with every row that DefineVisitsTask made of them: ``tests/data/define_visits/*.json``."""

import json
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consumer.model import EXPOSURE_FIELDS, Exposure

DATA = Path(__file__).parents[1] / "data"
DEFINE_VISITS = DATA / "define_visits"
SHUFFLES = 20

Row = dict[str, Any]  # JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """One file: options, exposures, rows."""

    name: str
    config: Row
    exposures: tuple[Exposure, ...]
    tables: dict[str, list[Row]]


def exposure_of(row: Row) -> Exposure:
    """Make an exposure of a row with the Butler's names."""
    return Exposure(**{name: row[name] for name in EXPOSURE_FIELDS if name in row})


def load_night(name: str) -> Night:
    """Read one night by its file's stem."""
    content = json.loads((DEFINE_VISITS / f"{name}.json").read_text())
    return Night(
        name=name,
        config=content["config"],
        exposures=tuple(exposure_of(row) for row in content["exposures"]),
        tables={key: value for key, value in content.items() if isinstance(value, list) and key != "exposures"},
    )


def night_names() -> tuple[str, ...]:
    """Give the stems of all files, sorted; fails where there are none, so that no loop runs over nothing."""
    names = tuple(sorted(path.stem for path in DEFINE_VISITS.glob("*.json")))
    assert len(names) >= 7
    return names


def orders(exposures: Sequence[Exposure]) -> Iterator[list[Exposure]]:
    """Give the exposures in order, reversed, and in 20 seeded shuffles."""
    yield list(exposures)
    yield list(reversed(exposures))
    for seed in range(SHUFFLES):
        shuffled = list(exposures)
        random.Random(seed).shuffle(shuffled)  # noqa: S311  # a reproducible order, not a secret
        yield shuffled


def members_of(rows: Sequence[Row], *, key: str, value: str) -> dict[int, set[int]]:
    """Collect one column of an association table by another."""
    collected: dict[int, set[int]] = defaultdict(set)
    for row in rows:
        collected[row[key]].add(row[value])
    return dict(collected)
