"""The ObsCore table as Felis describes it, for servers that fill their TAP_SCHEMA from such a file."""

from typing import Any

import yaml

from consumer.domain.obscore import COLUMNS, Column

_DATATYPES = {
    "text": "text",
    "integer": "int",
    "bigint": "long",
    "double precision": "double",
    "timestamp": "timestamp",
}


def felis_description(schema: str, table: str) -> str:
    """Write the Felis description of the table or of a view of it.

    Parameters
    ----------
    schema, table
        Their names in the database, such as ``visits`` and ``visit_obscore_public``.

    Returns
    -------
    yaml
        That ``felis validate`` takes, and ``felis load-tap-schema``.
    """
    document = {
        "name": schema,
        "@id": f"#{schema}",
        "description": "Visits, defined as their exposures arrive",
        "tables": [
            {
                "name": table,
                "@id": f"#{table}",
                "description": "IVOA ObsCore 1.1: one row for each visit",
                "votable:utype": "ivo://ivoa.net/std/obscore#table-1.1",
                "primaryKey": [f"#{table}.instrument_name", f"#{table}.visit"],
                "columns": [_column(table, number, column) for number, column in enumerate(COLUMNS, start=1)],
            }
        ],
    }
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def _column(table: str, index: int, column: Column) -> dict[str, Any]:  # a node of YAML
    described: dict[str, Any] = {
        "name": column.name,
        "@id": f"#{table}.{column.name}",
        "datatype": _DATATYPES[column.sql_type],
        "description": column.text,
        "nullable": not column.not_null,
        "ivoa:ucd": column.ucd,
        "tap:column_index": index,
        "tap:principal": int(column.mandatory),
        "tap:std": int(bool(column.utype)),
    }
    if column.utype:
        described["votable:utype"] = f"obscore:{column.utype}"
    if column.unit:
        described["ivoa:unit"] = column.unit
    if column.sql_type == "text":
        described["votable:arraysize"] = "*"
    if column.name == "s_region":
        described["votable:xtype"] = "adql:REGION"
    return described
