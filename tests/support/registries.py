"""Fixtures: a schema registry."""

from collections.abc import Iterator

import pytest

from tests.support.registry import Registry, open_registry
from tests.support.summary import note


@pytest.fixture(scope="session")
def registry(request: pytest.FixtureRequest) -> Iterator[Registry]:
    """Apicurio where it can be had, else the tests' own stub, for the whole run."""
    with open_registry() as opened:
        note(request.config, "schema registry", f"{opened.name} {opened.version}")
        yield opened
