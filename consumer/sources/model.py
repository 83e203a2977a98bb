"""Provisional."""

from collections.abc import Mapping
from typing import Any

Header = Mapping[str, Any]
