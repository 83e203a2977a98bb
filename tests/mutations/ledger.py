"""Reads ``ledger.toml``: which line of which file, what it becomes, which rule that breaks, which test must fail."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_LEDGER = Path(__file__).with_name("ledger.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One entry."""

    id: str
    rule: str
    """What the line keeps, in words."""
    file: str
    """From the root of the checkout."""
    line: str
    """As it stands: exactly once in the file."""
    changed: str
    tests: tuple[str, ...]
    """Of pytest, at least one of which fails on the changed line."""

    def occurrences(self, root: Path = ROOT) -> int:
        """Return how often the line stands in its file."""
        return (root / self.file).read_text(encoding="utf-8").count(self.line)

    def apply(self, root: Path) -> None:
        """Change the line in a copy of the tree."""
        file = root / self.file
        file.write_text(file.read_text(encoding="utf-8").replace(self.line, self.changed), encoding="utf-8")


def read_ledger() -> list[Mutant]:
    """Return all entries, in the order of the file."""
    content = tomllib.loads(_LEDGER.read_text(encoding="utf-8"))
    return [Mutant(**{**entry, "tests": tuple(entry["tests"])}) for entry in content["mutant"]]
