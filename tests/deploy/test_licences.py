"""The list of what the image holds, and that no licence comes in unseen."""

import re
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.licences import REFERENCE, LicenceError, licences, reference

IMAGE = "visit-consumer[butler,page,sources]"


def _held(requirement: Requirement, found: dict[str, set[str]]) -> None:
    """Add what a requirement brings, with the extras by which it was asked for."""
    name = canonicalize_name(requirement.name)
    known = found.setdefault(name, set())
    extras = {"", *requirement.extras} - known
    known |= extras
    try:
        needs = distribution(name).requires or []
    except PackageNotFoundError:  # on another platform
        del found[name]
        return
    for each in map(Requirement, needs):
        if any(each.marker is None or each.marker.evaluate({"extra": extra}) for extra in extras):
            _held(each, found)


def test_the_list_names_what_the_image_holds() -> None:
    held: dict[str, set[str]] = {}
    _held(Requirement(IMAGE), held)
    listed = re.findall(r"^\| ([\w.-]+) \| (.+) \|$", REFERENCE.read_text(encoding="utf-8"), re.MULTILINE)
    names = {canonicalize_name(name) for name, _ in listed} - {"package"}
    assert names == held.keys() - {"visit-consumer"}, "run: make sbom"
    assert not [name for name, licence in listed if not licence.strip()]


def _sbom(*stated: dict[str, Any]) -> dict[str, Any]:
    return {"components": [{"name": "one", "licenses": list(stated)}]}


@pytest.mark.parametrize(
    "stated",
    [
        [{"expression": "MIT"}],
        [{"license": {"id": "BSD-3-Clause"}}, {"license": {"name": "License :: OSI Approved :: BSD License"}}],
        [{"expression": "GPL-3.0-or-later OR BSD-3-Clause"}],
        [{"expression": "(MIT AND PSF-2.0)"}],
    ],
)
def test_a_licence_that_was_agreed_on_is_listed(stated: list[dict[str, Any]]) -> None:
    assert "| one | " in reference(licences(_sbom(*stated)))


@pytest.mark.parametrize(
    "stated",
    [
        [],
        [{"expression": "AGPL-3.0-only"}],
        [{"expression": "MIT AND AGPL-3.0-only"}],
        [{"license": {"id": "MIT"}}, {"license": {"name": "proprietary"}}],
        [{"license": {"id": "GPL-3.0-or-later"}}],
    ],
)
def test_another_one_is_refused_by_its_package(stated: list[dict[str, Any]]) -> None:
    with pytest.raises(LicenceError, match="one \\("):
        reference(licences(_sbom(*stated)))
