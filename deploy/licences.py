"""The licences of what the image holds, from its bill of materials: ``python -m deploy.licences build/sbom.cdx.json``.

`make sbom` makes that file. Writes `LICENCES.md`, and fails where a part has no licence that was agreed on.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

REFERENCE = Path(__file__).with_name("LICENCES.md")
AGREED = frozenset(
    {
        "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "LGPL-3.0-only", "MIT", "MIT-0",
        "MIT-CMU", "MPL-2.0", "PSF-2.0", "Python-2.0", "Zlib",
        "License :: OSI Approved :: Apache Software License",
        "License :: OSI Approved :: BSD License",
        "License :: OSI Approved :: GNU Library or Lesser General Public License (LGPL)",
        "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)",
    }
)  # fmt: skip
AGREED_FOR = {
    "hpgeom": (
        "GPL-3.0-or-later",
        "of the Butler's own packages, which offer GPL-3.0 too: in the extra `butler` alone",
    ),
}
"""Licences that one package may have, and why."""

_HEAD = """# Licences

Written by `make sbom`; do not edit.

What the image holds besides this project (BSD-3-Clause) and its base: the packages of the extras `butler`, `page` and
`sources`, and the licence that each of them states. The bill of materials with all versions is `build/sbom.cdx.json`
(CycloneDX), and part of each image that is built as [the deployment guide](README.md#the-image) says. A licence that is
not on the list in `deploy/licences.py` fails `make sbom`.

| package | licence |
|---|---|
"""


class LicenceError(Exception):
    """Packages with a licence that was not agreed on; the message names them."""


def licences(sbom: Mapping[str, Any]) -> dict[str, str]:
    """Return the licences of all parts by their names, as CycloneDX states them."""
    return {
        each["name"]: ", ".join(sorted(_stated(each)) or ["none stated"])
        for each in sorted(sbom["components"], key=lambda one: str(one["name"]).lower())
    }


def reference(found: Mapping[str, str]) -> str:
    """Return the list as Markdown.

    Raises
    ------
    LicenceError
        When one was not agreed on.
    """
    refused = [f"{name} ({licence})" for name, licence in found.items() if not _agreed(name, licence)]
    if refused:
        raise LicenceError(f"not agreed on in deploy/licences.py: {', '.join(refused)}")
    return _HEAD + "".join(
        f"| {name} | {licence}{f': {AGREED_FOR[name][1]}' if name in AGREED_FOR else ''} |\n"
        for name, licence in found.items()
    )


def _stated(component: Mapping[str, Any]) -> Iterator[str]:
    for each in component.get("licenses", []):
        if "expression" in each:
            yield each["expression"]
        else:
            yield each["license"].get("id") or each["license"]["name"]


def _agreed(name: str, licence: str) -> bool:
    """Whether one of several alternatives was agreed on; of several that hold together, all."""
    if name in AGREED_FOR and licence == AGREED_FOR[name][0]:
        return True
    return any(
        all(AGREED & {part.strip(), part.strip(" ()")} for part in choice.replace(", ", " AND ").split(" AND "))
        for choice in licence.split(" OR ")
    )


if __name__ == "__main__":
    try:
        text = reference(licences(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
    except LicenceError as error:
        sys.exit(str(error))
    REFERENCE.write_text(text, encoding="utf-8")
