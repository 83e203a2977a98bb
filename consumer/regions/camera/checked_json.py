"""Typed access to a parsed JSON object; every complaint names the file and the key."""

import math
from dataclasses import dataclass

from consumer.errors import CameraError

_MAX_INTEGER = 2**31
"""Detector ids are PostgreSQL integers."""


@dataclass(frozen=True, slots=True)
class Checked:
    """One JSON object, the file that it stands in, and where."""

    value: object
    source: str
    path: str = ""

    def error(self, key: str, problem: str) -> CameraError:
        """Make an error that names the file and the key."""
        return CameraError(f"camera file {self.source}: {self._name(key)} {problem}")

    def has(self, key: str) -> bool:
        """Whether the key is there and not null."""
        return self.members().get(key) is not None

    def refuse_unknown(self, *known: str) -> None:
        """Raise for keys that nobody would read: a misspelt optional key must not pass."""
        for key in self.members():
            if key not in known:
                raise self.error(key, f"is no known key; known are {', '.join(known)}")

    def text(self, key: str, default: str | None = None) -> str:
        """Return a text that is not empty."""
        value = self._get(key, default)
        if not isinstance(value, str) or not value.strip():
            raise self.error(key, f"needs a text, got {value!r}")
        return value

    def boolean(self, key: str) -> bool:
        """Return true or false."""
        value = self._get(key)
        if not isinstance(value, bool):
            raise self.error(key, f"needs true or false, got {value!r}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """Return a finite number."""
        return self._finite(key, self._get(key, default))

    def index(self, key: str) -> int:
        """Return an integer from 0 up."""
        value = self._get(key)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MAX_INTEGER:
            raise self.error(key, f"needs an integer from 0 to {_MAX_INTEGER - 1}, got {value!r}")
        return value

    def numbers(self, key: str) -> tuple[float, ...]:
        """Return finite numbers, as many as there are."""
        return tuple(self._finite(key, v) for v in self._list(key))

    def pair(self, key: str) -> tuple[float, float]:
        """Return two finite numbers."""
        return self._pair(key, self._get(key))

    def pairs(self, key: str, count: int) -> tuple[tuple[float, float], ...]:
        """Return so many pairs of finite numbers."""
        items = self._list(key)
        if len(items) != count:
            raise self.error(key, f"needs {count} pairs of numbers, got {items!r}")
        return tuple(self._pair(key, item) for item in items)

    def child(self, key: str) -> "Checked":
        """Return the object under a key."""
        return Checked(self._get(key), self.source, self._name(key))

    def mapping(self, key: str) -> dict[str, "Checked"]:
        """Return the objects of an object, by key."""
        value = self.child(key).members()
        return {k: Checked(v, self.source, f"{self._name(key)}.{k}") for k, v in value.items()}

    def sequence(self, key: str) -> list["Checked"]:
        """Return the objects of a list."""
        return [Checked(v, self.source, f"{self._name(key)}[{i}]") for i, v in enumerate(self._list(key))]

    def _name(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def members(self) -> dict[str, object]:
        """Return the object's values by key."""
        if not isinstance(self.value, dict):
            raise CameraError(
                f"camera file {self.source}: {self.path or 'the file'} needs an object, got a {self._kind()}"
            )
        return self.value

    def _kind(self) -> str:
        return type(self.value).__name__

    def _get(self, key: str, default: object = None) -> object:
        value = self.members().get(key, default)
        if value is None:
            raise self.error(key, "is missing")
        return value

    def _list(self, key: str) -> list[object]:
        value = self._get(key)
        if not isinstance(value, list):
            raise self.error(key, f"needs a list, got {value!r}")
        return value

    def _finite(self, key: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.error(key, f"needs a finite number, got {value!r}")
        return float(value)

    def _pair(self, key: str, value: object) -> tuple[float, float]:
        if not isinstance(value, list) or len(value) != 2:  # noqa: PLR2004 - a pair
            raise self.error(key, f"needs two numbers, got {value!r}")
        return (self._finite(key, value[0]), self._finite(key, value[1]))
