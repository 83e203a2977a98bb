"""Finds the Avro schemas that this package reads and writes; refuses to know what stands in them.

The schemas are a top-level folder of the repository, because other services read them. A wheel carries a copy of
that folder inside the package, as ``consumer/schemas``.
"""

from importlib.resources import files
from pathlib import Path


def schema_text(name: str) -> str:
    """Read one of the package's schemas.

    Parameters
    ----------
    name
        File name without its extension: ``raw_ingested``, ``exposure_ingested`` or ``visit_defined``.

    Raises
    ------
    FileNotFoundError
        Neither the installed package nor the checkout has such a schema.
    """
    installed = files("consumer").joinpath("schemas", f"{name}.avsc")
    if installed.is_file():
        return installed.read_text(encoding="utf-8")
    return (Path(__file__).parents[2] / "schemas" / f"{name}.avsc").read_text(encoding="utf-8")
